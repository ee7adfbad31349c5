"""Wrong and doubtful answers as pictures for the docs: each beside the page it was taken for.

Of drawn pages only: their text is made up.

    SET/test, R/predictions.jsonl ──> the answers named ──> OUT/<name>.webp

.venv/bin/python -m tests.bench.failures SET R docs/pictures brandless=dyfxj_user_info/c4b7.jpg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

HEIGHT_PX, GAP_PX, CAPTION_PX = 560, 12, 44
MAX_BYTES = 60_000


def main() -> None:
    """Writes one picture for each NAME=PATH."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("set", type=Path, help="What `python -m tests.samples` drew.")
    parser.add_argument("report", type=Path, help="What `pagesight-server evaluate` wrote.")
    parser.add_argument("out", type=Path)
    parser.add_argument("answers", nargs="+", metavar="NAME=PATH", help="Paths begin as in R.")
    arguments = parser.parse_args()
    lines = (arguments.report / "predictions.jsonl").read_text("utf-8").splitlines()
    found = {row["path"]: row for row in map(json.loads, lines)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for answer in arguments.answers:
        name, _, begins = answer.partition("=")
        (path,) = (path for path in found if path.startswith(begins))
        row = found[path]
        asked = Image.open(arguments.set / "test" / path).convert("RGB")
        pages = sorted((arguments.set / "gallery" / row["closed_label"]).iterdir())
        like = min((Image.open(page).convert("RGB") for page in pages), key=_unlike(asked))
        target = arguments.out / f"{name}.webp"
        beside(asked, like, row).save(target, quality=70, method=6)
        size = target.stat().st_size
        if size > MAX_BYTES:
            raise SystemExit(f"{target} has {size} bytes, more than {MAX_BYTES}")
        print(f"{target}: {size} bytes")


def beside(asked: Image.Image, like: Image.Image, row: dict[str, str | float]) -> Image.Image:
    """Both pictures at one height, and below each what it is."""
    sides = [
        (asked, f"{row['truth']}", f"answered {row['label']}"),
        (like, f"{row['closed_label']}", f"score {row['score']:.2f}, limit {row['threshold']:.2f}"),
    ]
    shots = [
        side.resize((round(side.width * HEIGHT_PX / side.height), HEIGHT_PX)) for side, *_ in sides
    ]
    width = sum(shot.width for shot in shots) + GAP_PX
    made = Image.new("RGB", (width, HEIGHT_PX + CAPTION_PX), "white")
    draw = ImageDraw.Draw(made)
    left = 0
    for shot, (_, *caption) in zip(shots, sides, strict=True):
        made.paste(shot, (left, 0))
        draw.text((left, HEIGHT_PX + 4), "\n".join(caption), fill="black", font_size=14)
        left += shot.width + GAP_PX
    return made


def _unlike(asked: Image.Image) -> Callable[[Image.Image], float]:
    """How different a picture looks: of a page's pictures, the one to show is the least."""

    def small(picture: Image.Image) -> NDArray[np.float32]:
        return np.asarray(picture.convert("L").resize((32, 64)), np.float32)

    mine = small(asked)
    return lambda other: float(np.abs(small(other) - mine).mean())


if __name__ == "__main__":
    main()
