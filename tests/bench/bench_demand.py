"""Reading on demand against reading in full and the OCR library: `make bench-demand SCREENS=DIR`.

    screenshot ──> rapidocr as it comes ──────────────────────┐
               ──> ours in full: find, read all, judge ───────┼─> CPU-seconds, lines, label
               ──> ours on demand: find, read some, judge ────┘

Sides take turns screenshot by screenshot in an order that rotates, one thread a side, nothing
remembered at the start of each; ours know the same gallery. Counted are finding, reading and
judging, in CPU-seconds of this process; the embedding is made beforehand. It needs minutes, so the
labels of many more screenshots are compared without pixels (`replay.py`):

    pagesight-server evaluate SCREENS/test --store S --out R --percepts FILE
    python -m tests.bench.bench_demand --store S --percepts FILE
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import cv2
from rich.console import Console
from rich.table import Table

from pagesight_server import wiring
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.config import Config
from pagesight_server.evaluation.feature_cache import PerceptFile
from pagesight_server.inference import decode
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.demand import Found
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import know
from tests.bench.measure import machine
from tests.bench.replay import replay
from tests.bench.screens import Screens, generated, real
from tests.support.congruence import Library

T = TypeVar("T")
Row = dict[str, Any]
LIBRARY, FULL, ON_DEMAND = "rapidocr", "ours, in full", "ours, on demand"
TARGET = 0.35
"""Of the library's CPU-seconds."""


@dataclass(slots=True)
class Spent:
    """What one screenshot cost a side."""

    path: Path
    reading_s: float = 0.0
    """Finding text and recognising it."""
    judging_s: float = 0.0
    finding_s: float = 0.0
    """Of reading, finding alone, where the two are asked for one by one."""
    lines: int = 0
    """Boxes that were found, or lines where only those are known."""
    read: int = 0
    label: str = ""

    @property
    def cpu_s(self) -> float:
        """All of it."""
        return self.reading_s + self.judging_s


@dataclass(slots=True)
class Ours:
    """A pipeline that says what its parts cost, one screenshot at a time."""

    line: Pipeline
    spent: list[Spent] = field(default_factory=list)

    async def take(self, path: Path, pixels: Pixels, embedding: Embedding) -> None:
        """Finds, reads and judges; seeing is done."""
        spent = Spent(path)

        async def reading(work: Awaitable[T]) -> T:
            start_s = time.process_time()
            result = await work
            spent.reading_s += time.process_time() - start_s
            return result

        async def encode(_pixels: Pixels) -> Embedding:
            return embedding

        async def read(pixels: Pixels) -> Reading:
            return await reading(self.line.read(pixels))

        async def find(pixels: Pixels) -> Found:
            assert self.line.find is not None
            found = await reading(self.line.find(pixels))
            spent.finding_s = spent.reading_s
            spent.lines = len(found.outline.boxes)
            return replace(found, read=lambda numbers: reading(found.read(numbers)))

        line = replace(
            self.line,
            decode=lambda _data: pixels,
            encode=encode,
            read=read,
            find=find if self.line.find is not None else None,
        )
        start_s = time.process_time()
        answer = await line.classify(b"")
        spent.judging_s = time.process_time() - start_s - spent.reading_s
        if self.line.find is None:
            spent.lines = len(answer.query.reading.lines) if answer.query.reading else 0
        spent.read = spent.lines - answer.unread
        spent.label = answer.decision.label
        self.spent.append(spent)


async def measure(screens: Screens) -> list[Row]:
    """One row for each side over all screenshots."""
    library, of_library = Library(), list[Spent]()

    def read(path: Path, pixels: Pixels) -> None:
        start_s = time.process_time()
        lines = library.read(pixels, classifier=True)
        of_library.append(Spent(path, reading_s=time.process_time() - start_s, lines=len(lines)))

    async with AsyncExitStack() as stack:
        store = stack.enter_context(wiring.opened(screens.config.store))
        recognition = screens.config.recognition
        known = know(store, "default", recognition.method, recognition.epsilon)

        async def ours(reading: str) -> Ours:
            models = await stack.enter_async_context(wiring.models(alone(screens.config, reading)))
            return Ours(models.pipeline(lambda _name: known))

        full, part = await ours("full"), await ours("on_demand")
        pictures = [decode.decode(data, screens.config.image) for data in screens.pictures]
        seen = [await full.line.encode(pixels) for pixels in pictures]
        upside_down = pictures[0][::-1]
        read(screens.paths[0], upside_down)  # loads models; upside down, so that no line is known
        for side in (full, part):
            await side.take(screens.paths[0], upside_down, seen[0])
            side.spent.clear()
        of_library.clear()
        for turn, (path, pixels, embedding) in enumerate(
            zip(screens.paths, pictures, seen, strict=True)
        ):
            for place in range(3):
                match (turn + place) % 3:
                    case 0:
                        read(path, pixels)
                    case 1:
                        await full.take(path, pixels, embedding)
                    case 2:
                        await part.take(path, pixels, embedding)
    return rows(screens.name, of_library, full.spent, part.spent)


def alone(config: Config, reading: str) -> Config:
    """The same settings with one thread for each model, and a way of reading."""
    threads = {"ocr_threads": 1, "encoder_threads": 1, "reading": reading}
    return config.model_copy(update={"compute": config.compute.model_copy(update=threads)})


def rows(
    name: str, library: Sequence[Spent], full: Sequence[Spent], part: Sequence[Spent]
) -> list[Row]:
    """The table, and where labels differ."""

    def row(side: str, spent: Sequence[Spent]) -> Row:
        cpu_s, theirs = [one.cpu_s for one in spent], [one.cpu_s for one in library]
        return {
            "set": name,
            "side": side,
            "screenshots": len(spent),
            "cpu_s_median": round(statistics.median(cpu_s), 4),
            "cpu_s_mean": round(statistics.fmean(cpu_s), 4),
            "finding_s_mean": round(statistics.fmean(one.finding_s for one in spent), 4),
            "reading_s_mean": round(statistics.fmean(one.reading_s for one in spent), 4),
            "judging_s_mean": round(statistics.fmean(one.judging_s for one in spent), 4),
            "ratio_of_medians": round(statistics.median(cpu_s) / statistics.median(theirs), 3),
            "ratio_of_means": round(statistics.fmean(cpu_s) / statistics.fmean(theirs), 3),
            "lines": sum(one.lines for one in spent),
        }

    differ = [
        {"screenshot": f"{a.path.parent.name}/{a.path.name}", "full": a.label, "part": b.label}
        for a, b in zip(full, part, strict=True)
        if a.label != b.label
    ]
    return [
        row(LIBRARY, library),
        row(FULL, full),
        row(ON_DEMAND, part)
        | {
            "lines_read": sum(one.read for one in part),
            "read_in_full": sum(one.read == one.lines for one in part),
            "same_label": len(part) - len(differ),
            "known": sum(one.label != "other" for one in full),
            "differ": differ,
            "target": TARGET,
        },
    ]


def show(found: Sequence[Row], conditions: Row) -> None:
    """Prints the table and every label that differs."""
    console = Console(width=None if sys.stdout.isatty() else 180)
    columns = ("set", "side", "screenshots", "cpu_s_median", "cpu_s_mean", "finding_s_mean",
               "reading_s_mean", "judging_s_mean", "ratio_of_medians", "ratio_of_means", "lines",
               "lines_read", "same_label")  # fmt: skip
    table = Table(title="CPU-seconds for a screenshot", title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in {"set", "side"} else "right")
    for row in found:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    console.print(table)
    for row in found:
        for one in row.get("differ", ()):
            console.print(f"{one['screenshot']}: {one['full']} in full, {one['part']} on demand")
    console.print(", ".join(f"{key} {value}" for key, value in conditions.items()))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="make bench-demand", description=__doc__)
    parser.add_argument("--screens", type=Path, metavar="DIR", help="gallery/<label>/*, test/*/*")
    parser.add_argument("--count", type=int, default=32, help="real screenshots")
    parser.add_argument("--generated", type=int, default=16, help="drawn pages of 1080 px width")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--percepts", type=Path, help="compare what is kept here, without pixels")
    parser.add_argument("--store", type=Path, help="that the percepts are looked up in")
    parser.add_argument("--gallery", default="default")
    asked = parser.parse_args()
    if asked.percepts:
        with wiring.opened(asked.store, must_exist=True) as store:
            known = know(store, asked.gallery, "pagesight", 0.05)
            kept = PerceptFile(asked.percepts, known.snapshot.bundles)
            percepts = [one for one in kept.values() if one.reading is not None]
            print(json.dumps(asyncio.run(replay(known, percepts)), indent=2))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    where = {"out": asked.out, "bundles": asked.bundles}
    sets = [real(asked.screens, asked.count, **where)] if asked.screens else []
    sets += [generated(asked.generated, **where)] if asked.generated else []
    before = machine()
    found = [row for screens in sets for row in asyncio.run(measure(screens))]
    conditions = before | {"load_1_min_after": machine()["load_1_min"], "threads": 1}
    body = json.dumps([row | {"conditions": conditions} for row in found], indent=2)
    (asked.out / "demand.json").write_text(body + "\n", "utf-8")
    show(found, conditions)


if __name__ == "__main__":
    main()
