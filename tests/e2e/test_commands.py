"""The commands as a user types them, against real bundles and a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from pagesight import Client, EnrolItem
from tests.e2e.conftest import BIN, ROOT, Served
from tests.samples import draw, draw_other


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
    )


@pytest.fixture
def unknown(tmp_path: Path) -> Path:
    path = tmp_path / "unknown.png"
    draw_other("other_unrelated", seed=1, width=720).save(path)
    return path


def test_classify_prints_a_known_page_and_other_as_json_lines(
    served: Served, unknown: Path
) -> None:
    known = served.screenshots["zsyh_setting"]
    ran = run("pagesight", "classify", known, unknown, "--json", "--address", served.address)
    assert ran.returncode == 0, ran.stderr
    answers = {Path(row["file"]).name: row for row in map(json.loads, ran.stdout.splitlines())}
    assert answers[known.name]["label"] == "zsyh_setting"
    assert answers[unknown.name]["label"] == "other"


def test_one_broken_picture_fails_alone_and_sets_the_exit_code(
    served: Served, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    known = served.screenshots["zsyh_setting"]
    ran = run("pagesight", "classify", known, broken, "--json", "--address", served.address)
    assert ran.returncode == 1
    assert len(ran.stdout.splitlines()) == 2


def test_evaluate_answers_what_classify_answers_and_writes_every_file(
    served: Served, unknown: Path, tmp_path: Path
) -> None:
    test = tmp_path / "test"
    for label, path in served.screenshots.items():
        (test / label).mkdir(parents=True)
        shutil.copy(path, test / label / path.name)
    (test / "other_unrelated").mkdir()
    shutil.copy(unknown, test / "other_unrelated" / unknown.name)
    out = tmp_path / "report"
    ran = run("pagesight-server", "evaluate", test, "--store", served.store, "--out", out)
    assert ran.returncode == 0, ran.stderr
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["n"] == 2
    assert metrics["open_set"]["kinds"].keys() == {"other_unrelated"}
    ran_with = metrics["ran_with"]
    assert ran_with["method"] == "pagesight"
    assert {name: ran_with[name] for name in ("device", "reading", "fixed_shapes")} == {
        "device": "cpu",
        "reading": "cascade",
        "fixed_shapes": False,
    }
    assert ran_with["resized_by"].startswith("OpenCV ")
    assert "<svg" in (out / "report.html").read_text("utf-8")
    rows = [json.loads(row) for row in (out / "predictions.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 3
    with Client(served.address) as client:
        for row in rows:
            answer = client.classify(test / row["path"])
            assert (answer.label, answer.closest_label) == (row["label"], row["closed_label"])
            assert answer.score == pytest.approx(row["score"], abs=1e-5)


def test_compare_and_validation_use_what_was_read_once(
    served: Served, unknown: Path, tmp_path: Path
) -> None:
    test = tmp_path / "test"
    for label, path in served.screenshots.items():
        (test / label).mkdir(parents=True)
        shutil.copy(path, test / label / path.name)
    (test / "other").mkdir()
    shutil.copy(unknown, test / "other" / unknown.name)
    features, out = tmp_path / "features.jsonl", tmp_path / "report"
    common = ["--store", served.store, "--features", features]
    ran = run("pagesight-server", "evaluate", test, "--out", out, "--compare", *common)
    assert ran.returncode == 0, ran.stderr
    compared = json.loads((out / "compare.json").read_text("utf-8"))
    names = [row["name"] for row in compared["rows"]]
    assert {"pagesight", "without OCR", "seed", "top-1 cosine", "diffusion: score"} <= set(names)
    assert (out / "compare.md").read_text("utf-8").startswith("| method | micro F1 |")
    assert 'id="comparison"' in (out / "report.html").read_text("utf-8")
    assert len(features.read_text("utf-8").splitlines()) == 3
    ran = run("pagesight-server", "calibrate", "--validation", test, *common)
    assert ran.returncode == 1
    assert "2 usable pictures of known pages, but 19 are needed" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert len(features.read_text("utf-8").splitlines()) == 3
    # One network reads instead of two: those texts are not these.
    config = tmp_path / "pagesight.toml"
    config.write_text('[compute]\nreading = "full"\n', "utf-8")
    ran = run("pagesight-server", "evaluate", test, "--out", out, "--config", config, *common)
    assert ran.returncode == 0, ran.stderr
    assert "all 3 entries" in ran.stderr
    assert "images are read anew" in ran.stderr
    assert len(features.read_text("utf-8").splitlines()) == 6


def test_a_page_enrolled_while_the_server_runs_is_known_to_the_next_query(
    served: Served, tmp_path: Path
) -> None:
    pictures = []
    for seed in range(3):
        pictures.append(tmp_path / f"{seed}.png")
        draw("ppd_amount", seed=seed, width=720).save(pictures[-1])
    with Client(served.address) as client:
        assert client.classify(pictures[2]).label != "ppd_amount"
        before = client.enrol([EnrolItem(image=p, label="ppd_amount") for p in pictures[:2]])
        assert client.classify(pictures[2]).closest_label == "ppd_amount"
        rolled_back = client.rollback(before.revision - 1)
        assert client.classify(pictures[2]).closest_label != "ppd_amount"
        assert rolled_back.revision == before.revision + 1


def test_doctor_names_the_bundles_and_the_gallery(served: Served) -> None:
    ran = run("pagesight-server", "doctor", "--store", served.store, "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["encoder"].startswith("builtin@")
    assert "2 labels" in found["gallery default"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["serve", "--bundles", "nowhere"], "pagesight-export encoder --builtin"),
        pytest.param(["index", "nowhere"], "nowhere is not a folder"),
        pytest.param(
            ["evaluate", "x", "--out", "y", "--store", "none.db"], "pagesight-server index"
        ),
        pytest.param(["serve", "--config", "none.toml"], "no configuration file none.toml"),
    ],
)
def test_what_cannot_run_says_so_in_one_line(arguments: list[str], told: str) -> None:
    ran = run("pagesight-server", *arguments)
    assert ran.returncode == 1
    assert told in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
