"""Reading on demand against reading in full, over what was seen and read once.

    pagesight-server evaluate SCREENS/test --store S --out R --percepts FILE
    python -m tests.bench.bench_demand --store S --percepts FILE

Each kept screenshot is classified twice by the `Pipeline`: from all its lines, and on demand, where
a line costs nothing but is counted when it is asked for. Boxes in which reading found no text are
not kept, so they are not counted on either side.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pagesight_server.arrays import Embedding, Pixels
from pagesight_server.decision import Knowledge
from pagesight_server.demand import Found, Outline
from pagesight_server.evaluation.percepts import PerceptFile
from pagesight_server.live import know
from pagesight_server.pipeline import Answer, Percept, Pipeline
from pagesight_server.text import Reading, TextLine
from pagesight_server.wiring import opened


@dataclass(frozen=True, slots=True)
class Kept:
    """Models that say what was kept of one screenshot."""

    percept: Percept
    reading: Reading

    async def encode(self, pixels: Pixels) -> Embedding:
        """The embedding."""
        return self.percept.embedding

    async def read(self, pixels: Pixels) -> Reading:
        """All lines."""
        return self.reading

    async def find(self, pixels: Pixels) -> Found:
        """The boxes of all lines."""

        async def some(numbers: Sequence[int]) -> list[TextLine | None]:
            return [self.reading.lines[number] for number in numbers]

        boxes = tuple(line.box for line in self.reading.lines)
        outline = Outline(
            width_px=self.reading.width_px, height_px=self.reading.height_px, boxes=boxes
        )
        return Found(outline=outline, read=some)


async def both(known: Knowledge, percept: Percept) -> tuple[Answer, Answer, float]:
    """The answer in full, the answer on demand, and the CPU-seconds of the latter."""
    models = Kept(percept, percept.reading or Reading(width_px=1, height_px=1, lines=()))
    full = Pipeline(
        decode=lambda _data: np.zeros((1, 1, 3), np.uint8),
        encode=models.encode,
        read=models.read,
        knowledge=lambda _name: known,
    )
    start = time.process_time()
    answer = await replace(full, find=models.find).classify(b"")
    judging_s = time.process_time() - start
    return await full.classify(b""), answer, judging_s


async def measure(known: Knowledge, percepts: Sequence[Percept]) -> dict[str, object]:
    """Compares both over all screenshots."""
    answers = [await both(known, percept) for percept in percepts]
    lines = sum(len(full.query.reading.lines) for full, _, _ in answers if full.query.reading)
    judging_s = sum(cpu_s for _, _, cpu_s in answers)
    return {
        "screenshots": len(answers),
        "same_label": sum(full.decision.label == part.decision.label for full, part, _ in answers),
        "accepted": sum(full.decision.label != "other" for full, _, _ in answers),
        "lines": lines,
        "lines_read": lines - sum(part.unread for _, part, _ in answers),
        "read_in_full": sum(part.unread == 0 for _, part, _ in answers),
        "judging_cpu_ms": round(1000 * judging_s / len(answers), 1),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--percepts", type=Path, required=True)
    parser.add_argument("--gallery", default="default")
    options = parser.parse_args()
    with opened(options.store, must_exist=True) as store:
        known = know(store, options.gallery, "pagesight", 0.05)
        kept = PerceptFile(options.percepts, known.snapshot.bundles)
        percepts = [one for one in kept.values() if one.reading is not None]
        print(json.dumps(asyncio.run(measure(known, percepts)), indent=2))


if __name__ == "__main__":
    main()
