"""Sets of distinct screenshots for benchmarks, each with its gallery.

    DIR/gallery/<label>/* ──index──> OUT/real.db         DIR/test/*/* ──shuffled──> screenshots
    tests.samples ──OUT/generated──> the same of generated pages, all 1080 pixels wide

An existing store is completed, so that a second run starts sooner.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pagesight_server.config import Config, read_config


@dataclass(frozen=True, slots=True, kw_only=True)
class Screens:
    """Distinct screenshots of one origin, and the gallery that they are classified against."""

    name: str
    config: Config
    """Settings with the store of the gallery and the bundles."""
    paths: Sequence[Path]
    """Files in random order, so that no page is concentrated in one round."""
    pictures: Sequence[bytes]
    """Contents of the files."""


def real(folder: Path, count: int, *, out: Path, bundles: Path) -> Screens:
    """Chooses screenshots from a folder with `gallery/<label>/*` and `test/*/*`.

    Args:
        folder: The folder.
        count: How many to choose from `test`.
        out: Folder of the store, which is created or completed.
        bundles: Folder of the model bundles for the gallery.
    """
    return _set("real", folder, count, out=out, bundles=bundles)


def generated(count: int, *, out: Path, bundles: Path) -> Screens:
    """Generates pages of 1080 pixels width; the arguments are those of `real`."""
    drawn = out / "generated"
    # A fifth for each of the six labels of the demo, so there are more than `count` in all.
    each = str(-(-count // 5))
    _run("tests.samples", str(drawn), "--labels", "demo", "--gallery", "3", "--test", each,
         "--other", "1", "--width", "1080")  # fmt: skip
    return _set("generated", drawn, count, out=out, bundles=bundles)


def _set(name: str, folder: Path, count: int, *, out: Path, bundles: Path) -> Screens:
    paths = sorted(path for path in (folder / "test").glob("*/*") if path.is_file())
    if len(paths) < count:
        raise SystemExit(f"{count} distinct screenshots are needed, {folder} has {len(paths)}")
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    # Neighbouring files show the same page: shuffling spreads them over the rounds.
    np.random.default_rng(0).shuffle(chosen)
    store = out / f"{name}.db"
    _run("pagesight_server", "index", str(folder / "gallery"),
         "--store", str(store), "--bundles", str(bundles))  # fmt: skip
    config = read_config(None, {"store": store, "bundles": bundles})
    pictures = [path.read_bytes() for path in chosen]
    return Screens(name=name, config=config, paths=chosen, pictures=pictures)


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)
