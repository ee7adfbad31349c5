"""labels.toml: what the operator knows of each label, as a file.

    [dyfxj_amount]
    brands  = ["放心借"]              # a page of this label normally shows one of these
    outputs = ["dyfxj", "amount"]     # business labels of the reply; default: the label itself

It is written by hand, and a brand under a misspelt key would silently protect
nothing: so every mistake is an error that names its line.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from pagesight._results import LabelInfo

KEYS = ("brands", "outputs")


class LabelsFileError(Exception):
    """The file cannot be used; the message names it and the line."""


def read(path: Path) -> list[LabelInfo]:
    """Reads the labels that a file names.

    Raises:
        LabelsFileError: It cannot be read or says something that cannot be.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise LabelsFileError(f"cannot read {path}: {why}") from error
    try:
        sections = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LabelsFileError(f"{path}: {error}") from error

    labels = []
    for label, section in sections.items():
        if not isinstance(section, dict):
            at = _line_of(text, label, None)
            raise LabelsFileError(f"{path}, line {at}: {label!r} is not in a [label] section")
        for key, names in section.items():
            at = _line_of(text, label, key)
            if key not in KEYS:
                raise LabelsFileError(
                    f"{path}, line {at}: unknown key {key!r}: use {' or '.join(KEYS)}"
                )
            if not isinstance(names, list) or not all(
                isinstance(name, str) and name.strip() for name in names
            ):
                raise LabelsFileError(
                    f'{path}, line {at}: {key} must be a list of names, like {key} = ["放心借"]'
                )
        labels.append(
            LabelInfo(
                label=label,
                brands=tuple(section.get("brands", ())),
                outputs=tuple(section.get("outputs", ())),
            )
        )
    return labels


def write(labels: Iterable[LabelInfo]) -> str:
    """Returns the text of a file that `read` reads as these labels."""
    return "\n".join(
        f"[{quoted(known.label)}]  # {known.images} pictures\n"
        f"brands = [{', '.join(map(quoted, known.brands))}]\n"
        f"outputs = [{', '.join(map(quoted, known.outputs))}]\n"
        for known in labels
    )


def quoted(name: str) -> str:
    """Returns a name as TOML writes it."""
    # A JSON string is a TOML string, but for DEL, which TOML wants escaped.
    return json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007f")


def _line_of(text: str, section: str, key: str | None) -> int:
    """Returns the line, from 1, of a section or of a key in it."""
    name = re.escape(section)
    header = re.compile(rf"""\s*(\[\s*(["']?){name}\2\s*\]|(["']?){name}\3\s*[.=])""")
    lines = text.splitlines()
    begin = next((at for at, line in enumerate(lines) if header.match(line)), 0)
    if key is None:
        return begin + 1
    entry = re.compile(rf"""\s*(["']?){re.escape(key)}\1\s*=""")
    return next((at for at in range(begin, len(lines)) if entry.match(lines[at])), begin) + 1
