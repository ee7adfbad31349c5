"""By how much the score of a page moves when something happens to its screenshot.

drawn gallery, drawn pages ──alterations──> answers before and after ──> one row an alteration

python -m tests.bench.bench_alterations --gallery 3
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.samples import LABELS
from tests.support.alterations import ALTERATIONS, Outcome, drawn_page, outcomes


def main() -> None:
    """Prints the table of docs/recognition.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--gallery", type=int, default=3, help="Pictures of each page.")
    parser.add_argument("--seed", type=int, default=9_001, help="Of the pages asked for.")
    parser.add_argument("--labels", nargs="+", default=LABELS)
    arguments = parser.parse_args()
    names = [(name,) for name in ALTERATIONS]
    tries = ((drawn_page(label, arguments.seed), names) for label in arguments.labels)
    made = asyncio.run(outcomes(arguments.bundles, LABELS, arguments.gallery, tries))
    print("| alteration | median | least | most | other page | rejected | review |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for name in ALTERATIONS:
        print(row(name, [outcome for outcome in made if outcome.alterations == (name,)]))


def row(name: str, made: Sequence[Outcome]) -> str:
    """The moves of the score, and what became of the answers, as a row of the table."""
    moves = [outcome.after.score - outcome.before.score for outcome in made]
    turned = sum(o.after.closest_label != o.before.closest_label for o in made)
    rejected = sum(o.after.label != o.before.label for o in made) - turned
    review = sum(o.after.review and not o.before.review for o in made)
    return (
        f"| {name} | {np.median(moves):+.3f} | {min(moves):+.3f} | {max(moves):+.3f} "
        f"| {turned} | {rejected} | {review} |"
    )


if __name__ == "__main__":
    main()
