"""What the operator knows of each label, as a file: `labels.toml`.

    [dyfxj_amount]
    brands  = ["放心借"]              # a page of this label normally shows one of these
    outputs = ["dyfxj", "amount"]     # business labels of the reply; default: the label itself

A key that is left out leaves what is known as it is; an empty list clears it. Every mistake
names its line: the file is written by hand, and a brand under a misspelt label would silently
protect nothing. The client reads the same files (`pagesight._cli.labels`), and may share no
code with the server: tests/unit/test_labels_files.py holds both to one table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path

from pagesight_server.common.errors import RequestError, SetupError
from pagesight_server.gallery.snapshot import LabelUpdate, check_label, check_names

KEYS = ("brands", "outputs")


def read_labels(path: Path, known: Collection[str]) -> dict[str, LabelUpdate]:
    """Reads a labels file, as UTF-8 with or without a byte order mark.

    Args:
        path: The file.
        known: Labels that the gallery has or is about to have, in normal form.

    Raises:
        SetupError: it cannot be read, or says something that cannot be; names the line.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        sections = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SetupError(f"{path}, line {line}: not UTF-8") from None
    except OSError as error:
        raise SetupError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise SetupError(f"{path}: {error}") from None

    def fail(section: str, key: str | None, problem: str) -> SetupError:
        return SetupError(f"{path}, line {_line(text, section, key)}: {problem}")

    updates: dict[str, LabelUpdate] = {}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise fail(name, None, f"{name!r} is outside a [label] section")
        try:
            label = check_label(name)
        except RequestError as error:
            raise fail(name, None, str(error)) from None
        if label in updates:
            raise fail(name, None, f"{label!r} is named twice, in two spellings")
        if label not in known:
            raise fail(name, None, f"the gallery has no label {label!r}")
        lists: dict[str, tuple[str, ...]] = {}
        for key, value in section.items():
            if key not in KEYS:
                raise fail(name, key, f"unknown key {key!r}: use {' or '.join(KEYS)}")
            if not isinstance(value, list) or not all(
                isinstance(item, str) and item.strip() for item in value
            ):
                raise fail(name, key, f"{key} must be a list of names, like {key} = ['放心借']")
            try:
                lists[key] = check_names(value, key)
            except RequestError as error:
                raise fail(name, key, str(error)) from None
        updates[label] = LabelUpdate(**lists)
    return updates


def _line(text: str, label: str, key: str | None) -> int:
    """The line that names a label, or a key of it; 1-based."""
    section: list[str] = []
    first = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if line.lstrip().startswith("["):
            section = path = _names(line) or section
        else:
            path = section + _names(line.partition("=")[0] + "= 0")
        if path[:1] != [label]:
            continue
        first = first or number
        if key is None or path[1:2] == [key]:
            return number
    return first or 1


def _names(line: str) -> list[str]:
    """The keys of a header or of an assignment, outermost first: `[a."b"]` is a, b."""
    try:
        inner: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return []  # in the midst of a list
    found: list[str] = []
    while inner and isinstance(inner, dict | list):
        if isinstance(inner, dict):
            found.append(next(iter(inner)))
        inner = inner[found[-1]] if isinstance(inner, dict) else inner[0]
    return found
