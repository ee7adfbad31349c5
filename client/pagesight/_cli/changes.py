"""The options that every command has which changes a gallery."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from pagesight._inputs import ChangeOptions


def options(gallery: str, author: str, expected_revision: int | None) -> ChangeOptions:
    """Returns what the options of a command say of its change."""
    return ChangeOptions(
        gallery=gallery, author=author or account(), expected_revision=expected_revision
    )


def account() -> str:
    """Returns the name of the account that runs the command; empty where it has none."""
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
    int | None,
    typer.Option(
        "--expected-revision",
        min=0,
        help="Change nothing unless the gallery is at this revision; 0: unless it is new.",
        show_default=False,
    ),
]
