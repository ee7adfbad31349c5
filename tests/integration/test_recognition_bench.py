"""The short version of `make bench-recognition`: drawn pages, built-in bundles, the one rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_recognition
from tests.bench.recognition.methods import OURS, PUBLISHED
from tests.bench.recognition.sets import Drawing
from tests.bench.recognition.tables import LAST_RELEASE
from tests.samples.catalog import DEMO_LABELS

DRAWING = Drawing(seed=1, gallery=3, test=2, other=1, labels=DEMO_LABELS)

FEATURES = Path("bench/features/drawn.jsonl")


@pytest.mark.heavy
def test_on_a_small_drawn_set_ours_is_no_worse_than_the_published_method(
    bundles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = DRAWING.draw(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = [f"drawn={folder}", "--without-brands", "--bundles", str(bundles)]
    assert bench_recognition.main(command) == 0
    first = json.loads(Path("bench/recognition.json").read_text("utf-8"))
    assert [of_set["name"] for of_set in first["sets"]] == ["drawn", "drawn, no brands"]
    for of_set in first["sets"]:
        assert (of_set["labels"], of_set["pictures"], of_set["unreadable"]) == (6, 18, 0)
        rule = of_set["rule"]
        assert rule["micro_f1"] >= rule["published_micro_f1"], of_set["name"]
        assert rule["false_rejection"] <= rule["published_false_rejection"], of_set["name"]
        assert {split["kind"] for split in of_set["splits"]} == {"version newer", "version same"}
    assert LAST_RELEASE not in capsys.readouterr().out

    # A second run takes the features of the first, and answers alike.
    kept = FEATURES.read_bytes()
    assert kept.count(b"\n") == 18 + 2 * 6 + 4
    Path("bench/recognition.json").rename("before.json")
    assert bench_recognition.main([*command, "--against", "before.json", "--curve"]) == 0
    assert FEATURES.read_bytes() == kept
    again = json.loads(Path("bench/recognition.json").read_text("utf-8"))
    assert [of_set["rule"] for of_set in again["sets"]] == [s["rule"] for s in first["sets"]]
    assert {point["method"] for point in again["curve"]} == {OURS, PUBLISHED}
    assert f"| drawn | {LAST_RELEASE} |" in capsys.readouterr().out


def test_a_folder_that_is_no_set_is_an_error_in_one_line(
    bundles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench_recognition.main([str(tmp_path), "--bundles", str(bundles)]) == 1
    error = capsys.readouterr().err
    assert "bench-recognition: " in error
    assert f"{tmp_path / 'gallery'} is not a folder" in error
