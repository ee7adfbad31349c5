"""Labelled screenshots on disk, `DIR/<label>/*`: the one reader of such folders.

    DIR/<label>/  ──name, NFC──> label
    DIR/<label>/* ──regular file, not hidden, a picture by its name──> its pictures
                            │           └──no suffix──> by its first bytes
                            └──no──> left out, counted by reason

`index`, `evaluate` and `calibrate --validation` read folders here, so that a file that one of
them takes is taken by all. Links are followed; nothing but regular files is ever opened. The
client reads folders by the same rules (`pagesight._cli.files`), and may share no code with the
server: tests/unit/test_folders.py holds both to one table.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.snapshot import check_label

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif"}
)
"""Suffixes of pictures; a kind that cannot be decoded is refused by name, not left out unseen."""

_OTHER_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*")
"""A suffix that names a kind of file. `Screenshot_2026.01.31-12` has none, whatever dots it has."""

_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"}
)
"""Brands of ISO/IEC 23008-12, the container that HEIC and AVIF share."""

_HEAD_BYTES = 12
"""Bytes read of a file without a suffix; the longest signature, of WebP and HEIF, ends there."""

HIDDEN = "hidden"
NOT_IN_A_LABEL_FOLDER = "in no label's folder"
NOT_NAMED_LIKE_A_PICTURE = "not named like a picture"
NO_REGULAR_FILE = "no regular file"
FOLDER = "a folder in a label's folder"
NOT_READABLE = "a folder that cannot be read"
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
        """How many pictures there are, those under all labels."""
        return sum(map(len, self.pictures.values()))

    @property
    def left_out_in_words(self) -> str:
        """Skipped files as text, such as "2 hidden, 1 not named like a picture"; may be empty."""
        return ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))


def read_folder(folder: Path) -> LabelledFolder:
    """Lists the pictures of `folder/<label>/*`; opens only files without a suffix.

    Args:
        folder: The parent of one folder per label, named by the label.

    Raises:
        SetupError: there is no such folder or no picture in it.
        InvalidRequestError: a folder that holds pictures has a name that cannot be a label.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is not a folder: name one that holds <label>/*.png")
    try:
        pages = list(folder.iterdir())
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror}") from None
    pictures: dict[str, list[Path]] = {}
    left_out: Counter[str] = Counter()
    read_already: set[tuple[int, int]] = set()
    # Real folders before links, so that a link to one of them is what is left out.
    for page in sorted(pages, key=lambda path: (path.is_symlink(), path.name)):
        status = _status(page)
        if page.name.startswith("."):
            left_out[HIDDEN] += 1
        elif status is None or not stat.S_ISDIR(status.st_mode):
            # Whatever else lies beside the folders, labels.toml first of all, is meant to.
            left_out[NOT_IN_A_LABEL_FOLDER] += page.suffix.lower() in SUFFIXES
        elif (status.st_dev, status.st_ino) in read_already:
            left_out[LINKED_TWICE] += 1
        else:
            read_already.add((status.st_dev, status.st_ino))
            if files := _pictures_of(page, left_out):
                pictures.setdefault(check_label(page.name), []).extend(files)
    found = LabelledFolder(
        pictures={label: tuple(sorted(pictures[label])) for label in sorted(pictures)},
        left_out={reason: count for reason, count in left_out.items() if count},
    )
    if not pictures:
        why = f" (left out: {found.left_out_in_words})" if found.left_out else ""
        raise SetupError(
            f"{folder} holds no pictures{why}: put them into one folder per label, <label>/*.png "
            "(or .jpg, .jpeg, .webp), unknown pages into other/ or other_<kind>/"
        )
    return found


def _pictures_of(page: Path, left_out: Counter[str]) -> list[Path]:
    """The pictures directly in one label's folder; counts what is left out."""
    try:
        inside = list(page.iterdir())
    except OSError:
        left_out[NOT_READABLE] += 1
        return []
    files = []
    for path in inside:
        if reason := _why_left_out(path):
            left_out[reason] += 1
        else:
            files.append(path)
    return files


def _why_left_out(path: Path) -> str:
    """The reason why a file is not taken for a picture; empty where it is."""
    if path.name.startswith("."):
        return HIDDEN
    named = path.suffix.lower() in SUFFIXES
    status = _status(path)
    if status is not None and stat.S_ISDIR(status.st_mode):
        return FOLDER
    if not named and _OTHER_SUFFIX.fullmatch(path.suffix):
        return NOT_NAMED_LIKE_A_PICTURE
    if status is None or not stat.S_ISREG(status.st_mode):
        return NO_REGULAR_FILE if named else NOT_NAMED_LIKE_A_PICTURE
    return "" if named or _begins_like_a_picture(path) else NOT_NAMED_LIKE_A_PICTURE


def _status(path: Path) -> os.stat_result | None:
    """What a path leads to; None where that is nothing, as with a dangling link."""
    try:
        return path.stat()
    except OSError:
        return None


def _begins_like_a_picture(path: Path) -> bool:
    """Whether the first bytes of a regular file are those of a picture."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return (
        head.startswith(
            (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"II+\0")
        )
        or (head[:4], head[8:]) == (b"RIFF", b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS)
    )
