"""What a run leaves behind: its files, and the summary on the terminal."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation import Comparison, evaluate, prepare, summary, write
from tests.support.evaluations import FILES, GREEN, RED, pipeline_over, png, put


async def test_a_test_of_broken_images_alone_is_still_a_run(tmp_path: Path) -> None:
    put(tmp_path / "test", {"red/broken.png": b"?"})
    run = await evaluate(pipeline_over(), tmp_path / "test")
    assert run.seconds_per_image is None
    before = os.umask(0o022)
    write(run, tmp_path / "out", lambda image_id: None)
    os.umask(before)
    # Pictures and their texts are in them.
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "out").iterdir()}
    assert ((tmp_path / "out").stat().st_mode & 0o777, modes) == (0o700, {0o600})
    assert json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["accuracy"] == 0


async def test_the_files_hold_every_field_and_agree_with_each_other(tmp_path: Path) -> None:
    put(tmp_path / "test", {**FILES, "red/broken.png": b"?"})
    run = await evaluate(
        pipeline_over(), tmp_path / "test", ran_with={"versions": {"pagesight": "0.1.0"}}
    )
    out = tmp_path / "new" / "out"
    write(run, out, lambda image_id: None)
    assert sorted(file.name for file in out.iterdir()) == [
        "metrics.json",
        "predictions.jsonl",
        "report.html",
    ]

    def no_constants(text: str) -> float:
        raise AssertionError(f"{text} in metrics.json")

    metrics = json.loads(
        (out / "metrics.json").read_text("utf-8"),
        parse_constant=no_constants,
    )
    assert list(metrics) == [
        "n",
        "micro_f1",
        "macro_f1",
        "accuracy",
        "per_class",
        "confusion",
        "open_set",
        "outputs",
        "drift",
        "seconds_per_image",
        "ran_with",
    ]
    for figures in metrics["per_class"].values():
        assert list(figures) == ["precision", "recall", "f1", "support", "tp", "fp", "fn", "tn"]
        assert all(type(figures[name]) is float for name in ("precision", "recall", "f1"))
    assert list(metrics["confusion"]) == ["labels", "matrix"]
    assert list(metrics["open_set"]) == [
        "auroc",
        "fpr_at_95tpr",
        "false_rejection_rate",
        "overall_accuracy",
        "kinds",
    ]
    assert list(metrics["open_set"]["kinds"]["other_red"]) == ["n", "rejected", "auroc"]
    assert metrics["ran_with"] == {
        "versions": {"pagesight": "0.1.0"},
        "gallery": "default",
        "revision": 4,
        "labels": 3,
        "pictures": 3,
        "method": "pagesight",
        "epsilon": 0.05,
        "calibrated_by": "gallery",
        "own_rejected": 0.0,
        "bundles": {"encoder": "encoder-1", "ocr": "ocr-1"},
        "ocr": True,
        "concurrency": 1,
        "timed_alone": 7,
        "seed": 0,
    }
    lines = (out / "predictions.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    assert [row["path"] for row in rows if "error" in row] == ["red/broken.png"]
    assert all((row["label"] != "other") == (row["score"] >= row["threshold"]) for row in rows)
    known = [row for row in rows if not re.fullmatch("other(_.*)?", row["truth"])]
    assert metrics["n"] == len(known) == 6
    assert metrics["micro_f1"] == sum(r["truth"] == r["closed_label"] for r in known) / 6


async def test_writing_again_replaces_the_files_and_leaves_others_alone(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path / "test", FILES))
    out = put(tmp_path / "out", {"metrics.json": b"old", "notes.txt": b"mine"})
    write(run, out, lambda image_id: None)
    assert json.loads((out / "metrics.json").read_text("utf-8"))["n"] == 5
    assert (out / "notes.txt").read_bytes() == b"mine"


async def test_a_run_without_a_comparison_leaves_none_of_an_earlier_run(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path / "test", FILES))
    out = tmp_path / "out"
    comparison = Comparison(epsilon=0.05, known=5, unknown={}, rows=())
    write(run, out, lambda image_id: None, comparison)
    (out / "compare.txt").write_bytes(b"mine")
    assert {"compare.json", "compare.md"} < {file.name for file in out.iterdir()}
    write(run, out, lambda image_id: None)
    assert {file.name for file in out.iterdir()} == {
        "metrics.json",
        "predictions.jsonl",
        "report.html",
        "compare.txt",
    }


async def test_a_file_name_that_is_no_utf8_does_not_stop_the_report(tmp_path: Path) -> None:
    name = b"red/\xff.png".decode("utf-8", "surrogateescape")
    run = await evaluate(pipeline_over(), put(tmp_path / "test", {name: png(RED)}))
    write(run, tmp_path / "out", lambda image_id: None)
    line = (tmp_path / "out" / "predictions.jsonl").read_text("utf-8")
    assert json.loads(line)["path"] == name


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path / "test", FILES))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="name another folder with --out"):
        write(run, tmp_path / "file", lambda image_id: None)


def test_a_place_that_can_be_written_is_made_and_left_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    prepare(out)
    assert list(out.iterdir()) == []
    (out / "metrics.json").write_bytes(b"old")
    prepare(out)
    assert [file.read_bytes() for file in out.iterdir()] == [b"old"]


async def test_the_summary_shows_figures_kinds_worst_classes_and_warnings(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, {**FILES, "[bold]x/1.png": png(GREEN)}))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary(run))
    text = console.export_text()
    # Four of the six known images are right; [bold]x and a green one are not.
    assert re.search(r"micro F1, whatever the threshold\W+0\.6667", text)
    assert re.search(r"other_red\W+1\W+0 \(0\.0%\)", text)
    assert re.search(r"\[bold\]x\W+0\.0000", text)
    assert "warning: the gallery has no pictures of [bold]x" in text
