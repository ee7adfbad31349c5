"""Labelled screenshots on disk, `DIR/<label>/*`: the one reader of such folders.

    DIR/<label>/  ──name, NFC──> label
    DIR/<label>/* ──regular file, not hidden, named like a picture──> its pictures
                            └──no──> left out, counted by reason

`index`, `evaluate` and `calibrate --validation` read folders here, so that a file that one of
them takes is taken by all. Links are followed; nothing but regular files is ever opened.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.snapshot import check_label

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

HIDDEN = "hidden"
NOT_IN_A_LABEL_FOLDER = "in no label's folder"
NOT_NAMED_LIKE_A_PICTURE = "not named like a picture"
NO_REGULAR_FILE = "no regular file"
LINKED_TWICE = "a link to a folder that is read already"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFolder:
    """The pictures of a folder, by label."""

    pictures: Mapping[str, tuple[Path, ...]]
    """Labels in order; each label's files by name."""
    left_out: Mapping[str, int]
    """How many files were left out, by reason, in words."""

    @property
    def count(self) -> int:
        """How many pictures there are."""
        return sum(map(len, self.pictures.values()))

    @property
    def left_out_in_words(self) -> str:
        """What was left out, for a person; empty when nothing was."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def read_folder(folder: Path) -> LabelledFolder:
    """Lists the pictures of `folder/<label>/*` without opening any.

    Args:
        folder: Holds one folder per label; its name is the label.

    Raises:
        SetupError: there is no such folder or no picture in it.
        InvalidRequestError: a folder that holds pictures has a name that cannot be a label.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is no folder: give one that holds <label>/*.png")
    pictures: dict[str, list[Path]] = {}
    left_out: Counter[str] = Counter()
    read_already: set[Path] = set()
    # Real folders before links, so that a link to one of them is what is left out.
    for page in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
        if page.name.startswith("."):
            left_out[HIDDEN] += 1
        elif not page.is_dir():
            # Whatever else lies beside the folders, labels.toml first of all, is meant to.
            left_out[NOT_IN_A_LABEL_FOLDER] += _is_named_like_a_picture(page)
        elif page.resolve() in read_already:
            left_out[LINKED_TWICE] += 1
        else:
            read_already.add(page.resolve())
            if files := _pictures_of(page, left_out):
                pictures.setdefault(check_label(page.name), []).extend(files)
    if not pictures:
        raise SetupError(
            f"{folder} holds no pictures: put them into one folder per label, <label>/*.png "
            "(or .jpg, .jpeg, .webp), unknown pages into other/ or other_<kind>/"
        )
    return LabelledFolder(
        pictures={label: tuple(sorted(pictures[label])) for label in sorted(pictures)},
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _pictures_of(page: Path, left_out: Counter[str]) -> list[Path]:
    """The pictures directly in one label's folder; counts what is left out."""
    files = []
    for path in page.iterdir():
        if path.name.startswith("."):
            left_out[HIDDEN] += 1
        elif not _is_named_like_a_picture(path):
            left_out[NOT_NAMED_LIKE_A_PICTURE] += 1
        elif not _is_regular_file(path):
            left_out[NO_REGULAR_FILE] += 1
        else:
            files.append(path)
    return files


def _is_named_like_a_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _is_regular_file(path: Path) -> bool:
    """Whether a path leads to a regular file: no folder, pipe or device, no dangling link."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
