"""Test folders through a pipeline whose stages are trivial: a picture's colour is its page."""

import asyncio
import hashlib
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.errors import InvalidRequestError, NotFoundError, SetupError
from pagesight_server.evaluation import Comparison, Outcome, Run, evaluate, prepare, summary, write
from pagesight_server.gallery.snapshot import Picture, Snapshot
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Box, Reading, TextLine
from pagesight_server.workflows.pipeline import Pipeline

RED, GREEN, BLUE, GREY = (220, 10, 10), (10, 220, 10), (10, 10, 220), (128, 128, 128)
COLOURS = {"red": RED, "green": GREEN, "蓝色": BLUE}


def png(colour: tuple[int, int, int], size: tuple[int, int] = (32, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def embed(pixels: Pixels) -> Embedding:
    mean = pixels.mean(axis=(0, 1), dtype=np.float32)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)


def read_words(pixels: Pixels) -> Reading:
    """Every picture says the same, but for its strongest colour."""
    height_px, width_px = pixels.shape[:2]
    strongest = ["red", "green", "blue"][int(pixels[0, 0].argmax())]
    lines = (TextLine(f"the {strongest} page", 0.9, Box(0, 0, 30, 9)),)
    return Reading(width_px=width_px, height_px=height_px, lines=lines)


def fake_decode(data: bytes) -> Pixels:
    return decode(data, ImageLimits())


def picture(label: str, data: bytes) -> Picture:
    return Picture(
        image_id=hashlib.sha256(data).hexdigest(),
        label=label,
        source="",
        author="",
        added_at_ms=0,
        added_revision=1,
        reading=read_words(fake_decode(data)),
    )


def knowledge_of(pictures: dict[str, bytes], *, threshold: float = 0.9) -> Knowledge:
    snapshot = Snapshot(
        gallery="default",
        revision=4,
        encoder_bundle="encoder-1",
        ocr_bundle="ocr-1",
        pictures=tuple(picture(label, data) for label, data in sorted(pictures.items())),
        embeddings=np.stack([embed(fake_decode(data)) for _, data in sorted(pictures.items())])
        if pictures
        else np.empty((0, 3), np.float32),
        facts={},
    )
    calibration = Calibration(
        epsilon=0.05,
        pictures=100,
        guaranteed=True,
        threshold_with_text=threshold,
        threshold_without_text=threshold,
    )
    return Knowledge.of(snapshot, calibration=calibration)


GALLERY = knowledge_of({label: png(colour) for label, colour in COLOURS.items()})


def pipeline_over(
    knowledge: Knowledge = GALLERY, *, seen: Callable[[bytes], None] = lambda data: None
) -> Pipeline:
    def look_up(name: str) -> Knowledge:
        if name != "default":
            raise NotFoundError(f"there is no gallery {name!r}")
        return knowledge

    def watch(data: bytes) -> Pixels:
        seen(data)
        return fake_decode(data)

    async def encode(pixels: Pixels) -> Embedding:
        return embed(pixels)

    async def read(pixels: Pixels) -> Reading:
        return read_words(pixels)

    return Pipeline(decode=watch, encode=encode, read=read, knowledge=look_up)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


FILES = {
    "red/1.png": png(RED, (40, 80)),
    "red/2.PNG": png((200, 40, 30)),
    "green/1.png": png(GREEN, (40, 80)),
    "green/taken for red.png": png((200, 60, 20)),
    "蓝色/1.png": png(BLUE, (40, 80)),
    "other/grey.png": png(GREY),
    "other_red/brick.png": png((210, 30, 30)),
}


def by_picture(run: Run, folder: Path) -> dict[str, tuple[str, float, str, float]]:
    """Answers by the pictures' bytes, whatever their folders are called."""
    answers = {}
    for p in run.predictions:
        key = hashlib.sha256((folder / p.path).read_bytes()).hexdigest()
        answers[key] = (p.closed_label, p.score, p.label, p.threshold)
    return answers


async def test_every_image_is_answered_and_measured(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, FILES))
    assert [(p.path, p.truth, p.closed_label, p.label) for p in run.predictions] == [
        ("green/1.png", "green", "green", "green"),
        ("green/taken for red.png", "green", "red", "red"),
        # Grey is equally far from all three colours.
        ("other/grey.png", "other", run.predictions[2].closed_label, "other"),
        ("other_red/brick.png", "other_red", "red", "red"),
        ("red/1.png", "red", "red", "red"),
        ("red/2.PNG", "red", "red", "red"),
        ("蓝色/1.png", "蓝色", "蓝色", "蓝色"),
    ]
    assert run.metrics.n == 5
    assert run.metrics.accuracy == 4 / 5
    assert run.metrics.open_set.overall_accuracy == 5 / 7
    assert {name: k.rejected for name, k in run.metrics.open_set.kinds.items()} == {
        "other": 1,
        "other_red": 0,
    }
    assert run.seconds_per_image is not None
    assert run.seconds_per_image > 0


async def test_shuffling_splitting_or_renaming_the_folders_changes_no_answer(
    tmp_path: Path,
) -> None:
    plain = put(tmp_path / "plain", FILES)
    renamed = put(
        tmp_path / "renamed",
        {
            f"{new}/{n}.png": data
            for n, (new, data) in enumerate(
                zip(
                    ["green", "other", "split", "split", "other_x", "red", "蓝色"],
                    FILES.values(),
                    strict=True,
                )
            )
        },
    )
    expected = by_picture(await evaluate(pipeline_over(), plain), plain)
    for seed in (1, 2):
        run = await evaluate(pipeline_over(), plain, seed=seed, concurrency=3)
        assert by_picture(run, plain) == expected
    assert by_picture(await evaluate(pipeline_over(), renamed), renamed) == expected
    alone: dict[str, tuple[str, float, str, float]] = {}
    for name, data in FILES.items():
        folder = put(tmp_path / "alone" / hashlib.sha256(data).hexdigest(), {name: data})
        alone |= by_picture(await evaluate(pipeline_over(), folder), folder)
    assert alone == expected


async def test_classify_answers_the_same_as_evaluate(tmp_path: Path) -> None:
    pipeline = pipeline_over()
    run = await evaluate(pipeline, put(tmp_path, FILES))
    for p in run.predictions:
        decision = (await pipeline.classify(FILES[p.path])).decision
        assert (decision.label, decision.score) == (p.label, p.score)


async def test_the_first_images_are_timed_alone_and_the_rest_processed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.evaluation.run.TIMED_ALONE", 2)
    put(tmp_path, {f"red/{n}.png": png((200, n, 0)) for n in range(5)})
    done: list[int] = [0]
    done_at_start: list[int] = []
    together = asyncio.Barrier(3)

    async def read(pixels: Pixels) -> Reading:
        done_at_start.append(done[-1])
        if len(done_at_start) > 2:
            await together.wait()
        return read_words(pixels)

    run = await evaluate(
        replace(pipeline_over(), read=read),
        tmp_path,
        concurrency=3,
        progress=lambda count, _total: done.append(count),
    )
    # The last three meet at the barrier: none is done before all have begun.
    assert done_at_start == [0, 1, 2, 2, 2]
    assert done == [0, 1, 2, 3, 4, 5]
    assert run.timed_alone == run.ran_with["timed_alone"] == 2
    assert run.seconds_per_image is not None


async def test_the_order_is_random_and_repeatable(tmp_path: Path) -> None:
    put(tmp_path, {f"red/{n:02}.png": png((200, n, 0)) for n in range(12)})

    async def order(seed: int) -> list[bytes]:
        sent: list[bytes] = []
        await evaluate(pipeline_over(seen=sent.append), tmp_path, seed=seed)
        return sent

    first = await order(1)
    assert first == await order(1)
    assert first != await order(2)
    assert sorted(first) == sorted(await order(2))


async def test_without_ocr_no_text_is_read(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, FILES), ocr=False)
    taken = next(o for o in run.outcomes if o.prediction.path == "green/taken for red.png")
    assert any("text was not read" in reason for reason in taken.explanation.reasons)
    assert run.ran_with["ocr"] is False


async def test_only_wrong_answers_and_the_nearest_to_being_wrong_carry_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.evaluation.run.MAX_DOUBTFUL", 2)
    run = await evaluate(pipeline_over(), put(tmp_path, FILES))
    wrong = {"green/taken for red.png", "other_red/brick.png"}
    right = [p for p in run.predictions if p.path not in wrong]
    right.sort(key=lambda p: abs(p.score - p.threshold))
    assert {o.prediction.path for o in run.outcomes if o.doubtful} == {p.path for p in right[:2]}
    explained = {o.prediction.path for o in run.outcomes if o.explanation.reasons}
    assert explained == wrong | {p.path for p in right[:2]}
    for outcome in run.outcomes:
        assert bool(outcome.explanation.findings) == bool(outcome.explanation.reasons)


async def test_the_picture_that_spoke_for_the_answer_is_named(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, FILES))
    taken: Outcome = run.outcomes[1]
    assert taken.picture_id == hashlib.sha256(png(RED)).hexdigest()


async def test_unreadable_images_are_listed_and_count_as_wrong(tmp_path: Path) -> None:
    put(tmp_path, {**FILES, "red/broken.jpg": b"no picture", "other/empty.webp": b""})
    run = await evaluate(pipeline_over(), tmp_path)
    assert [p.path for p in run.unreadable] == ["other/empty.webp", "red/broken.jpg"]
    assert "no JPEG, PNG or WebP" in run.unreadable[1].error
    assert run.metrics.n == 6
    assert run.metrics.accuracy == 4 / 6
    assert run.metrics.open_set.kinds["other"].rejected == 1
    assert run.metrics.open_set.overall_accuracy == 5 / 9
    assert any("2 of 9 images could not be read" in warning for warning in run.warnings)


async def test_a_file_over_the_limit_is_unreadable_and_never_read(tmp_path: Path) -> None:
    put(tmp_path, {"red/1.png": png(RED), "red/huge.png": b"x" * 5000})
    seen: list[bytes] = []
    run = await evaluate(
        pipeline_over(seen=seen.append), tmp_path, limits=ImageLimits(max_bytes=4999)
    )
    assert [p.path for p in run.unreadable] == ["red/huge.png"]
    assert "the limit is 4,999" in run.unreadable[0].error
    assert seen == [png(RED)]


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


async def test_a_page_that_the_gallery_lacks_is_wrong_and_warned_of(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, {"crimson/1.png": png(RED, (40, 80))}))
    assert run.metrics.per_class["crimson"].fn == 1
    assert "the gallery has no pictures of crimson" in run.warnings[0]


async def test_more_false_rejections_than_promised_are_warned_of(tmp_path: Path) -> None:
    strict = knowledge_of({"red": png(RED), "green": png(GREEN)}, threshold=0.99999)
    files = {f"red/{n}.png": png((200, 60, n)) for n in range(10)}
    run = await evaluate(pipeline_over(strict), put(tmp_path, files))
    assert run.metrics.open_set.false_rejection_rate == 1
    assert any(
        "100.0% of known pages were rejected, significantly more than the target of 5%" in w
        for w in run.warnings
    )


async def test_other_files_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "red/1.png": png(RED),
            "red/notes.txt": b"x",
            "red/._1.png": b"x",
            "red/deeper/2.png": png(RED),
            ".cache/3.png": png(RED),
            "labels.toml": b"",
            "top.png": png(RED),
        },
    )
    run = await evaluate(pipeline_over(), tmp_path)
    assert [p.path for p in run.predictions] == ["red/1.png"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda folder: folder / "missing", "is not a folder", id="missing"),
        pytest.param(lambda folder: folder, "holds no pictures", id="empty"),
        pytest.param(
            lambda folder: put(folder, {"1.png": png(RED)}),
            "one folder per label",
            id="pictures without labels",
        ),
        pytest.param(
            lambda folder: put(folder, {"red/readme.txt": b""}),
            "holds no pictures",
            id="labels without pictures",
        ),
    ],
)
async def test_a_folder_without_tests_is_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        await evaluate(pipeline_over(), prepare(tmp_path))
    assert "\n" not in str(caught.value)


async def test_a_folder_whose_name_cannot_be_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be a label"):
        await evaluate(pipeline_over(), put(tmp_path, {"red /1.png": png(RED)}))


async def test_a_gallery_that_knows_no_page_is_refused(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    for pictures in ({}, {"other": png(GREY)}):
        with pytest.raises(SetupError, match="knows no page"):
            await evaluate(pipeline_over(knowledge_of(pictures)), tmp_path)


async def test_a_missing_gallery_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no gallery"):
        await evaluate(pipeline_over(), put(tmp_path, FILES), gallery="elsewhere")


async def test_a_bug_in_a_stage_ends_the_run_as_itself(tmp_path: Path) -> None:
    def broken(data: bytes) -> None:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await evaluate(pipeline_over(seen=broken), put(tmp_path, FILES), concurrency=3)


async def test_progress_counts_up_to_all_images(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    await evaluate(
        pipeline_over(),
        put(tmp_path, FILES),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(done, 7) for done in range(1, 8)]


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


async def test_a_run_says_what_the_gallerys_own_pictures_score_and_warns_where_many_are_rejected(
    tmp_path: Path,
) -> None:
    # A colour beside itself, and one beside nothing like it.
    snapshot = replace(
        GALLERY.snapshot,
        pictures=(
            picture("red", png(RED)),
            picture("red", png((200, 40, 30))),
            picture("blend", png(GREEN)),
            picture("blend", png(BLUE)),
        ),
        embeddings=np.stack([embed(fake_decode(png(c))) for c in (RED, RED, GREEN, BLUE)]),
    )
    strict = replace(
        GALLERY.calibration, pictures=4, scores_with_text=(0.2, 0.3, 0.95, 0.95), guaranteed=False
    )
    knowledge = Knowledge.of(snapshot, calibration=strict)
    run = await evaluate(pipeline_over(knowledge), put(tmp_path / "test", FILES))
    assert sorted(run.own) == ["blend", "red"]
    assert (run.own["red"].rejected, run.own["blend"].rejected) == (0, 2)
    # Two of the four scores behind the calibration lie below its threshold of 0.9.
    assert run.ran_with["own_rejected"] == 0.5
    assert any("50% of the gallery's own 4 pictures" in warning for warning in run.warnings)
