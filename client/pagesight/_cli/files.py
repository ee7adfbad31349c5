"""Which pictures the paths of a command line mean, and which label each has.

    classify, enrol --label L     a file is itself, a folder all pictures below it
    enrol                         a folder holds one folder per label

    in a folder ──regular file, not hidden, a picture by its name──> a picture
                            │           └──no suffix──> by its first bytes
                            └──no──> left out, counted by reason

Links are followed, each folder is read once, and nothing but regular files is ever opened. The
server reads folders by the same rules (`pagesight_server.gallery.folder`), and may share no code
with the client: tests/unit/test_folders.py holds both to one table.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import typer

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif"}
)
"""Suffixes of pictures; a kind that the server cannot decode is refused, not left out unseen."""

_KINDS = "*.jpg, *.jpeg, *.png or *.webp"

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

_File = TypeVar("_File")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledFile:
    """Names a picture to enrol, and the label that its folder gives it."""

    path: Path
    label: str
    source: str
    """For the history: the path from the folder that was named, never a home folder."""

    @property
    def size_bytes(self) -> int:
        """How long the file is; 0 where it is none."""
        status = _status(self.path)
        return status.st_size if status else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[_File]):
    """What a command line means."""

    pictures: tuple[_File, ...]
    left_out: Mapping[str, int]
    """How many files and folders were left out, by reason, in words."""

    @property
    def left_out_in_words(self) -> str:
        """What was left out, for a person; empty when nothing was."""
        return _in_words(self.left_out)


def pictures(paths: Iterable[Path]) -> Found[Path]:
    """Returns the files that are named and the pictures below the folders that are.

    A file that does not exist is returned as it is: it fails as one picture does,
    beside the others.

    Raises:
        typer.BadParameter: A folder holds no picture.
    """
    files: dict[Path, None] = {}
    left_out: Counter[str] = Counter()
    for path in paths:
        below = _below(path, left_out) if path.is_dir() else [path]
        if not below:
            raise typer.BadParameter(
                f"{path} holds no {_KINDS}{_in_brackets(left_out)}", param_hint="PATH"
            )
        files |= dict.fromkeys(below)
    return Found(pictures=tuple(files), left_out=_counted(left_out))


def labelled(paths: Iterable[Path], label: str) -> Found[LabelledFile]:
    """Returns the pictures to enrol, by label: the one given or their folders' names.

    Raises:
        typer.BadParameter: A picture would have no label.
    """
    if label:
        label = unicodedata.normalize("NFC", label)
        found = pictures(paths)
        return Found(
            pictures=tuple(
                LabelledFile(path=path, label=label, source=_printable(path.name))
                for path in found.pictures
            ),
            left_out=found.left_out,
        )
    files: list[LabelledFile] = []
    left_out: Counter[str] = Counter()
    for folder in paths:
        if not folder.is_dir():
            raise typer.BadParameter(
                f"{folder} is not a folder of label folders: say which page it shows with --label",
                param_hint="PATH",
            )
        inside = list(_in_label_folders(folder, left_out))
        if not inside:
            raise typer.BadParameter(
                f"{folder} holds no <label>/{_KINDS}{_in_brackets(left_out)}: make one folder per "
                "label, or give --label",
                param_hint="PATH",
            )
        files += inside
    return Found(
        pictures=tuple(sorted(files, key=lambda file: file.label)), left_out=_counted(left_out)
    )


def _in_label_folders(folder: Path, left_out: Counter[str]) -> Iterator[LabelledFile]:
    """Yields the pictures of `folder/<label>/*`."""
    read_already: set[tuple[int, int]] = set()
    for page in _listed(folder, left_out):
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
            label = unicodedata.normalize("NFC", page.name)
            for path in sorted(_listed(page, left_out)):
                if reason := _why_left_out(path):
                    left_out[reason] += 1
                    continue
                if label != _printable(label):
                    raise typer.BadParameter(
                        f"{_printable(str(page))}: a label is UTF-8, rename the folder",
                        param_hint="PATH",
                    )
                source = f"{label}/{_printable(path.name)}"
                yield LabelledFile(path=path, label=label, source=source)


def _below(folder: Path, left_out: Counter[str]) -> list[Path]:
    """The pictures below a folder, by path."""
    files = []
    read_already: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    # All real folders before any link, so that a link to one of them is what is left out.
    while folders or links:
        inside = (folders or links).pop(0)
        status = _status(inside)
        if status is None or (status.st_dev, status.st_ino) in read_already:
            left_out[LINKED_TWICE] += 1
            continue
        read_already.add((status.st_dev, status.st_ino))
        for path in _listed(inside, left_out):
            status = _status(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                if path.name.startswith("."):
                    left_out[HIDDEN] += 1
                else:
                    (links if path.is_symlink() else folders).append(path)
            elif reason := _why_left_out(path):
                left_out[reason] += 1
            else:
                files.append(path)
    return sorted(files)


def _listed(folder: Path, left_out: Counter[str]) -> list[Path]:
    """What is in a folder, links last."""
    try:
        return sorted(folder.iterdir(), key=lambda path: (path.is_symlink(), path.name))
    except OSError:
        left_out[NOT_READABLE] += 1
        return []


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


def _printable(name: str) -> str:
    """A file name as UTF-8 can say it: on Linux it may be any bytes, such as GBK."""
    return os.fsencode(name).decode("utf-8", "replace")


def _in_words(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()) if count)


def _in_brackets(left_out: Mapping[str, int]) -> str:
    words = _in_words(left_out)
    return f" (left out: {words})" if words else ""


def _counted(left_out: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in left_out.items() if count}
