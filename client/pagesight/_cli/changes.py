"""The options that every command has which changes a gallery."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from pagesight._results import ChangeOptions


def options(gallery: str, author: str, expected_revision: int) -> ChangeOptions:
    """Returns what the options of a command say of its change."""
    return ChangeOptions(
        gallery=gallery, author=author or _account(), expected_revision=expected_revision
    )


def _account() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in containers
        return ""


AuthorOption = Annotated[
    str,
    typer.Option(
        envvar="PAGESIGHT_AUTHOR",
        help="Who makes the change, for the history.",
        show_default="your account",
    ),
]
ExpectedOption = Annotated[
    int,
    typer.Option(
        "--expected-revision",
        min=0,
        help="Change nothing unless the gallery is at this revision.",
        show_default=False,
    ),
]
