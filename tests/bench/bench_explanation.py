"""What explaining an answer costs: CPU time of one candidate's page, by lines and pictures.

    drawn pages of one label ──compare_with_page──> milliseconds of a core

.venv/bin/python -m tests.bench.bench_explanation
"""

from __future__ import annotations

import random
import time

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.candidates import Candidate
from pagesight_server.recognition.explanation import compare_with_page
from pagesight_server.text.reading import Reading
from tests.support.parts import reading, snapshot

SIZES = ((45, 64, 0.1), (45, 64, 0.6), (2_000, 1, 0.5), (2_000, 8, 0.2))
"""Lines of a picture, pictures of the label, and the share of lines that differ between two."""

CHARACTERS = "可用额度立即还款我的账单设置关于放心借平安"
LINE_CHARACTERS = 12
RUNS = 5


def main() -> None:
    """Prints a row for each size: the median of some runs."""
    print("lines pictures differing cpu_ms")
    for lines, pictures, differing in SIZES:
        gallery, asked = _pages(lines, pictures, differing)
        candidate = Candidate(label="a", row=0, visual=1.0, textual=1.0, terms=())
        runs_ms = []
        for _ in range(RUNS):
            began_s = time.thread_time()
            compare_with_page(gallery, asked, candidate)
            runs_ms.append(1000 * (time.thread_time() - began_s))
        print(f"{lines:5} {pictures:8} {differing:9.1f} {sorted(runs_ms)[RUNS // 2]:6.1f}")


def _pages(lines: int, pictures: int, differing: float) -> tuple[Snapshot, Reading]:
    """A gallery of one label, and a screenshot of the same page."""
    rng = random.Random(0)

    def line() -> str:
        return "".join(rng.choices(CHARACTERS, k=LINE_CHARACTERS))

    template = [line() for _ in range(lines)]

    def page() -> list[str]:
        return [line() if rng.random() < differing else text for text in template]

    gallery = snapshot(*(("a", (1, 0), page()) for _ in range(pictures)))
    return gallery, reading(*page())


if __name__ == "__main__":
    main()
