"""What the pixel side of a screenshot costs the host, part by part: `make bench-host-parts`.

    drawn pages ──> decoded ─┬─> resized, patches of a NaFlex encoder: by Pillow, and as here
                             └─> detector, its network answering from what it said before
                                    └─> of that: within bounds, BGR, quads, crops, strips, digests

`make bench-host` measures the server; this says where its time for pixels goes. CPU time of the one
thread that does it all, parts in turns on each page, so that a busy machine disturbs them alike:
ratios within one run hold, not milliseconds from one hour to another. Under the GIL is the share of
the thread's ticks at which it holds the lock (`tests/bench/gil.py`), where there is a C compiler;
caches are as cold as after the part before, as they are in the server.

Writes `bench/host_parts.json`: a row for each part.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidocr.utils.process_img import resize_image_within_bounds
from rich.console import Console
from rich.table import Table

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference import bundle
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.decode import decode
from pagesight_server.inference.naflex import Naflex
from pagesight_server.inference.ocr.detector import Detector, crops, scaled
from pagesight_server.inference.ocr.engine import finding_network, networks
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.inference.resize import pillow, resizing
from pagesight_server.inference.settings import Compute, ImageLimits
from pagesight_server.text.reading import Box
from tests.bench import gil
from tests.bench.bench_host import PATCH, PATCHES, SIZE
from tests.bench.gpu_path import pages
from tests.bench.measure import machine

STRIP_PX = 48
BOX = Box(0, 0, 1, 1)


class Spent(NamedTuple):
    """What one part of one page took."""

    cpu_ms: float
    ticks: gil.Ticks


class Meter:
    """Measures calls in the thread that makes it.

    Args:
        folder: Where the library that counts ticks is compiled to, and counts.
    """

    def __init__(self, folder: Path) -> None:
        library = gil.compiled(folder)
        self.counts_ticks = library is not None
        self._file = folder / "ticks"
        if library is not None:
            gil.Counting(library, self._file).this_thread()

    def call(self, call: Callable[[], Any]) -> tuple[Any, Spent]:
        """What a call gives, and what it took."""
        before, start_s = self._ticks(), time.thread_time()
        result = call()
        cpu_ms = 1000 * (time.thread_time() - start_s)
        return result, Spent(cpu_ms, self._ticks().since(before))

    def _ticks(self) -> gil.Ticks:
        none = gil.Ticks(0, 0)
        if not self.counts_ticks:
            return none
        return gil.read(self._file).get(threading.get_native_id() % gil.SLOTS, none)


class Answers:
    """A detection network that is run once for each canvas, and remembers what it said."""

    def __init__(self, detector: Detector) -> None:
        self._graph = detector.graph
        self.last: NDArray[np.float32] = np.empty((0, 0), np.float32)
        self.page = 0
        self._of_pages: dict[int, Tensors] = {}

    def run(self, inputs: Tensors) -> Tensors:
        """The network's answer to the page at hand."""
        if self.page not in self._of_pages:
            self._of_pages[self.page] = self._graph.run(inputs)
        self.last = self._of_pages[self.page]["probability"][0, 0]
        return self._of_pages[self.page]


class Parts:
    """The parts of the way of one page's pixels.

    Args:
        ocr: The OCR bundle.
        meter: Measures each.
    """

    def __init__(self, ocr: Path, meter: Meter) -> None:
        self._meter = meter
        loaded = bundle.load(ocr, "ocr")
        picture = loaded.manifest["preprocessing"]["picture"]
        self._bounds = picture["min_side_len"], picture["max_side_len"]
        network = finding_network(networks(loaded, None))
        compute = Compute(threads=1)
        self._answers = Answers(Detector(loaded, compute, network, max_enlarged_px=10**7))
        self._detector = Detector(
            loaded, compute, network, max_enlarged_px=10**7, graph=self._answers
        )
        named = resizing({"library": "pillow", "interpolation": "bilinear"})
        assert named is not None
        self.resized_by = named.library
        self._by_pillow, self._prepare = (
            Naflex(patch_size=PATCH, max_num_patches=PATCHES, resize=resize)
            for resize in (pillow("bilinear"), named.resize)
        )

    def run(self, number: int, page: bytes) -> dict[str, Spent]:
        """What each part takes for one page.

        Args:
            number: Of the page, by which the network's answer is remembered.
            page: The encoded screenshot.
        """
        spent: dict[str, Spent] = {}

        def timed(part: str, call: Callable[[], Any]) -> Any:
            result, spent[part] = self._meter.call(call)
            return result

        pixels: Pixels = timed("decode", lambda: decode(page, ImageLimits()))
        timed("prepare by Pillow", lambda: self._by_pillow([pixels]))
        timed("prepare", lambda: self._prepare([pixels]))
        detector, self._answers.page = self._detector, number
        detector.find(pixels)  # the network's own run, the first time
        regions: list[Region] = timed("detector without its network", lambda: detector.find(pixels))
        least, most = self._bounds
        canvas: Pixels = timed(
            "- within bounds", lambda: resize_image_within_bounds(pixels, least, most)
        )[0]
        canvas = timed("- BGR", lambda: cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))
        probability, (height_px, width_px) = self._answers.last, canvas.shape[:2]
        quads = timed("- quads", lambda: detector.quads(probability, height_px, width_px))
        shown = timed("- crops", lambda: crops(canvas, quads))
        strips = timed("- strips", lambda: [scaled(crop, STRIP_PX) for crop in shown])
        pairs = list(zip(strips, shown, strict=True))
        timed("- digests", lambda: [Region.of(BOX, strip, crop) for strip, crop in pairs])
        assert len(regions) == len(strips), "the parts were meant to be the detector's"
        return spent


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints; see the module."""
    options = _parser().parse_args(arguments)
    before = machine()
    cv2.setNumThreads(1)
    drawn = pages(range(options.pages), options.lines, SIZE)
    spent: defaultdict[str, list[Spent]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        parts = Parts(options.bundles / "ocr", meter := Meter(Path(folder)))
        for number, page in enumerate(drawn):
            parts.run(number, page)
        for _ in range(options.rounds):
            for number, page in enumerate(drawn):
                for part, took in parts.run(number, page).items():
                    spent[part].append(took)
    conditions = before | {
        "load_1_min_after": machine()["load_1_min"],
        "lines": options.lines,
        "pages": options.pages,
        "rounds": options.rounds,
        "resized_by": parts.resized_by,
    }
    rows = [_row(part, took, counts_ticks=meter.counts_ticks) for part, took in spent.items()]
    options.out.mkdir(parents=True, exist_ok=True)
    body = [row | {"conditions": conditions} for row in rows]
    (options.out / "host_parts.json").write_text(json.dumps(body, indent=2), "utf-8")
    table = Table(*rows[0], title="pixels of one screenshot", title_justify="left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    console = Console(width=160)
    console.print(table)
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


def _row(part: str, took: Sequence[Spent], *, counts_ticks: bool) -> dict[str, Any]:
    """What a part took of all pages; under the GIL by the mean, as its ticks are few."""
    cpu_ms = [one.cpu_ms for one in took]
    ticks, held = (sum(counted) for counted in zip(*(one.ticks for one in took), strict=True))
    gil_ms = round(statistics.fmean(cpu_ms) * held / max(1, ticks), 2) if counts_ticks else None
    return {
        "part": part,
        "cpu_ms": round(statistics.median(cpu_ms), 2),
        "least_ms": round(min(cpu_ms), 2),
        "gil_ms": gil_ms,
        "ticks": ticks,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench-host-parts")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), help="of the OCR")
    parser.add_argument("--lines", type=int, default=40, help="of a page")
    parser.add_argument("--pages", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10, help="after one that is not measured")
    return parser


if __name__ == "__main__":
    main()
