"""Distinct screenshots to measure with, and a gallery to look them up in.

    DIR/gallery/<label>/* ──index──> OUT/real.db         DIR/test/*/* ──spread──> screenshots
    a drawer of pages ──OUT/generated──> the same again, all 1080 pixels wide

A store that is there already is completed, so a second run begins sooner.
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
    """Distinct screenshots of one origin and a gallery to look them up in."""

    name: str
    config: Config
    paths: Sequence[Path]
    """In an order that spreads each page over them all."""
    pictures: Sequence[bytes]
    """What the files hold."""


def real(folder: Path, count: int, *, out: Path, bundles: Path) -> Screens:
    """So many of a folder with `gallery/<label>/*` and `test/*/*`.

    Args:
        folder: Of screenshots.
        count: How many of `test`.
        out: Where the store is made, or found and completed.
        bundles: The models that the gallery is made with.
    """
    return _set("real", folder, count, out=out, bundles=bundles)


def generated(count: int, *, out: Path, bundles: Path) -> Screens:
    """So many drawn pages of 1080 pixels width; arguments as in `real`."""
    drawn = out / "generated"
    # 5 labels and 6 kinds of unknown pages.
    each = str(-(-count // 5))
    _run("tests.samples", str(drawn), "--labels", "demo", "--gallery", "3", "--test", each,
         "--other", "1", "--width", "1080")  # fmt: skip
    return _set("generated", drawn, count, out=out, bundles=bundles)


def _set(name: str, folder: Path, count: int, *, out: Path, bundles: Path) -> Screens:
    paths = sorted(path for path in (folder / "test").glob("*/*") if path.is_file())
    if len(paths) < count:
        raise SystemExit(f"{count} distinct screenshots are needed, {folder} has {len(paths)}")
    chosen = [paths[i * len(paths) // count] for i in range(count)]
    # Neighbours show the same page: spread them over the rounds.
    np.random.default_rng(0).shuffle(chosen)
    store = out / f"{name}.db"
    _run("pagesight_server", "index", str(folder / "gallery"),
         "--store", str(store), "--bundles", str(bundles))  # fmt: skip
    config = read_config(None, {"store": store, "bundles": bundles})
    pictures = [path.read_bytes() for path in chosen]
    return Screens(name=name, config=config, paths=chosen, pictures=pictures)


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)
