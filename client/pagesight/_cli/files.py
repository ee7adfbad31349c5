"""Which pictures the paths of a command line mean, and which label each has.

classify, enrol --label L     a file is itself, a folder all pictures below it
enrol                         a folder holds one folder per label
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_KINDS = "*.jpg, *.jpeg, *.png or *.webp"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """A picture to enrol."""

    path: Path
    label: str
    source: str
    """For the history: the path from the folder that was named, never a home folder."""


def pictures(paths: Iterable[Path]) -> list[Path]:
    """Returns the files that are named and the pictures below the folders that are.

    A file that does not exist is returned as it is: it fails as one picture does,
    beside the others.

    Raises:
        typer.BadParameter: A folder holds no picture.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = _below(path) if path.is_dir() else [path]
        if not below:
            raise typer.BadParameter(f"{path} holds no {_KINDS}", param_hint="PATH")
        found |= dict.fromkeys(below)
    return list(found)


def labelled(paths: Iterable[Path], label: str) -> list[LabelledFile]:
    """Returns the pictures to enrol, by label: the one given or their folders' names.

    Raises:
        typer.BadParameter: A picture would have no label.
    """
    if label:
        return [LabelledFile(path=path, label=label, source=path.name) for path in pictures(paths)]
    found = []
    for folder in paths:
        if not folder.is_dir():
            raise typer.BadParameter(
                f"{folder} is not a folder of label folders: say which page it shows with --label",
                param_hint="PATH",
            )
        inside = [
            LabelledFile(path=path, label=page.name, source=f"{page.name}/{path.name}")
            for page in sorted(folder.iterdir())
            if page.is_dir() and not page.name.startswith(".")
            for path in sorted(page.iterdir())
            if _is_picture(path)
        ]
        if not inside:
            raise typer.BadParameter(
                f"{folder} holds no <label>/{_KINDS}: make one folder per label, or give --label",
                param_hint="PATH",
            )
        found += inside
    return sorted(found, key=lambda file: file.label)


def unlabelled(paths: Iterable[Path], label: str) -> Iterator[tuple[Path, int]]:
    """Yields the folders whose own pictures `labelled` leaves out, and how many."""
    for folder in paths if not label else ():
        if left_out := sum(map(_is_picture, folder.iterdir())):
            yield folder, left_out


def _below(folder: Path) -> list[Path]:
    return sorted(
        Path(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if _is_picture(Path(name))
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
