"""The way of one screenshot: what runs together, what ends it, what is measured."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.errors import ImageError, NotFoundError
from pagesight_server.common.timings import StageTimes
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.pipeline import Pipeline
from tests.support import WAIT_S
from tests.support.parts import FakeModels, reading, snapshot, unit
from tests.support.pictures import BLUE, RED, solid

# A red page, as FakeModels sees red.
RED_PAGE = Knowledge.of(snapshot(("red_page", [c + 1 for c in RED], ["借钱", "还款"])))


async def test_a_screenshot_becomes_a_decision() -> None:
    models = FakeModels()
    models.texts[RED] = ("借钱", "还款")
    pipeline = models.pipeline({"default": RED_PAGE, "mine": Knowledge.of(snapshot())})
    answer = await pipeline.classify(solid(RED))
    assert answer.decision.label == "red_page"
    assert answer.decision.score == pytest.approx(1.0)
    assert answer.knowledge is RED_PAGE
    assert answer.query.reading == reading("借钱", "还款")
    assert (await pipeline.classify(solid(RED), gallery="mine")).decision.label == "other"


async def test_encoding_and_reading_run_at_the_same_time() -> None:
    encoding, reading_now = asyncio.Event(), asyncio.Event()

    async def encode(pixels: Pixels) -> Embedding:
        encoding.set()
        await asyncio.wait_for(reading_now.wait(), WAIT_S)
        return unit(1, 0, 0)

    async def read(pixels: Pixels) -> Reading:
        reading_now.set()
        await asyncio.wait_for(encoding.wait(), WAIT_S)
        return reading()

    features = await plain(encode, read).extract_features(b"")
    assert features.reading == reading()
    assert (features.width_px, features.height_px) == (4, 3)


def plain(encode: object, read: object, decode: object = None) -> Pipeline:
    """A pipeline whose pictures are 4 pixels wide and 3 high whatever the bytes."""
    return Pipeline(
        decode=decode or (lambda _: np.zeros((3, 4, 3), np.uint8)),  # type: ignore[arg-type]
        encode=encode,  # type: ignore[arg-type]
        read=read,  # type: ignore[arg-type]
        knowledge={"default": RED_PAGE}.__getitem__,
    )


async def test_what_cannot_be_decoded_reaches_no_model() -> None:
    models = FakeModels()
    models.failure = AssertionError("must not be read")
    with pytest.raises(ImageError, match="no JPEG"):
        await models.pipeline({"default": RED_PAGE}).classify(b"no picture")
    assert models.encoded == 0


async def test_an_unknown_gallery_is_told_before_any_work() -> None:
    def unknown(name: str) -> Knowledge:
        raise NotFoundError(f"no gallery {name!r}")

    models = FakeModels()
    pipeline = Pipeline(
        decode=lambda _: pytest.fail("must not be decoded"),
        encode=models.encode,
        read=models.read,
        knowledge=unknown,
    )
    with pytest.raises(NotFoundError):
        await pipeline.classify(solid(RED), gallery="mine")


async def test_a_failing_reader_fails_the_screenshot_and_drops_its_encoding() -> None:
    encoding, dropped = asyncio.Event(), asyncio.Event()

    async def encode(pixels: Pixels) -> Embedding:
        encoding.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        return unit(1)

    async def read(pixels: Pixels) -> Reading:
        await asyncio.wait_for(encoding.wait(), WAIT_S)
        raise RuntimeError("the reader broke")

    with pytest.raises(RuntimeError, match="the reader broke"):
        await plain(encode, read).classify(b"")
    await asyncio.wait_for(dropped.wait(), WAIT_S)


async def test_a_failing_encoder_fails_the_screenshot_and_drops_its_reading() -> None:
    reads, dropped = asyncio.Event(), asyncio.Event()

    async def encode(pixels: Pixels) -> Embedding:
        await asyncio.wait_for(reads.wait(), WAIT_S)
        raise RuntimeError("the encoder broke")

    async def read(pixels: Pixels) -> Reading:
        reads.set()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()
        return reading()

    with pytest.raises(RuntimeError, match="the encoder broke"):
        await plain(encode, read).classify(b"")
    await asyncio.wait_for(dropped.wait(), WAIT_S)


async def test_a_cancelled_screenshot_cancels_both_models() -> None:
    begun, dropped = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def forever(pixels: Pixels) -> Reading:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            dropped.release()
        return reading()

    task = asyncio.create_task(plain(forever, forever).classify(b""))
    async with asyncio.timeout(WAIT_S):
        await begun.acquire()
        await begun.acquire()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await dropped.acquire()
        await dropped.acquire()


async def test_without_ocr_nothing_is_read() -> None:
    models = FakeModels()
    models.failure = AssertionError("must not be read")
    answer = await models.pipeline({"default": RED_PAGE}).classify(solid(RED), ocr=False)
    assert answer.query.reading is None
    assert answer.decision.label == "red_page"
    assert "read" not in answer.stage_ms


async def test_every_stage_is_measured() -> None:
    answer = await FakeModels().pipeline({"default": RED_PAGE}).classify(solid(BLUE))
    assert set(answer.stage_ms) == {
        "decode",
        "encode",
        "read",
        "search",
        "evidence",
        "decide",
        "total",
    }
    in_turn = ("decode", "search", "evidence", "decide")
    assert all(ms >= 0 for ms in answer.stage_ms.values())
    assert answer.stage_ms["total"] >= sum(answer.stage_ms[stage] for stage in in_turn)


def test_the_times_of_a_stage_add_up() -> None:
    times = StageTimes()
    times["read"] = 1000.0
    with times.measure("read"):
        pass
    assert 1000.0 <= times["read"] < 1000.0 + 1000 * WAIT_S


async def test_many_screenshots_at_once_do_not_mix() -> None:
    models = FakeModels()
    models.texts = {RED: ("红",), BLUE: ("蓝",)}
    pipeline = models.pipeline({"default": RED_PAGE})
    colours = [RED, BLUE] * 20
    answers = await asyncio.gather(*(pipeline.classify(solid(colour)) for colour in colours))
    read = [answer.query.reading.joined() for answer in answers if answer.query.reading]
    assert read == ["红", "蓝"] * 20
