"""Names of settings: all there are, the nearest to a misspelt one, and where a value came from.

    command line ──over──> PAGESIGHT_SERVER__PORT=1 ──over──> [server] port = 1 ──over──> default

The names are those of a pydantic model and of the models and dataclasses that are its sections,
with a point between them: `server.port`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pagesight_server.common.errors import SetupError

DEFAULT = "default"
COMMAND_LINE = "command line"

_ALIKE = 0.6
"""Least similarity, by `difflib`, of a name that is suggested for another: its own default."""


def names(model: type[BaseModel]) -> tuple[str, ...]:
    """The settings of a model, those of its sections included, in their order."""
    found: list[str] = []
    for name, of_field in model.model_fields.items():
        inner = of_field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found += [f"{name}.{key}" for key in inner.model_fields]
        elif isinstance(inner, type) and dataclasses.is_dataclass(inner):
            found += [f"{name}.{one.name}" for one in dataclasses.fields(inner)]
        else:
            found.append(name)
    return tuple(found)


def nearest(name: str, known: Collection[str]) -> str:
    """The known setting that a misspelt one most likely means; empty where none is alike.

    The right name in a wrong section, or in none, goes first, then a name of the right section
    that is spelt alike, then whatever is spelt most like it.
    """
    section, _, key = name.rpartition(".")
    inside = {one.rpartition(".")[2]: one for one in known if one.rpartition(".")[0] == section}
    if same := [one for one in known if one.rpartition(".")[2] == key]:
        return same[0]
    if section and (alike := difflib.get_close_matches(key, inside, 1, _ALIKE)):
        return inside[alike[0]]
    for spelt in (_joined, _last):
        spellings = {spelt(one): one for one in known}
        if alike := difflib.get_close_matches(spelt(name), spellings, 1, _ALIKE):
            return spellings[alike[0]]
    return ""


def _joined(name: str) -> str:
    return name.replace(".", "").replace("_", "")


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def read_toml(file: Path) -> dict[str, Any]:
    """Reads a settings file, as UTF-8 with or without a byte order mark.

    Raises:
        SetupError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SetupError(f"{file}: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """What was set, and where, the strongest first."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """By the command line, nested as the file is."""
    env: Mapping[str, str] = field(default_factory=dict)
    toml: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    prefix: str
    """Of the variables: `PAGESIGHT_`."""

    def source(self, setting: str) -> str:
        """What set a setting: "command line", a variable's name, the file's path, or "default"."""
        if _holds(self.options, setting):
            return COMMAND_LINE
        for name, path in self.variables():
            if path == setting:
                return name
            if setting.startswith(f"{path}.") and _holds(_table(path, self.env[name]), setting):
                return name
        return str(self.file) if _holds(self.toml, setting) else DEFAULT

    def variables(self) -> Iterator[tuple[str, str]]:
        """The environment's variables that begin with the prefix, and the setting of each."""
        for name in self.env:
            if name.upper().startswith(self.prefix):
                yield name, name[len(self.prefix) :].lower().replace("__", ".")

    def variable(self, setting: str) -> str:
        """Names the environment variable of a setting."""
        return self.prefix + setting.upper().replace(".", "__")

    def settings_in_file(self) -> Iterator[str]:
        """The settings that the file names, known or not."""
        for name, value in self.toml.items():
            if isinstance(value, dict):
                yield from (f"{name}.{key}" for key in value)
            else:
                yield name


def _holds(table: Mapping[str, Any], setting: str) -> bool:
    """Whether a nested table has a setting."""
    section, _, key = setting.rpartition(".")
    inner = table.get(section, {}) if section else table
    return isinstance(inner, Mapping) and key in inner


def _table(section: str, text: str) -> dict[str, Any]:
    """A section that a variable holds as JSON."""
    try:
        return {section: json.loads(text)}
    except ValueError:
        return {}
