"""CPU time and text of our OCR engine against the library's: `make bench-ocr SCREENS=DIR`.

    screenshot ──> rapidocr, defaults ───┐
               ──> without classifier ───┼─> CPU-seconds, text ──> ratio, character error rate
               ──> ours, caches empty ───┤
               ──> another bundle ───────┘
    again      ──> ours, caches warm          eight at a time ──> ours, caches empty

CPU-seconds are user + system time of the process. Sides are interleaved by screenshot, in a
rotating order; all run on one thread, and nothing else runs in this process meanwhile. Text is
compared with the library without its text direction classifier, which can only do harm on a
screenshot (docs/decisions/0002), and with the library's defaults. `ARGS='--against DIR'` also reads
with another OCR bundle, and counts the pictures whose texts or boxes differ from ours.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias, get_args

import cv2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference import bundle
from pagesight_server.inference.bundle import Bundle, Tensors
from pagesight_server.inference.decode import decode
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr.detector import Detector
from pagesight_server.inference.ocr.engine import library_numbers, networks, owned, sure_from
from pagesight_server.inference.ocr.recogniser import Network, Reader, Recogniser
from pagesight_server.inference.ocr.recogniser import Text as Read
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.inference.onnx_session import Graph
from pagesight_server.inference.settings import Compute, ImageLimits, ReadingMode
from pagesight_server.text.reading import TextLine
from tests.support.congruence import Comparison, Library, compare

AT_A_TIME = 8
"""Concurrency of the last side: enough to keep batches of lines full."""
COLUMNS = (
    "side",
    "caches",
    "cpu_s_median",
    "cpu_s_mean",
    "ratio_of_medians",
    "ratio_of_means",
    "cer_percent_without_classifier",
    "cer_percent_as_it_comes",
    "lines_per_image",
)
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}
Stages: TypeAlias = defaultdict[str, float]
"""CPU-seconds of our threads, by stage."""


class TimedGraph(Graph):
    """A graph that measures the CPU time of its runs."""

    def __init__(self, path: Path, stages: Stages, stage: str) -> None:
        super().__init__(path, Compute())
        self._stages, self._stage = stages, stage

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph."""
        start = time.thread_time()
        outputs = super().run(inputs)
        self._stages[self._stage] += time.thread_time() - start
        return outputs


class TimedDetector(Detector):
    """A detector that measures its CPU time outside the network."""

    def __init__(self, source: Bundle, settings: OcrSettings, stages: Stages) -> None:
        super().__init__(source, Compute(), max_enlarged_px=settings.max_enlarged_px)
        self.graph = TimedGraph(source.file("detection.onnx"), stages, "detection network")
        self._stages = stages

    def find(self, pixels: Pixels) -> list[Region]:
        """Detects the text of a picture."""
        start, network = time.thread_time(), self._stages["detection network"]
        regions = super().find(pixels)
        network = self._stages["detection network"] - network
        self._stages["resizing, boxes, crops"] += time.thread_time() - start - network
        return regions


class TimedRecogniser(Recogniser):
    """A recogniser that measures its CPU time outside the network."""

    def __init__(self, source: Bundle, stages: Stages, network: Network) -> None:
        super().__init__(source, Compute(), network)
        self._stages, self._stage = stages, f"{network} network"
        self.graph = TimedGraph(source.file(f"{network}.onnx"), stages, self._stage)

    def read(self, strips: Sequence[Pixels], width: int) -> list[Read]:
        """Recognises the text of line images."""
        start, network = time.thread_time(), self._stages[self._stage]
        texts = super().read(strips, width)
        network = self._stages[self._stage] - network
        self._stages["batches, texts"] += time.thread_time() - start - network
        return texts


def engine(
    source: Bundle, settings: OcrSettings, stages: Stages, reading: ReadingMode | None
) -> OcrEngine:
    """Return our engine, with one thread for detection and one for recognition."""
    in_use = networks(source, reading)
    reader = Reader({network: TimedRecogniser(source, stages, network) for network in in_use})
    return OcrEngine(
        owned([TimedDetector(source, settings, stages)], name="detector"),
        [owned([reader], name="recogniser")],
        settings,
        library_numbers(source),
        sure_from=sure_from(source) if "draft" in in_use else None,
    )


class Side:
    """One of the engines to compare, with its measurements."""

    def __init__(
        self, name: str, caches: str, read: Callable[[Pixels], Sequence[TextLine]]
    ) -> None:
        self.name, self.caches, self.read = name, caches, read
        self.cpu_s: list[float] = []
        self.lines: list[Sequence[TextLine]] = []

    def take(self, pixels: Pixels) -> None:
        """Read one screenshot and record its CPU time."""
        start = time.process_time()
        self.lines.append(self.read(pixels))
        self.cpu_s.append(time.process_time() - start)

    def row(self, library: Side, plain: Side) -> dict[str, Any]:
        """Return a row of the table, relative to the library with and without its classifier."""
        as_it_comes, without = self.compared(library), self.compared(plain)
        return {
            "side": self.name,
            "caches": self.caches,
            "screenshots": len(self.cpu_s),
            "cpu_s_median": round(statistics.median(self.cpu_s), 4),
            "cpu_s_mean": round(statistics.fmean(self.cpu_s), 4),
            "ratio_of_medians": _ratio(statistics.median, self.cpu_s, library.cpu_s),
            "ratio_of_means": _ratio(statistics.fmean, self.cpu_s, library.cpu_s),
            "cer_percent_without_classifier": round(100 * without.error_rate, 3),
            "cer_percent_as_it_comes": round(100 * as_it_comes.error_rate, 3),
            "lines_per_image": round(statistics.fmean(len(one) for one in self.lines), 1),
        }

    def compared(self, other: Side) -> Comparison:
        """Compare all texts with those of another side."""
        pairs = zip(other.lines, self.lines, strict=True)
        return Comparison.total(compare(theirs, ours) for theirs, ours in pairs)


def _ratio(
    middle: Callable[[Sequence[float]], float], ours: Sequence[float], theirs: Sequence[float]
) -> float:
    return round(middle(ours) / middle(theirs), 3)


def _ranked(spent: Stages) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda one: -one[1])


def chosen(folder: Path, count: int) -> list[Path]:
    """Return `count` pictures, evenly spread over all folders."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        sys.exit(f"no pictures in {folder}: give SCREENS=DIR, a folder of screenshots")
    step = max(1.0, len(paths) / count)
    return [paths[int(i * step)] for i in range(min(count, len(paths)))]


async def together(ours: OcrEngine, pictures: Iterable[Pixels]) -> list[Sequence[TextLine]]:
    """Return the lines of all pictures, `AT_A_TIME` being read concurrently."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(pixels: Pixels) -> Sequence[TextLine]:
        async with gate:
            return (await ours.read(pixels)).lines

    return list(await asyncio.gather(*(one(pixels) for pixels in pictures)))


def progress(pictures: Sequence[Pixels], what: str) -> Iterable[Pixels]:
    """Print progress, without a thread, whose CPU time would be measured as well."""
    for number, pixels in enumerate(pictures, 1):
        yield pixels
        if number % 8 == 0 or number == len(pictures):
            print(f"{what}: {number} of {len(pictures)}", file=sys.stderr, flush=True)


def measure(
    pictures: Sequence[Pixels],
    source: Bundle,
    settings: OcrSettings,
    against: Bundle | None,
    reading: ReadingMode | None,
) -> tuple[list[dict[str, Any]], Comparison, Stages]:
    """Return the rows, what differs from the library without classifier, and our stages."""
    stages: Stages = defaultdict(float)
    library, ours = Library(), engine(source, settings, stages, reading)
    other = engine(against, settings, defaultdict(float), None) if against else ours
    with asyncio.Runner() as loop:

        def alone(pixels: Pixels) -> Sequence[TextLine]:
            return loop.run(ours.read(pixels)).lines

        def otherwise(pixels: Pixels) -> Sequence[TextLine]:
            return loop.run(other.read(pixels)).lines

        full = Side("rapidocr", "none", lambda pixels: library.read(pixels, classifier=True))
        plain = Side(
            "rapidocr, no classifier", "none", lambda pixels: library.read(pixels, classifier=False)
        )
        cold, warm = Side("ours", "cold", alone), Side("ours", "warm", alone)
        rival = Side(f"ours, {against.id}" if against else "", "cold", otherwise)
        sides = [full, plain, cold] + [rival] * bool(against)
        for side in sides:
            side.read(pictures[0][::-1])  # warm-up; upside down, so that no line is cached by it
        stages.clear()
        at_start = (ours.cache.hits, ours.cache.misses, ours.reread)
        for turn, pixels in enumerate(progress(pictures, "one by one")):
            first = turn % len(sides)
            for side in itertools.islice(itertools.cycle(sides), first, first + len(sides)):
                side.take(pixels)
        spent = stages.copy()
        spent["hashing, cache, waiting lists"] = sum(cold.cpu_s) - sum(spent.values())
        hits, misses, reread = (
            now - then
            for now, then in zip(
                (ours.cache.hits, ours.cache.misses, ours.reread), at_start, strict=True
            )
        )
        for pixels in progress(pictures, "again"):
            warm.take(pixels)
        loop.run(ours.close())
        if against:
            loop.run(other.close())

        ours = engine(source, settings, stages, reading)
        loop.run(ours.read(pictures[0][::-1]))
        busy = Side(f"ours, {AT_A_TIME} at a time", "cold", alone)
        start = time.process_time()
        busy.lines = loop.run(together(ours, pictures))
        busy.cpu_s = [(time.process_time() - start) / len(pictures)] * len(pictures)
        loop.run(ours.close())
    rows = [side.row(full, plain) for side in (full, plain, cold, warm, busy)]
    rows[2] |= {
        "cache_hit_ratio": round(hits / max(1, hits + misses), 4),
        "reread_ratio": round(reread / max(1, hits + misses - reread), 4),
        **{f"share_{name}": round(s / sum(cold.cpu_s), 4) for name, s in _ranked(spent)},
    }
    rows[4] |= {
        "strips_per_batch": round(ours.pool.strips / ours.pool.batches, 2),
        "same_text_as_alone": [[line.text for line in one] for one in busy.lines]
        == [[line.text for line in one] for one in cold.lines],
    }
    if against:
        rows.append(rival.row(full, plain) | {"pages_that_differ": _pages_that_differ(cold, rival)})
    return rows, cold.compared(plain), spent


def _pages_that_differ(one: Side, other: Side) -> int:
    """Number of pages that differ in any text or box."""
    pages = zip(one.lines, other.lines, strict=True)
    return sum(
        [(line.text, line.box) for line in a] != [(line.text, line.box) for line in b]
        for a, b in pages
    )


def machine() -> str:
    """Name the processor and how many of its cores this may use."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def show(rows: Sequence[dict[str, Any]], comparison: Comparison, spent: Stages) -> None:
    """Print the tables."""
    out = Console(width=None if sys.stdout.isatty() else 180)
    table = Table(title="CPU-seconds for a screenshot, and text")
    for heading in ("side", "caches", "median s", "mean s", "of rapidocr", "by means"):
        table.add_column(heading)
    for heading in ("CER %, no classifier", "CER %, as it comes", "lines"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(str(row[key]) for key in COLUMNS))
    out.print(table)
    stages = Table(title="where our time goes, caches cold")
    stages.add_column("stage")
    stages.add_column("share", justify="right")
    for name, seconds in _ranked(spent):
        stages.add_row(name, f"{seconds / sum(spent.values()):.1%}")
    out.print(stages)
    for key in ("cache_hit_ratio", "reread_ratio"):
        out.print(key, rows[2][key])
    for key in ("strips_per_batch", "same_text_as_alone"):
        out.print(key, rows[4][key])
    if len(rows) > 5:
        out.print("pages that differ between the bundles", rows[5]["pages_that_differ"])
    lines = Table(title=f"{len(comparison.differences)} lines differ from rapidocr, no classifier")
    lines.add_column("theirs")
    lines.add_column("ours")
    for difference in comparison.differences:
        lines.add_row(*(Text(repr(one)) for one in (difference.theirs, difference.ours)))
    out.print(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--screens", type=Path, required=True, help="folder of screenshots")
    parser.add_argument("--count", type=int, default=64, help="how many, spread over the folder")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--against", type=Path, help="another OCR bundle, to compare with")
    parser.add_argument("--out", type=Path, default=Path("bench/ocr.json"))
    parser.add_argument(
        "--reread-below", type=float, default=OcrSettings().reread_below, help="OCR setting"
    )
    parser.add_argument(
        "--max-columns", type=int, default=OcrSettings().max_columns, help="OCR setting"
    )
    parser.add_argument(
        "--reading", choices=get_args(ReadingMode), help="as compute.reading; as it says if not set"
    )
    options = parser.parse_args()
    settings = OcrSettings(reread_below=options.reread_below, max_columns=options.max_columns)
    paths = chosen(options.screens, options.count)
    limits = ImageLimits()
    pictures = [decode(path.read_bytes(), limits) for path in paths]
    cv2.setNumThreads(1)
    load = os.getloadavg()[0]
    source = bundle.load(options.bundles / "ocr", "ocr")
    against = bundle.load(options.against, "ocr") if options.against else None
    rows, comparison, spent = measure(pictures, source, settings, against, options.reading)
    sizes = Counter(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in pictures)
    conditions = (
        f"{len(paths)} of {options.screens.name}, mostly {sizes.most_common(1)[0][0]}; "
        f"one thread a side, {source.id}, load {load:.1f} at start, {os.getloadavg()[0]:.1f} at "
        f"end, rapidocr {version('rapidocr')}, onnxruntime {version('onnxruntime')}"
    )
    for row in rows:
        row |= {"machine": machine(), "conditions": conditions}
    rows[2] |= {
        "settings": asdict(settings),
        "differences": [asdict(difference) for difference in comparison.differences],
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")
    show(rows, comparison, spent)
    print(f"{machine()}; {conditions}\n{options.out}")


if __name__ == "__main__":
    main()
