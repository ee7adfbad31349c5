"""Results for machines: one JSON object per line, UTF-8, times in ISO 8601.

An error is an object of its own: code, reason, message, retry_after_s.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

import typer

from pagesight._errors import PagesightError


def print_line(value: object = None, **more: object) -> None:
    """Prints one object: what is given by name, then the fields of `value`."""
    fields_of_value = {} if value is None else _plain(value)
    print_text(json.dumps(more | fields_of_value, ensure_ascii=False, default=_plain) + "\n")


def print_text(text: str) -> None:
    """Prints what a program or `set-labels` will read: UTF-8, whatever the terminal speaks."""
    # A lone surrogate, as of a file's name, becomes the escape that JSON has for it.
    typer.echo(text.encode("utf-8", "backslashreplace"), nl=False)


def _plain(value: object) -> Any:
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, PagesightError):
        names = ("code", "reason", "message", "retry_after_s")
        return {name: getattr(value, name) for name in names}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        # A file's name may be no text at all.
        return os.fsencode(value).decode(errors="replace")
    raise TypeError(f"no JSON for {type(value).__name__}")
