"""What the operator knows of each label, as a file: `labels.toml`.

    [dyfxj_amount]
    brands  = ["放心借"]              # a page of this label normally shows one of these
    outputs = ["dyfxj", "amount"]     # business labels of the reply; default: the label itself

Every mistake names its line: the file is written by hand, and a brand under a
misspelt label would silently protect nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from pathlib import Path

from pagesight_server.errors import RequestError, SetupError
from pagesight_server.snapshot import LabelFacts, check_label

KEYS = ("brands", "outputs")


def read_labels(path: Path, known: Collection[str]) -> dict[str, LabelFacts]:
    """Reads a labels file.

    Args:
        path: The file.
        known: Labels that the gallery has or is about to have.

    Raises:
        SetupError: it cannot be read, or says something that cannot be; names the line.
    """
    try:
        text = path.read_text("utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SetupError(f"{path}: {error}") from None

    def fail(section: str, key: str | None, problem: str) -> SetupError:
        return SetupError(f"{path}, line {_line(text, section, key)}: {problem}")

    facts: dict[str, LabelFacts] = {}
    for label, section in data.items():
        if not isinstance(section, dict):
            raise fail(label, None, f"{label!r} is outside a [label] section")
        try:
            check_label(label)
        except RequestError as error:
            raise fail(label, None, str(error)) from None
        if label not in known:
            raise fail(label, None, f"the gallery has no label {label!r}")
        for key, value in section.items():
            if key not in KEYS:
                raise fail(label, key, f"unknown key {key!r}: use {' or '.join(KEYS)}")
            if not isinstance(value, list) or not all(
                isinstance(item, str) and item.strip() for item in value
            ):
                raise fail(label, key, f"{key} must be a list of names, like {key} = ['放心借']")
        facts[label] = LabelFacts(
            brands=tuple(section.get("brands", ())), outputs=tuple(section.get("outputs", ()))
        )
    return facts


def _line(text: str, section: str, key: str | None) -> int:
    """The line of a section's header, or of a key in it; 1-based."""
    name = re.escape(section)
    header = re.compile(rf"""^\s*(\[\s*(["']?){name}\2\s*\]|(["']?){name}\3\s*[.=])""")
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if header.match(line)), 0)
    if key is None:
        return start + 1
    assignment = re.compile(rf"""^\s*(["']?){re.escape(key)}\1\s*=""")
    inside = (i for i in range(start, len(lines)) if assignment.match(lines[i]))
    return next(inside, start) + 1
