"""What every command line of the server shares: options, settings, progress and where it prints."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pagesight_server.config import Config, read_config
from pagesight_server.gallery.folder import read_folder

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="The gallery's SQLite file.", show_default="gallery.db"),
]
BundlesOption = Annotated[
    Path | None,
    typer.Option("--bundles", help="Folder with encoder/ and ocr/.", show_default="bundles"),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file of settings.")]
GalleryOption = Annotated[str, typer.Option("--gallery", help="Which gallery of the store.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

MethodOption = Annotated[
    Literal["seed", "pagesight"] | None,
    typer.Option("--method", help="`seed` is the published method.", show_default="pagesight"),
]


def settings_of(
    file: Path | None, *, store: Path | None, bundles: Path | None, **sections: dict[str, Any]
) -> Config:
    """The settings, as the command line overrules them; None overrules nothing."""
    overrides: dict[str, Any] = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in sections.items()
    }
    overrides |= {"store": store} if store else {}
    overrides |= {"bundles": bundles} if bundles else {}
    return read_config(file, {name: value for name, value in overrides.items() if value})


def progress(what: str) -> Progress:
    """A bar on stderr, where that is a terminal."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


def tell_left_out(folder: Path) -> None:
    """Says on stderr which files of a folder of labelled screenshots were left out, and why."""
    if words := read_folder(folder).left_out_in_words:
        err.print(f"[yellow]left out[/] {escape(words)}", soft_wrap=True)


def print_json(value: object) -> None:
    """Prints one line of JSON: UTF-8, whatever the terminal speaks."""
    print_text(json.dumps(value, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """Prints what a program will read: UTF-8, whatever the terminal speaks."""
    # A lone surrogate, as of a file's name, becomes the escape that JSON has for it.
    typer.echo(text.encode("utf-8", "backslashreplace"), nl=False)


def user() -> str:
    """For the history; a container may run under a number that has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
