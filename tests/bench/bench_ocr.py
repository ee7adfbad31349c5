"""CPU time and text of our OCR engine against other readers: `make bench-ocr SCREENS=DIR`.

    screenshot ──> rapidocr, defaults; without classifier ─┐
               ──> faster-paddle, small; tiny ─────────────┼─> CPU-seconds, text ──> ratios,
               ──> ours, full; cascade, caches empty ──────┤             character error rates
               ──> another bundle ─────────────────────────┘
    again      ──> ours, every line seen before       eight at a time ──> ours, caches empty

CPU-seconds are user + system time of the process, the threads of every library included. Sides are
interleaved by screenshot, in a rotating order; all run on one thread, and nothing else runs in this
process meanwhile. Text is compared with the library without its text direction classifier, which
can only do harm on a screenshot (docs/decisions/0002), and with the library's defaults. The last
two rows of ours read as the server does by default: in a cascade, where the bundle has a draft.

`faster-paddle`, the Rust engine, takes part where it is installed. `ARGS='--against DIR'` reads
with another OCR bundle too, and counts the pictures whose texts or boxes differ from ours.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import cv2
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference import bundle
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.decode import decode
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.settings import ImageLimits, ReadingMode
from pagesight_server.text.reading import TextLine
from tests.bench.measure import machine
from tests.bench.ocr_sides import (
    SIZES,
    FasterPaddle,
    Stages,
    engine,
    find_faster_paddle,
)
from tests.support.congruence import Comparison, Library, compare

Row: TypeAlias = dict[str, Any]

AT_A_TIME = 8
"""Concurrency of the last side: enough to keep batches of lines full."""
COLUMNS = {
    "side": "side",
    "caches": "caches",
    "median s": "cpu_s_median",
    "mean s": "cpu_s_mean",
    "÷ rapidocr": "ratio_of_medians",
    "by means": "ratio_of_means",
    "÷ faster-paddle, small": "ratio_to_faster_paddle",
    "CER %, no classifier": "cer_percent_without_classifier",
    "CER %, as it comes": "cer_percent_as_it_comes",
    "lines": "lines_per_image",
}
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


class Side:
    """One of the readers to compare, with its measurements.

    Args:
        name: In the tables.
        caches: Whether it has seen the pictures before.
        read: Reads a picture; this is what is measured.
        prepare: Brings pixels into the form that `read` takes.
    """

    def __init__(
        self,
        name: str,
        caches: str,
        read: Callable[[Any], Sequence[TextLine]],
        prepare: Callable[[Pixels], Any] = lambda pixels: pixels,
    ) -> None:
        self.name, self.caches, self.read, self._prepare = name, caches, read, prepare
        self.cpu_s: list[float] = []
        self.lines: list[Sequence[TextLine]] = []
        self.figures: Row = {}
        """What only this side has, for its row."""

    def warm_up(self, pixels: Pixels) -> None:
        """Reads a picture that is not measured."""
        self.read(self._prepare(pixels))

    def take(self, pixels: Pixels) -> None:
        """Reads one screenshot and records its CPU time."""
        picture = self._prepare(pixels)
        start_s = time.process_time()
        lines = self.read(picture)
        self.cpu_s.append(time.process_time() - start_s)
        self.lines.append(lines)

    def compared(self, other: Side) -> Comparison:
        """Compares all texts with those of another side."""
        pairs = zip(other.lines, self.lines, strict=True)
        return Comparison.total(compare(theirs, ours) for theirs, ours in pairs)


class Ours(Side):
    """Our engine with one bundle and one way of reading, its caches empty at first.

    Args:
        name: In the tables.
        source: The OCR bundle.
        settings: Of reading.
        reading: Which networks read.
        loop: That the engine lives on.
    """

    def __init__(
        self,
        name: str,
        source: Bundle,
        settings: OcrSettings,
        reading: ReadingMode,
        loop: asyncio.Runner,
    ) -> None:
        self.stages: Stages = defaultdict(float)
        self.engine = engine(source, settings, self.stages, reading)
        super().__init__(name, "cold", lambda pixels: loop.run(self.engine.read(pixels)).lines)

    def warm_up(self, pixels: Pixels) -> None:
        """Reads a picture, and begins to count behind it."""
        super().warm_up(pixels)
        self.stages.clear()
        self._counts_before = self._counts()

    def finish(self) -> None:
        """Works out the figures of all that was read since the warm-up."""
        total_s = sum(self.cpu_s)
        self.stages["hashing, cache, waiting lists"] = total_s - sum(self.stages.values())
        hits, misses, reread = (
            now - then for now, then in zip(self._counts(), self._counts_before, strict=True)
        )
        # A line that is read again is asked of the cache twice.
        lines = hits + misses - reread
        shares = {name: round(spent / total_s, 4) for name, spent in self.stages.items()}
        self.figures |= {
            "cache_hit_ratio": round(hits / max(1, hits + misses), 4),
            "reread_ratio": round(reread / max(1, lines), 4),
            "share_of_stages": dict(sorted(shares.items(), key=lambda one: -one[1])),
        }

    def _counts(self) -> tuple[int, int, int]:
        pool = self.engine.pool
        return pool.cache.hits, pool.cache.misses, pool.reread


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The sides that all others are held against."""

    library: Side
    """`rapidocr` with its defaults."""
    plain: Side
    """The same without its text direction classifier."""
    rust: Side | None
    """`faster-paddle` with the same networks, where it is installed."""

    def row(self, side: Side) -> Row:
        """Returns a side's row of the table."""
        middle = statistics.median(side.cpu_s)
        mean = statistics.fmean(side.cpu_s)
        ratio = middle / statistics.median(self.library.cpu_s)
        ratio_of_means = mean / statistics.fmean(self.library.cpu_s)
        to_rust = middle / statistics.median(self.rust.cpu_s) if self.rust else None
        return {
            "side": side.name,
            "caches": side.caches,
            "screenshots": len(side.cpu_s),
            "cpu_s_median": round(middle, 4),
            "cpu_s_mean": round(mean, 4),
            "ratio_of_medians": round(ratio, 3),
            "ratio_of_means": round(ratio_of_means, 3),
            "ratio_to_faster_paddle": None if to_rust is None else round(to_rust, 3),
            "cer_percent_without_classifier": round(100 * side.compared(self.plain).error_rate, 3),
            "cer_percent_as_it_comes": round(100 * side.compared(self.library).error_rate, 3),
            "lines_per_image": round(statistics.fmean(len(one) for one in side.lines), 1),
            **side.figures,
        }


def chosen(folder: Path, count: int) -> list[Path]:
    """Returns `count` pictures, evenly spread over all folders."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        sys.exit(f"no pictures in {folder}: give SCREENS=DIR, a folder of screenshots")
    step = max(1.0, len(paths) / count)
    return [paths[int(i * step)] for i in range(min(count, len(paths)))]


async def together(ours: OcrEngine, pictures: Iterable[Pixels]) -> list[Sequence[TextLine]]:
    """Returns the lines of all pictures, `AT_A_TIME` being read concurrently."""
    gate = asyncio.Semaphore(AT_A_TIME)

    async def one(pixels: Pixels) -> Sequence[TextLine]:
        async with gate:
            return (await ours.read(pixels)).lines

    return list(await asyncio.gather(*(one(pixels) for pixels in pictures)))


def progress(pictures: Sequence[Pixels], what: str) -> Iterable[Pixels]:
    """Prints progress, without a thread, whose CPU time would be measured as well."""
    for number, pixels in enumerate(pictures, 1):
        yield pixels
        if number % 8 == 0 or number == len(pictures):
            print(f"{what}: {number} of {len(pictures)}", file=sys.stderr, flush=True)


def in_turns(sides: Sequence[Side], pictures: Sequence[Pixels]) -> None:
    """Has every side read every picture; the first one of a picture is another each time."""
    for side in sides:
        side.warm_up(pictures[0][::-1])  # upside down, so that no line is cached by it
    for turn, pixels in enumerate(progress(pictures, "one by one")):
        first = turn % len(sides)
        for side in itertools.islice(itertools.cycle(sides), first, first + len(sides)):
            side.take(pixels)


def measure(
    pictures: Sequence[Pixels],
    source: Bundle,
    settings: OcrSettings,
    *,
    against: Bundle | None = None,
    rust: bool = False,
) -> list[Row]:
    """Returns the rows of all sides.

    Args:
        pictures: RGB pixels.
        source: Our OCR bundle.
        settings: Of our reading.
        against: Another OCR bundle to read with; in a cascade, if both have a draft.
        rust: Whether `faster-paddle` is installed.
    """
    library = Library()
    others = [
        Side("rapidocr", "none", lambda pixels: library.read(pixels, classifier=True)),
        Side("rapidocr, no classifier", "none",
             lambda pixels: library.read(pixels, classifier=False)),
    ]  # fmt: skip
    for size in SIZES if rust else ():
        reader = FasterPaddle(size)
        others.append(Side(f"faster-paddle, {size}", "none", reader.read, reader.encoded))
        others[-1].figures = {"config": reader.config}
    with asyncio.Runner() as loop:
        ours = [
            Ours(f"ours, {mode}", source, settings, mode, loop) for mode in reading_modes(source)
        ]
        rivals = []
        if against:
            mode = reading_modes(against)[: len(ours)][-1]
            rivals = [Ours(f"ours, {mode}, {against.id}", against, settings, mode, loop)]
        in_turns([*others, *ours, *rivals], pictures)
        for side in (*ours, *rivals):
            side.finish()
        default = ours[-1]
        warm = Side(default.name, "every line seen", default.read)
        for pixels in progress(pictures, "again"):
            warm.take(pixels)
        for side in (*ours, *rivals):
            loop.run(side.engine.close())
        busy = _busy(default, source, settings, pictures, loop)
    references = References(library=others[0], plain=others[1], rust=others[2] if rust else None)
    for side in ours:
        differences = side.compared(references.plain).differences
        side.figures["differences"] = [asdict(difference) for difference in differences]
    for rival in rivals:
        same = next(side for side in ours if rival.name.startswith(side.name))
        rival.figures["pages_that_differ"] = pages_that_differ(same, rival)
    return [references.row(side) for side in (*others, *ours, warm, busy, *rivals)]


def reading_modes(source: Bundle) -> Sequence[ReadingMode]:
    """The ways in which a bundle can read; the last one is the server's default."""
    return ("full", "cascade") if "draft" in source.manifest["input"] else ("full",)


def _busy(
    alone: Ours,
    source: Bundle,
    settings: OcrSettings,
    pictures: Sequence[Pixels],
    loop: asyncio.Runner,
) -> Side:
    """Reads all pictures, several at a time, as another side read them one by one."""
    ours = Ours(f"{alone.name}, {AT_A_TIME} at a time", source, settings, alone.engine.reading,
                loop)  # fmt: skip
    ours.warm_up(pictures[0][::-1])
    start_s = time.process_time()
    ours.lines = loop.run(together(ours.engine, pictures))
    ours.cpu_s = [(time.process_time() - start_s) / len(pictures)] * len(pictures)
    ours.figures = {
        "strips_per_batch": round(ours.engine.pool.strips / ours.engine.pool.batches, 2),
        "same_text_as_alone": texts(ours) == texts(alone),
    }
    loop.run(ours.engine.close())
    return ours


def texts(side: Side) -> list[list[str]]:
    """The texts of all pictures that a side read, line by line."""
    return [[line.text for line in lines] for lines in side.lines]


def pages_that_differ(one: Side, other: Side) -> int:
    """Number of pages that differ in any text or box."""
    pages = zip(one.lines, other.lines, strict=True)
    return sum(
        [(line.text, line.box) for line in a] != [(line.text, line.box) for line in b]
        for a, b in pages
    )


def show(rows: Sequence[Row]) -> None:
    """Prints the tables."""
    out = Console(width=None if sys.stdout.isatty() else 180)
    keys = {
        heading: key
        for heading, key in COLUMNS.items()
        if any(row[key] is not None for row in rows)
    }
    table = Table(title="CPU-seconds for a screenshot, and text")
    for heading in keys:
        table.add_column(heading, justify="left" if heading in {"side", "caches"} else "right")
    for row in rows:
        table.add_row(*(str(row[key]) for key in keys.values()))
    out.print(table)
    for row in rows:
        if "share_of_stages" in row:
            stages = Table(title=f"where the time of {row['side']} goes, caches cold")
            stages.add_column("stage")
            stages.add_column("share", justify="right")
            for name, share in row["share_of_stages"].items():
                stages.add_row(name, f"{share:.1%}")
            out.print(stages)
        for key in ("cache_hit_ratio", "reread_ratio", "strips_per_batch", "same_text_as_alone",
                    "pages_that_differ"):  # fmt: skip
            if key in row:
                out.print(f"{row['side']}: {key} {row[key]}")
        if "differences" in row:
            number = len(row["differences"])
            out.print(f"{row['side']}: {number} lines differ from rapidocr, no classifier")
        if row.get("differences"):
            lines = Table("theirs", "ours")
            for difference in row["differences"]:
                lines.add_row(*(Text(repr(difference[key])) for key in ("theirs", "ours")))
            out.print(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
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
    options = parser.parse_args(arguments)
    settings = OcrSettings(reread_below=options.reread_below, max_columns=options.max_columns)
    paths = chosen(options.screens, options.count)
    limits = ImageLimits()
    pictures = [decode(path.read_bytes(), limits) for path in paths]
    cv2.setNumThreads(1)
    before = machine()
    source = bundle.load(options.bundles / "ocr", "ocr")
    against = bundle.load(options.against, "ocr") if options.against else None
    rust, about_rust = find_faster_paddle()
    print(about_rust, file=sys.stderr)
    rows = measure(pictures, source, settings, against=against, rust=rust)
    sizes = Counter(f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in pictures)
    described = f"{before['machine']}, {before['vectors']}, {before['cores']} cores"
    conditions = (
        f"{len(paths)} of {options.screens.name}, mostly {sizes.most_common(1)[0][0]}; "
        f"one thread a side, {source.id}, load {before['load_1_min']} at start, "
        f"{os.getloadavg()[0]:.2f} at end, rapidocr {version('rapidocr')}, "
        f"onnxruntime {version('onnxruntime')}; {about_rust}"
    )
    for row in rows:
        row |= {"machine": described, "conditions": conditions}
        if row["side"].startswith("ours"):
            row["settings"] = asdict(settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")
    show(rows)
    print(f"{described}; {conditions}\n{options.out}")


if __name__ == "__main__":
    main()
