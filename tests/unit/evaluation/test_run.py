"""Test screenshots through the pipeline of `serve`: what is answered, measured and warned of."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import NotFoundError, SetupError
from pagesight_server.evaluation import Outcome, Run, evaluate
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from tests.support.evaluations import (
    BLUE,
    FILES,
    GALLERY,
    GREEN,
    GREY,
    RED,
    embed,
    fake_decode,
    knowledge_of,
    picture,
    pipeline_over,
    png,
    put,
    read_words,
)


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


async def test_more_false_rejections_than_promised_are_warned_of(tmp_path: Path) -> None:
    strict = knowledge_of({"red": png(RED), "green": png(GREEN)}, threshold=0.99999)
    files = {f"red/{n}.png": png((200, 60, n)) for n in range(10)}
    run = await evaluate(pipeline_over(strict), put(tmp_path, files))
    assert run.metrics.open_set.false_rejection_rate == 1
    assert any(
        "100.0% of known pages were rejected, significantly more than the target of 5%" in w
        for w in run.warnings
    )


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
