"""Labelled screenshots on disk, `DIR/<label>/*`: the one reader of such folders.

    DIR/<label>/  ──name, NFC──> label
    DIR/<label>/* ──regular file, not hidden, picture suffix──> its pictures
                            └──otherwise──> skipped, counted by reason

`index`, `evaluate` and `calibrate --validation` all read folders here, so they agree on which
files are pictures. Links are followed; nothing but regular files is ever opened.
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
"""File name endings of the formats that can be decoded, in lower case."""

HIDDEN = "hidden"
NOT_IN_A_LABEL_FOLDER = "in no label's folder"
NOT_NAMED_LIKE_A_PICTURE = "not named like a picture"
NO_REGULAR_FILE = "no regular file"
LINKED_TWICE = "a link to a folder that is read already"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFolder:
    """The pictures of a folder, grouped by label."""

    pictures: Mapping[str, tuple[Path, ...]]
    """The files of each label; labels and file names are sorted."""
    left_out: Mapping[str, int]
    """Number of files that were skipped, by reason."""

    @property
    def count(self) -> int:
        """Number of pictures."""
        return sum(map(len, self.pictures.values()))

    @property
    def left_out_in_words(self) -> str:
        """Skipped files as text, such as "2 hidden, 1 not named like a picture"; may be empty."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def read_folder(folder: Path) -> LabelledFolder:
    """Lists the pictures of `folder/<label>/*` without opening any.

    Args:
        folder: The parent of one folder per label, named by the label.

    Raises:
        SetupError: there is no such folder or no picture in it.
        InvalidRequestError: a folder that holds pictures has a name that cannot be a label.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder: name one that holds <label>/*.png")
    pictures: dict[str, list[Path]] = {}
    left_out: Counter[str] = Counter()
    resolved: set[Path] = set()
    # Real folders come before links, so that of a folder and a link to it the link is skipped.
    for label_folder in sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name)):
        if label_folder.name.startswith("."):
            left_out[HIDDEN] += 1
        elif not label_folder.is_dir():
            # Other files beside the folders, such as labels.toml, belong there.
            left_out[NOT_IN_A_LABEL_FOLDER] += _is_named_like_a_picture(label_folder)
        elif label_folder.resolve() in resolved:
            left_out[LINKED_TWICE] += 1
        else:
            resolved.add(label_folder.resolve())
            if files := _pictures_of(label_folder, left_out):
                pictures.setdefault(check_label(label_folder.name), []).extend(files)
    if not pictures:
        raise SetupError(
            f"{folder} holds no pictures: put them into one folder per label, <label>/*.png "
            "(or .jpg, .jpeg, .webp), unknown pages into other/ or other_<kind>/"
        )
    return LabelledFolder(
        pictures={label: tuple(sorted(pictures[label])) for label in sorted(pictures)},
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _pictures_of(label_folder: Path, left_out: Counter[str]) -> list[Path]:
    """The pictures directly in one label's folder; counts the files that it skips."""
    files = []
    for path in label_folder.iterdir():
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
    """Whether a path, its links followed, is a regular file: no folder, pipe or device."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
