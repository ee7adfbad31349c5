"""Which answers turn when screenshots are read in another way: bundles or `compute.reading`.

    sets ──read as FIRST──> gallery, tests ──> labels ─┐
      └────read as OTHER──> gallery, tests ──> labels ─┴─> shares that agree, and every difference

python -m tests.bench.bench_same_labels SCREENS=DIR --drawn 201:10:4:12 --side full=bundles,full
    --side cascade=bundles,cascade

A side is `NAME=BUNDLES`, a folder with `encoder` and `ocr`, maybe with `,READING` as
`compute.reading` takes it. Gallery and tests are read alike on each side, as a reindexed gallery
is. Everything stands in bench/same_labels.json, features in bench/features/NAME.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pagesight_server.common.errors import PagesightError
from pagesight_server.config import read_config
from pagesight_server.evaluation import Prediction, measure
from pagesight_server.recognition.calibration import EPSILON
from tests.bench.bench_recognition import named_folder
from tests.bench.measure import machine
from tests.bench.recognition.methods import OURS, answers
from tests.bench.recognition.sets import Drawing, ScreenSet, open_reader, variants
from tests.bench.recognition.tables import table

OUT = Path("bench")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One way of reading."""

    name: str
    bundles: Path
    reading: str | None
    """`compute.reading`; None as the configuration has it."""

    @staticmethod
    def parse(text: str) -> Side:
        """Reads `NAME=BUNDLES[,READING]`.

        Raises:
            ValueError: there is no `=`.
        """
        name, equals, rest = text.partition("=")
        if not equals or not name:
            raise ValueError(text)
        bundles, comma, reading = rest.partition(",")
        return Side(name=name, bundles=Path(bundles), reading=reading if comma else None)

    async def read(self, folders: Sequence[tuple[str, Path]], brands: bool) -> list[ScreenSet]:
        """All sets as this side reads them, each without brand names too if it has any.

        Args:
            folders: Name and folder of each set.
            brands: Whether to leave out the variants without brand names.
        """
        settings: dict[str, Any] = {"bundles": self.bundles}
        if self.reading is not None:
            settings["compute"] = {"reading": self.reading}
        features = OUT / "features" / self.name
        features.mkdir(parents=True, exist_ok=True)
        sets: list[ScreenSet] = []
        async with open_reader(read_config(None, settings), features) as reader:
            for name, folder in folders:
                print(f"{name}, read as {self.name}", file=sys.stderr, flush=True)
                sets += variants(await reader.read(name, folder), without_brands=not brands)
        return sets


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A screenshot whose label turned."""

    set_name: str
    path: str
    truth: str
    """Its label, or its kind of unknown page."""
    first: str
    other: str
    """What each side answers."""
    first_margin: float
    other_margin: float
    """Score less threshold on each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How far two sides agree on a set."""

    set_name: str
    screenshots: int
    same_label: float
    """Share with the same answer, `other` among them."""
    same_first_rank: float
    """Share with the same page ranked first, threshold or not."""
    micro_f1: tuple[float | None, float | None]
    auroc: tuple[float | None, float | None]
    false_rejection: tuple[float | None, float | None]
    rejected: tuple[float, float]
    """Share of unknown screenshots rejected. Each pair is the first side, then the other."""


def compare(
    name: str, first: Sequence[Prediction], other: Sequence[Prediction]
) -> tuple[Row, list[Difference]]:
    """Holds two sides' answers to the same screenshots against each other.

    Args:
        name: Of the set.
        first: Answers of the first side.
        other: Answers of the other side, in the same order.
    """
    pairs = list(zip(first, other, strict=True))
    if not pairs or any(a.path != b.path for a, b in pairs):
        raise ValueError(f"{name}: the sides did not answer the same screenshots")
    metrics = [measure(first), measure(other)]
    rejected = []
    for side in metrics:
        kinds = side.open_set.kinds.values()
        unknown = sum(kind.n for kind in kinds)
        rejected.append(sum(kind.rejected for kind in kinds) / unknown if unknown else 0.0)
    row = Row(
        set_name=name,
        screenshots=len(pairs),
        same_label=sum(a.label == b.label for a, b in pairs) / len(pairs),
        same_first_rank=sum(a.closed_label == b.closed_label for a, b in pairs) / len(pairs),
        micro_f1=(metrics[0].micro_f1, metrics[1].micro_f1),
        auroc=(metrics[0].open_set.auroc, metrics[1].open_set.auroc),
        false_rejection=(
            metrics[0].open_set.false_rejection_rate,
            metrics[1].open_set.false_rejection_rate,
        ),
        rejected=(rejected[0], rejected[1]),
    )
    return row, [
        Difference(
            set_name=name,
            path=a.path,
            truth=a.truth,
            first=a.label,
            other=b.label,
            first_margin=a.score - a.threshold,
            other_margin=b.score - b.threshold,
        )
        for a, b in pairs
        if a.label != b.label
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints how far the sides agree and each difference; returns the exit code."""
    options = _parser().parse_args(arguments)
    folders = [*options.sets, *((d.name, d.draw(OUT / "drawn")) for d in options.drawn)]
    first, *others = options.side
    try:
        read = {side.name: asyncio.run(side.read(folders, options.brands)) for side in options.side}
    except PagesightError as error:
        print(f"same-labels: {error}", file=sys.stderr)
        return 1
    saved: dict[str, Any] = {**machine(), "first": first.name, "others": {}}
    for other in others:
        rows, differences = [], []
        for one, another in zip(read[first.name], read[other.name], strict=True):
            row, turned = compare(one.name, *(_answers(side) for side in (one, another)))
            rows.append(row)
            differences += turned
        saved["others"][other.name] = {
            "rows": [asdict(row) for row in rows],
            "differences": [asdict(turned) for turned in differences],
        }
        print(f"{other.name} against {first.name}", rows_table(rows), sep="\n\n")
        print("", differences_table(differences), "", sep="\n")
    path: Path = options.json
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(saved, ensure_ascii=False, indent=1), "utf-8")
    return 0


def _answers(one: ScreenSet) -> tuple[Prediction, ...]:
    (ours,) = answers(one, epsilon=EPSILON, names=(OURS,))
    return ours.predictions


def rows_table(rows: Sequence[Row]) -> str:
    """How far two sides agree, set by set."""
    titles = ["set", "screenshots", "same label, %", "same first rank, %"]
    titles += ["micro-F1", "AUROC", "false rejection, %", "unknown rejected, %"]
    return table(
        titles,
        [
            [
                row.set_name,
                str(row.screenshots),
                f"{100 * row.same_label:.2f}",
                f"{100 * row.same_first_rank:.2f}",
                _pair(row.micro_f1, 1, 3),
                _pair(row.auroc, 1, 3),
                _pair(row.false_rejection, 100, 1),
                _pair(row.rejected, 100, 1),
            ]
            for row in rows
        ],
        left=1,
    )


def differences_table(differences: Sequence[Difference]) -> str:
    """Every screenshot whose label turned, with its margin over the threshold on each side."""
    titles = ["set", "screenshot", "answered", "now", "margin", "now"]
    return table(
        titles,
        [
            [
                one.set_name,
                one.path,
                one.first,
                one.other,
                f"{one.first_margin:+.3f}",
                f"{one.other_margin:+.3f}",
            ]
            for one in differences
        ],
        left=4,
    )


def _pair(values: tuple[float | None, float | None], scale: int, digits: int) -> str:
    return ", ".join("-" if v is None else f"{scale * v:.{digits}f}" for v in values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_same_labels", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "sets", nargs="*", type=named_folder, metavar="NAME=DIR", help="holds gallery/ and test/"
    )
    parser.add_argument(
        "--drawn", nargs="+", default=[], type=Drawing.parse, metavar="SEED:GALLERY:TEST:OTHER"
    )
    parser.add_argument(
        "--brands", action="store_true", help="leave out the variants without brand names"
    )
    parser.add_argument(
        "--side", action="append", required=True, type=Side.parse, metavar="NAME=BUNDLES[,READING]"
    )
    parser.add_argument("--json", type=Path, default=OUT / "same_labels.json", metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
