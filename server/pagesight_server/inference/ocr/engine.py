"""Reads many screenshots at once: text is detected per picture and recognised in shared batches.

    read ──> bands ──> find, a detector thread ──> regions ──> text of each ──> lines, in order
                                                                    ^
                            line pool of all pictures, one submission each

With a draft, cheaper networks find the text (docs/decisions/0019) and read every line first, and
the recognition network reads again what that is unsure of (0014). Without one, the recognition
network reads each narrow first.

Failure is not "no text": what a session raises, `read` raises. A page without text has no lines.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import cv2

from pagesight_server.common.arrays import Pixels
from pagesight_server.common.errors import ImageError, SetupError
from pagesight_server.common.threads import WorkerPool, lower_priority
from pagesight_server.common.timings import measure
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.fixed_shapes import InTurn, Runs
from pagesight_server.inference.ocr.detector import DetectionNetwork, Detector
from pagesight_server.inference.ocr.line_pool import LinePool, Recognise
from pagesight_server.inference.ocr.line_queues import Line, Share
from pagesight_server.inference.ocr.recogniser import Network, Reader, Recogniser, Shape
from pagesight_server.inference.ocr.settings import LibraryNumbers, OcrSettings, library_widths
from pagesight_server.inference.ocr.tiling import Band, Region, cut, join
from pagesight_server.inference.settings import Compute, ReadingMode
from pagesight_server.text.reading import Reading, TextLine, in_reading_order

T = TypeVar("T")


class Detect(Protocol):
    """The interface of a detector, as the engine uses it."""

    def find(self, pixels: Pixels) -> list[Region]:
        """Finds the text regions of a picture, in any order."""


class OcrEngine:
    """Reads pictures; for many tasks of one event loop.

    Args:
        detectors: Threads that find text, each with a detector.
        recognisers: Threads that recognise it, each pool with one reader.
        settings: What reading may cost, and how close it keeps to the library.
        library: The library's own numbers.
        sure_from: The draft's confidence from which its text is taken; None: there is no draft.
    """

    def __init__(
        self,
        detectors: WorkerPool[Detect],
        recognisers: Sequence[WorkerPool[Recognise]],
        settings: OcrSettings,
        library: LibraryNumbers,
        *,
        sure_from: float | None = None,
    ) -> None:
        self._detectors = detectors
        self._settings = settings
        self._library = library
        self._first: Network = "recognition" if sure_from is None else "draft"
        # Lines of few widths come again and again.
        self._shapes = lru_cache(maxsize=4096)(self._made_shapes)
        self.pool = LinePool(
            recognisers,
            settings,
            sure_from=settings.reread_below if sure_from is None else sure_from,
        )
        """Reads the lines of all pictures in flight."""

    @property
    def reading(self) -> ReadingMode:
        """Which networks read: `cascade` with a draft, or else `full`."""
        return "cascade" if self._first == "draft" else "full"

    async def read(self, pixels: Pixels) -> Reading:
        """Reads all text of a picture; a picture without text has no lines.

        Cancelling it drops those of its parts and lines that are still in the queues.

        Args:
            pixels: Height x width x 3, RGB.

        Raises:
            ImageError: it has more lines than one picture may.
            RuntimeError: the engine is closed.
            Exception: whatever a session raises.
        """
        height_px, width_px = pixels.shape[:2]
        with self.pool.share() as share:
            with measure("detect"):
                regions = await self._regions(pixels, share)
            if len(regions) > self._settings.max_lines:
                raise ImageError(
                    f"the picture has {len(regions):,} lines of text, the limit is "
                    f"{self._settings.max_lines:,}: send it in parts"
                )
            widths = [region.strip.shape[1] for region in regions]
            padded = library_widths(widths, self._library)
            with measure("recognise"):
                lines = [
                    Line(region.strip, region.digest, self._shapes(*both))
                    for region, *both in zip(regions, widths, padded, strict=True)
                ]
                texts = await self.pool.submit(lines, share)
        found = [
            TextLine(text, confidence, region.box)
            for region, (text, confidence) in zip(regions, texts, strict=True)
            if text.strip() and confidence >= self._library.min_confidence
        ]
        return Reading(width_px=width_px, height_px=height_px, lines=in_reading_order(found))

    async def close(self) -> None:
        """Ends the threads after their present runs, and cancels what is in the queues."""
        await asyncio.gather(asyncio.to_thread(self._detectors.close), self.pool.close())

    async def _regions(self, pixels: Pixels, share: Share) -> list[Region]:
        """Finds the text regions of a picture, each once."""
        height_px, width_px = pixels.shape[:2]
        bands = cut(
            height_px,
            width_px,
            longest_px=self._library.longest_px,
            narrowest_px=self._settings.narrowest_px,
        )
        if len(bands) == 1:
            with self.pool.finding(share):
                return await self._detectors.run(lambda detector: detector.find(pixels))
        # No more than there are threads: the bands of others are searched between these.
        places = asyncio.Semaphore(self._settings.detectors)

        async def find(band: Band) -> list[Region]:
            part = pixels[band.top : band.bottom]
            async with places:
                with self.pool.finding(share):
                    return await self._detectors.run(lambda detector: detector.find(part))

        regions_of_bands = await _gather_or_cancel(find(band) for band in bands)
        return join(list(zip(bands, regions_of_bands, strict=True)))

    def _made_shapes(self, width: int, padded: int) -> tuple[Shape, ...]:
        """How a strip is read: narrow, and where that is unsure as the library pads it."""
        first = Shape(self._settings.width(width), self._first)
        again = Shape(self._settings.width(padded))
        return (first,) if first == again else (first, again)


def load(
    bundle: Bundle, compute: Compute, settings: OcrSettings, *, reading: ReadingMode | None = None
) -> OcrEngine:
    """Loads an OCR bundle and starts its threads.

    Args:
        bundle: A bundle of kind `ocr`.
        compute: Where each session runs.
        settings: How many threads there are, and how they read.
        reading: Which networks read; None: the cascade, where the bundle has a draft.

    Raises:
        SetupError: the bundle cannot be loaded, fails its golden pairs, or has no draft although
            the cascade was asked for.
    """
    # There is a detector for each core or two: threads of OpenCV beside them would only wait for
    # each other, which costs CPU.
    cv2.setNumThreads(1)
    in_use = networks(bundle, reading)
    finding = finding_network(in_use)
    detectors = _detectors(bundle, compute, finding, settings)
    recognisers = [
        {network: Recogniser(bundle, compute, network) for network in in_use}
        for _ in range(1 if compute.device == "cpu" else settings.recognisers)
    ]
    graphs: dict[str, Runs] = {finding: detectors[0].graph}
    graphs |= {network: one.graph for network, one in recognisers[0].items()}
    bundle.check_golden(
        lambda graph, inputs: graphs[graph].run(inputs),
        unused=bundle.manifest["input"].keys() - graphs.keys(),
    )
    readers = [
        owned([Reader(by_name)], name="recogniser")
        for by_name in itertools.islice(itertools.cycle(recognisers), settings.recognisers)
    ]
    _warm(detectors, readers, compute, settings)
    return OcrEngine(
        # Lines being recognised belong to earlier screenshots than those in detection: first in,
        # first out.
        owned(detectors, name="detector", first=lower_priority),
        readers,
        settings,
        library_numbers(bundle),
        sure_from=sure_from(bundle) if "draft" in in_use else None,
    )


def _warm(
    detectors: Sequence[Detector],
    readers: Sequence[WorkerPool[Reader]],
    compute: Compute,
    settings: OcrSettings,
) -> None:
    """Runs each shape once that is known before: lines in their own threads, one by one."""
    fixed = compute.fixed
    if fixed is not None:
        for detector in {id(one.graph): one for one in detectors}.values():
            detector.warm(fixed.canvases)
    shapes = tuple(settings.shapes()) if fixed is None else fixed.lines
    try:
        for reader in readers if shapes else ():
            reader.call(lambda one: one.warm(shapes))
    except BaseException:
        for reader in readers:
            reader.close()
        raise


def _detectors(
    bundle: Bundle, compute: Compute, network: DetectionNetwork, settings: OcrSettings
) -> list[Detector]:
    """The detectors of all threads: on a CPU one, else with sessions of their own or in turn."""
    most = settings.max_enlarged_px
    if compute.device == "cpu":
        return [Detector(bundle, compute, network, max_enlarged_px=most)] * settings.detectors
    loaded = [
        Detector(bundle, compute, network, max_enlarged_px=most)
        for _ in range(settings.detection_sessions or settings.detectors)
    ]
    if len(loaded) == settings.detectors:
        return loaded
    graphs = itertools.cycle([InTurn(one.graph) for one in loaded])
    return [
        Detector(bundle, compute, network, max_enlarged_px=most, graph=graph)
        for graph in itertools.islice(graphs, settings.detectors)
    ]


def networks(bundle: Bundle, reading: ReadingMode | None) -> tuple[Network, ...]:
    """The recognition networks that are in use; None is the cascade, where there is a draft.

    Raises:
        SetupError: the cascade was asked for and the bundle has no draft.
    """
    has_draft = "draft" in bundle.manifest["input"]
    if reading == "cascade" and not has_draft:
        raise SetupError(
            f'{bundle.path} has no draft, which compute.reading = "cascade" needs: make it with '
            '`pagesight-export ocr --draft tiny`, or set compute.reading = "full"'
        )
    return ("draft", "recognition") if has_draft and reading != "full" else ("recognition",)


def finding_network(in_use: Collection[Network]) -> DetectionNetwork:
    """The network that finds text, beside the recognition networks in use: the draft's with it."""
    return "draft_detection" if "draft" in in_use else "detection"


def sure_from(bundle: Bundle) -> float:
    """The draft's confidence from which its text is taken; of a bundle with a draft."""
    return float(bundle.manifest["input"]["draft"]["sure_from"])


def owned(
    resources: Sequence[T], *, name: str, first: Callable[[], None] = lambda: None
) -> WorkerPool[T]:
    """A pool of threads for resources that are made already; `first` as in `WorkerPool`."""
    return WorkerPool(iter(resources).__next__, len(resources), name=name, first=first)


def library_numbers(bundle: Bundle) -> LibraryNumbers:
    """The library's numbers that the manifest of a bundle repeats."""
    numbers = bundle.manifest["preprocessing"]
    return LibraryNumbers(
        longest_px=numbers["picture"]["max_side_len"],
        batch=numbers["recognition"]["rec_batch_num"],
        padded_px=numbers["recognition"]["rec_img_shape"][2],
        min_confidence=numbers["result"]["text_score"],
    )


async def _gather_or_cancel(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; when one fails, or the caller is cancelled, all others are cancelled."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
