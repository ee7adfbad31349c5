"""Reading on demand over what was seen and read once: labels of hundreds in seconds.

    percept ──all its lines──────────────> answer ─┐
       └──a line costs nothing but counts─> answer ┴─> same label? how many lines?

`bench_demand.py` runs it. Boxes in which reading found no text are not kept, so they are not
counted on either side.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.recognition.decision import Knowledge
from pagesight_server.text.reading import Reading, TextLine
from pagesight_server.workflows.demand import Found, Outline
from pagesight_server.workflows.pipeline import Answer, Percept, Pipeline


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


async def replay(known: Knowledge, percepts: Sequence[Percept]) -> dict[str, object]:
    """Compares both over all that was kept."""
    answers = [await both(known, percept) for percept in percepts]
    lines = sum(len(full.query.reading.lines) for full, _, _ in answers if full.query.reading)
    judging_s = sum(cpu_s for _, _, cpu_s in answers)
    width = sum(_length(full.query.reading) for full, _, _ in answers)
    width_read = sum(_length(part.query.reading) for _, part, _ in answers)
    return {
        "screenshots": len(answers),
        "same_label": sum(full.decision.label == part.decision.label for full, part, _ in answers),
        "accepted": sum(full.decision.label != "other" for full, _, _ in answers),
        "lines": lines,
        "lines_read": lines - sum(part.unread for _, part, _ in answers),
        "width_read": round(width_read / max(1e-9, width), 3),
        "read_in_full": sum(part.unread == 0 for _, part, _ in answers),
        "judging_cpu_ms": round(1000 * judging_s / len(answers), 1),
    }


def _length(reading: Reading | None) -> float:
    """How long all lines are together, each in its height: what recognising them costs."""
    boxes = [line.box for line in reading.lines] if reading else []
    return sum((box.right - box.left) / max(1, box.bottom - box.top) for box in boxes)
