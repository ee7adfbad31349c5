"""Files that hold pictures, texts of screenshots or what was made of them: their owner's alone.

The usual umask makes every file readable by everybody on the machine. What exists keeps the mode
that it has: an operator may have given it to a group.
"""

from __future__ import annotations

import os
from pathlib import Path

_FILE_MODE = 0o600
_FOLDER_MODE = 0o700


def make_folder(folder: Path) -> None:
    """Makes a folder for its owner alone, with all above it that are missing.

    Raises:
        OSError: it cannot be made.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(folder))


def make_file(file: Path) -> None:
    """Makes an empty file for its owner alone, unless there is one.

    Raises:
        OSError: it cannot be made.
    """
    os.close(os.open(file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE))


def write_text(file: Path, text: str) -> None:
    """Writes a file as UTF-8, one that is new for its owner alone.

    A lone surrogate, as of a file name that is no UTF-8, becomes an escape.

    Raises:
        OSError: it cannot be written.
    """
    make_file(file)
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
