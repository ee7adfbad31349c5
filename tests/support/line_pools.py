"""Line pools with fake recognisers, and lines that carry numbers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack

import numpy as np

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.priority import Priority, urgent_as
from pagesight_server.common.threads import WorkerPool
from pagesight_server.inference.ocr.engine import owned
from pagesight_server.inference.ocr.line_pool import LinePool, Recognise
from pagesight_server.inference.ocr.line_queues import Line, Share
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import OcrSettings
from tests.support import WAIT_S

SMALL = OcrSettings(widths=(64, 128, 320), max_columns=320)


class BrokenError(Exception):
    """What a broken session raises."""


class Recogniser:
    """Says of each strip which number it carries; runs as many batches as it is let.

    Args:
        free: Whether it is let run all batches.
        broken: The number at which it breaks.
        unsure: Numbers that it is unsure of in the network `draft`.
    """

    def __init__(
        self,
        *,
        free: bool = True,
        broken: int | None = None,
        unsure: Collection[int] = (),
    ) -> None:
        self.batches: list[tuple[int, list[int]]] = []
        self.threads: set[str] = set()
        self.started = threading.Semaphore(0)
        self._gate = threading.Semaphore(10**6 if free else 0)
        self._broken = broken
        self._unsure = unsure

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        numbers = [carried(strip) for strip in strips]
        self.batches.append((shape.width, numbers))
        self.threads.add(threading.current_thread().name)
        self.started.release()
        assert self._gate.acquire(timeout=WAIT_S)
        if self._broken in numbers:
            raise BrokenError
        unsure = self._unsure if shape.network == "draft" else ()
        return [Text(str(number), 0.1 if number in unsure else 1.0) for number in numbers]

    def let(self, runs: int = 1) -> None:
        self._gate.release(runs)

    async def running(self) -> None:
        assert await asyncio.to_thread(self.started.acquire, timeout=WAIT_S)


def strip(number: int, width: int = 10) -> Pixels:
    """A strip that carries a number."""
    pixels = np.zeros((48, width, 3), np.uint8)
    pixels[0, 0] = (number // 65536, number // 256 % 256, number % 256)
    return pixels


def carried(pixels: Pixels) -> int:
    high, middle, low = (int(value) for value in pixels[0, 0])
    return high * 65536 + middle * 256 + low


class Pool:
    """A pool, and screenshots that are being read: the one of turn 0 came first."""

    def __init__(
        self,
        *recognisers: Recogniser,
        config: OcrSettings = SMALL,
        priorities: Sequence[Priority] = (Priority.NORMAL,) * 10,
    ) -> None:
        workers: list[WorkerPool[Recognise]] = [owned([one], name="test") for one in recognisers]
        self.pool = LinePool(workers, config, sure_from=0.5)
        self._open = ExitStack()
        self.shares: list[Share] = []
        for priority in priorities:
            with urgent_as(priority):
                self.shares.append(self._open.enter_context(self.pool.share()))

    def submit(self, *numbers: int, width: int = 64, turn: int) -> asyncio.Future[list[Text]]:
        """Submits lines of these numbers for the screenshot of a turn, all of one width."""
        return self.lines(*((number, width) for number in numbers), turn=turn)

    def lines(self, *lines: tuple[int, int], turn: int) -> asyncio.Future[list[Text]]:
        """Submits lines, each a number and a width, for the screenshot of a turn."""
        return self.pool.submit([line(*one) for one in lines], self.shares[turn])

    async def close(self) -> None:
        await self.pool.close()
        self._open.close()


def line(number: int, width: int, *, draft: bool = False) -> Line:
    """A line that carries a number; with a draft it is read by that first."""
    shapes = [Shape(width, "draft"), Shape(width)] if draft else [Shape(width)]
    return Line(strip(number), number.to_bytes(4), shapes)


def said(texts: Sequence[Text]) -> list[int]:
    """The numbers that texts say."""
    return [int(text.text) for text in texts]


async def settle() -> None:
    """Lets every task that can run now run."""
    for _ in range(10):
        await asyncio.sleep(0)
