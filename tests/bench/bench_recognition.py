"""How right recognition is on many sets at once, against its parts and the published method.

    sets, drawn sets ──seen and read once──> variants ──┬─> methods: figures, splits, the rule
                                                        ├─> --curve: 1 to 8 pictures a page
                                                        └─> --sensitivity: each constant moved

make bench-recognition SETS="NAME=DIR DIR ..." ARGS="--drawn 201:10:4:12 --per-page 3 --curve"

A DIR holds `gallery/` and `test/` as `evaluate` takes them, and maybe `PROVENANCE.tsv`. Everything
goes to bench/recognition.json, features to bench/features: a second run reads no picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pagesight_server.common.errors import PagesightError
from pagesight_server.config import Config, read_config
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.recognition.calibration import EPSILON
from tests.bench.measure import machine
from tests.bench.recognition.constants import CONSTANTS, sensitivity
from tests.bench.recognition.curve import curve
from tests.bench.recognition.results import judge
from tests.bench.recognition.sets import Drawing, ScreenSet, open_reader, variants
from tests.bench.recognition.tables import (
    curve_table,
    differences_table,
    methods_table,
    rule_table,
    sensitivity_table,
    splits_table,
    terms_table,
)

OUT = Path("bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was measured and keeps it in a file; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if not options.sets and not options.drawn:
        parser.error("say which sets: make bench-recognition SETS='DIR ...', or --drawn 1:10:4:12")
    titles = {constant.title: constant for constant in CONSTANTS}
    for title in options.sensitivity or ():
        if title not in titles:
            parser.error(f"no constant {title}: there are {', '.join(titles)}")
    constants = [titles[title] for title in options.sensitivity or titles]
    before = json.loads(options.against.read_text("utf-8")) if options.against else None
    (OUT / "features").mkdir(parents=True, exist_ok=True)
    config = read_config(None, {"bundles": options.bundles})
    try:
        sets, bundles = asyncio.run(_read(config, options))
    except PagesightError as error:
        print(f"bench-recognition: {error}", file=sys.stderr)
        return 1
    for one in sets:
        if one.unreadable:
            print(f"{one.name}: could not be used: {', '.join(one.unreadable)}", file=sys.stderr)

    saved: dict[str, Any] = {
        **machine(),
        "bundles": asdict(bundles),
        "epsilon": options.epsilon,
        "sets": [],
    }
    if not options.no_methods:
        results = []
        for one in sets:
            _say(f"{one.name}: methods")
            results.append(judge(one, epsilon=options.epsilon))
        saved["sets"] = [result.to_json() for result in results]
        _keep(options.json, saved)
        print(methods_table(results, before), terms_table(results), sep="\n\n")
        print("", rule_table(results), sep="\n")
        if split := splits_table(results):
            print("", split, sep="\n")
        if before is not None:
            print("", differences_table(results, before), sep="\n")
    if options.curve:
        points = []
        for one in sets:
            _say(f"{one.name}: curve")
            points += curve(one, epsilon=options.epsilon)
        saved["curve"] = [asdict(point) for point in points]
        _keep(options.json, saved)
        print("", curve_table(points), sep="\n")
    if options.sensitivity is not None:
        effects = []
        for one in sets:
            for effect in sensitivity(one, epsilon=options.epsilon, constants=constants):
                _say(f"{one.name}: {effect.constant} as {effect.tried:.3g}")
                effects.append(effect)
                saved["sensitivity"] = [asdict(effect) for effect in effects]
                _keep(options.json, saved)
        print("", sensitivity_table(effects, constants), sep="\n")
    return 0


async def _read(config: Config, options: argparse.Namespace) -> tuple[list[ScreenSet], Bundles]:
    """All sets and their variants, seen and read."""
    folders = [(name, folder) for name, folder in options.sets]
    for drawing in options.drawn:
        _say(f"{drawing.name}: drawing")
        folders.append((drawing.name, drawing.draw(OUT / "drawn")))
    sets: list[ScreenSet] = []
    async with open_reader(config, OUT / "features") as reader:
        for name, folder in folders:
            _say(f"{name}: features")
            screen_set = await reader.read(name, folder)
            sets += variants(
                screen_set, per_page=options.per_page, without_brands=options.without_brands
            )
        return sets, reader.bundles


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench_recognition", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "sets", nargs="*", type=named_folder, metavar="[NAME=]DIR", help="holds gallery/ and test/"
    )
    parser.add_argument(
        "--drawn",
        nargs="+",
        default=[],
        type=Drawing.parse,
        metavar="SEED:GALLERY:TEST:OTHER",
        help="sets of sample pages to draw below bench/drawn, as `python -m tests.samples` does",
    )
    parser.add_argument(
        "--per-page",
        nargs="+",
        default=[],
        type=int,
        metavar="N",
        help="also measure each set with at most N gallery pictures a page, where it has more",
    )
    parser.add_argument(
        "--without-brands",
        action="store_true",
        help="also measure each set that has a labels.toml without it",
    )
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR")
    parser.add_argument(
        "--epsilon", type=float, default=EPSILON, help="share of known pages that may be rejected"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="the JSON of an earlier run to compare with"
    )
    parser.add_argument("--json", type=Path, default=OUT / "recognition.json", metavar="FILE")
    parser.add_argument("--curve", action="store_true", help="1, 2, 3, 5 and 8 pictures a page")
    parser.add_argument(
        "--sensitivity",
        nargs="*",
        metavar="CONSTANT",
        help="half and twice of every constant, or of those named, as scorer.MAX_TRUST",
    )
    parser.add_argument(
        "--no-methods", action="store_true", help="leave out the table of sets and methods"
    )
    return parser


def named_folder(text: str) -> tuple[str, Path]:
    """Reads `NAME=DIR`, or `DIR`, which is called as its folder."""
    name, equals, folder = text.partition("=")
    path = Path(folder if equals else text)
    return (name if equals else path.resolve().name), path


def _keep(path: Path, saved: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(saved, ensure_ascii=False, indent=1), "utf-8")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
