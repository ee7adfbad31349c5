"""labels.toml: what the operator knows of each label, as a file.

    [dyfxj_amount]
    brands  = ["放心借"]              # a page of this label normally shows one of these
    outputs = ["dyfxj", "amount"]     # business labels of the reply; default: the label itself

A key that is left out leaves what is known as it is; an empty list clears it. The file is
written by hand, and a brand under a misspelt key would silently protect nothing: so every
mistake is an error that names its line. The server reads the same files
(`pagesight_server.gallery.labels_file`), and may share no code with the client:
tests/unit/test_labels_files.py holds both to one table.
"""

from __future__ import annotations

import json
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagesight._listings import LabelInfo

KEYS = ("brands", "outputs")

MAX_NAMES = 100
"""Brands of one label at most, and outputs."""

MAX_NAME_CHARS = 128
"""The longest brand or output, in characters."""


class LabelsFileError(Exception):
    """The file cannot be used; the message names it and the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What a file says of one label; None where it says nothing."""

    label: str
    brands: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None


def read(path: Path) -> list[Section]:
    """Reads the labels that a file names, as UTF-8 with or without a byte order mark.

    Raises:
        LabelsFileError: It cannot be read or says something that cannot be.
    """
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        sections = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelsFileError(f"{path}, line {line}: not UTF-8") from None
    except OSError as error:
        raise LabelsFileError(f"cannot read {path}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise LabelsFileError(f"{path}: {error}") from None

    def fail(section: str, key: str | None, problem: str) -> LabelsFileError:
        return LabelsFileError(f"{path}, line {_line(text, section, key)}: {problem}")

    labels: dict[str, Section] = {}
    for name, section in sections.items():
        if not isinstance(section, dict):
            raise fail(name, None, f"{name!r} is outside a [label] section")
        label = _normal_form(name)
        if label in labels:
            raise fail(name, None, f"{label!r} is named twice, in two spellings")
        lists: dict[str, tuple[str, ...]] = {}
        for key, value in section.items():
            if key not in KEYS:
                raise fail(name, key, f"unknown key {key!r}: use {' or '.join(KEYS)}")
            if not isinstance(value, list) or not all(
                isinstance(item, str) and item.strip() for item in value
            ):
                raise fail(name, key, f"{key} must be a list of names, like {key} = ['放心借']")
            lists[key] = tuple(map(_normal_form, value))
            if problem := _too_much(lists[key], key):
                raise fail(name, key, problem)
        labels[label] = Section(label=label, **lists)
    return list(labels.values())


def over(sections: Iterable[Section], known: Sequence[LabelInfo]) -> list[LabelInfo]:
    """Returns what is known of the labels of a file, with what the file says in its place."""
    by_label = {row.label: row for row in known}
    return [
        LabelInfo(
            label=section.label,
            brands=was.brands if section.brands is None else section.brands,
            outputs=was.outputs if section.outputs is None else section.outputs,
        )
        for section in sections
        for was in [by_label.get(section.label, LabelInfo(label=section.label))]
    ]


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


def _too_much(names: Sequence[str], what: str) -> str:
    """Why the server would refuse that many names, or such long ones; empty where it would not."""
    if len(names) > MAX_NAMES:
        return f"{what} are at most {MAX_NAMES} names, not {len(names):,}"
    longest = max(map(len, names), default=0)
    if longest > MAX_NAME_CHARS:
        return (
            f"{what} are names of at most {MAX_NAME_CHARS} characters, and one of them has "
            f"{longest:,}"
        )
    return ""


def _normal_form(name: str) -> str:
    return unicodedata.normalize("NFC", name)


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
