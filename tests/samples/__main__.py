"""`python -m tests.samples OUT`: sample screenshots on disk."""

import argparse
import sys
from pathlib import Path

from tests.samples.dataset import SETS, write_dataset
from tests.samples.fonts import FontMissingError

COUNTS = {"all": (10, 6, 12), "demo": (4, 2, 1)}
"""Default counts: pictures per label in gallery and test set, pictures per unknown kind."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.samples",
        description="Draw sample screenshots: OUT/gallery to index, OUT/test to evaluate. "
        "The same seed gives the same files.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--labels",
        choices=sorted(SETS),
        default="all",
        help="all 22 labels, or the few of the demo",
    )
    parser.add_argument("--gallery", type=int, metavar="N", help="per label (all: 10, demo: 4)")
    parser.add_argument("--test", type=int, metavar="N", help="per label (all: 6, demo: 2)")
    parser.add_argument(
        "--other", type=int, metavar="N", help="per kind of unknown page (all: 12, demo: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--width", type=int, metavar="PX", help="default: those of common phones")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes, default 2")
    return parser


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else ""
        print(f"\r{done}/{total} screenshots", end=end, file=sys.stderr, flush=True)


def main() -> int:
    """Write the set that the command line asks for."""
    options = _parser().parse_args()
    counts = zip(
        (options.gallery, options.test, options.other), COUNTS[options.labels], strict=True
    )
    gallery, test, other = (usual if given is None else given for given, usual in counts)
    try:
        write_dataset(
            options.out,
            labels=SETS[options.labels],
            gallery=gallery,
            test=test,
            other=other,
            seed=options.seed,
            width=options.width,
            jobs=options.jobs,
            progress=_progress,
        )
    except (FontMissingError, OSError) as error:
        print(f"samples: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
