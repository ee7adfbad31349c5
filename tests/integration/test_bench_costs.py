"""`make bench` and `make bench-ocr` go their way: drawn pages, built-in bundles, one round."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import bench_ocr, bench_runtime
from tests.bench.stages import STAGES
from tests.samples import write_dataset

LABELS = ("dxm_user_info", "zsyh_amount")


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gallery and a test set of four pages, 360 pixels wide."""
    folder = tmp_path_factory.mktemp("screens")
    write_dataset(folder, labels=LABELS, gallery=2, test=2, other=0, width=360)
    return folder


@pytest.mark.heavy
def test_every_reader_reads_the_same_screenshots(
    screens: Path,
    bundles: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "faster_paddle", None)
    out = tmp_path / "bench" / "ocr.json"
    bench_ocr.main(
        ["--screens", str(screens / "test"), "--count", "2", "--bundles", str(bundles),
         "--against", str(bundles / "ocr"), "--out", str(out)]
    )  # fmt: skip
    rows = {(row["side"], row["caches"]): row for row in json.loads(out.read_text("utf-8"))}
    manifest = json.loads((bundles / "ocr" / "manifest.json").read_text("utf-8"))
    modes = ["full", "cascade"] if "draft" in manifest["input"] else ["full"]
    default = f"ours, {modes[-1]}"
    assert list(rows) == [
        ("rapidocr", "none"),
        ("rapidocr, no classifier", "none"),
        *((f"ours, {mode}", "cold") for mode in modes),
        (default, "every line seen"),
        (f"{default}, 8 at a time", "cold"),
        (f"{default}, {manifest['id']}", "cold"),
    ]
    for row in rows.values():
        assert row["screenshots"] == 2
        assert row["cpu_s_median"] > 0
        assert row["lines_per_image"] > 5
        assert "one thread a side" in row["conditions"]
        assert "cores" in row["machine"]
    for mode in modes:
        shares = rows[f"ours, {mode}", "cold"]["share_of_stages"]
        assert sum(shares.values()) == pytest.approx(1.0, abs=0.001)
        assert shares["recognition network"] > 0
    assert rows[f"{default}, {manifest['id']}", "cold"]["pages_that_differ"] == 0
    assert rows["rapidocr, no classifier", "none"]["cer_percent_without_classifier"] == 0
    captured = capsys.readouterr()
    assert "pip install faster-paddle==" in captured.err
    assert "where the time of ours, full goes" in captured.out


@pytest.mark.heavy
def test_the_stages_of_a_screenshot_share_its_cpu_time(
    screens: Path, bundles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_runtime.main(
        ["--screens", str(screens), "--no-generated", "--bundles", str(bundles),
         "--out", str(tmp_path), "--rounds", "1", "--each", "3", "--alone", "0",
         "--arrivals", "0", "--messages", "40"]
    )  # fmt: skip
    rows = json.loads((tmp_path / "runtime.json").read_text("utf-8"))
    stages = {row["stage"]: row for row in rows if row["table"] == "stages"}
    assert list(stages) == list(STAGES)
    assert all(stages[stage]["cpu_ms"] > 0 for stage in STAGES if stage != "other")
    shares = [row["share_percent"] for row in stages.values()]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    pipeline, edge = (
        next(row for row in rows if row["table"] == table and row.get("side", side) == side)
        for table, side in (("cost", "pipeline"), ("streaming", ""))
    )
    total_ms = 1000 * pipeline["cpu_s"] + edge["server_cpu_ms"]
    assert sum(row["cpu_ms"] for row in stages.values()) == pytest.approx(total_ms, abs=0.2)
    printed = " ".join(capsys.readouterr().out.split())  # where it wraps depends on the terminal
    assert f"vectors {stages['encode']['conditions']['vectors']}, cores" in printed
