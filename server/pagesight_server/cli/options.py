"""Options, settings, progress bar and consoles that the commands of the server share."""

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

from pagesight_server.common.settings import Layers
from pagesight_server.config import Config, config_of, read_layers, unknown_variables
from pagesight_server.gallery.folder import read_folder

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="SQLite file of the galleries, or postgresql://USER@HOST/NAME.",
        show_default="gallery.db",
    ),
]
BundlesOption = Annotated[
    Path | None,
    typer.Option(
        "--bundles", help="Folder of the model bundles, encoder/ and ocr/.", show_default="bundles"
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="Settings, a TOML file.")]
GalleryOption = Annotated[str, typer.Option("--gallery", help="Name of the gallery.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]

MethodOption = Annotated[
    Literal["seed", "pagesight"] | None,
    typer.Option(
        "--method",
        help="Recognition method; `seed` is the published baseline.",
        show_default="pagesight",
    ),
]


def settings_of(
    file: Path | None, *, store: str | None, bundles: Path | None, **sections: dict[str, Any]
) -> Config:
    """Reads the settings, with those of the command line taking precedence.

    Args:
        file: A TOML file of settings, or None.
        store: The option of this name; None where not given, as all others.
        bundles: The option of this name.
        sections: Settings of sections, by their names.

    Raises:
        SetupError: a file that cannot be read, an unknown setting, a value out of range.
    """
    layers = layers_of(file, store=store, bundles=bundles, **sections)
    settings = config_of(layers)
    for line in unknown_variables(layers):
        err.print(f"[yellow]warning:[/] {escape(line)}", soft_wrap=True)
    return settings


def layers_of(
    file: Path | None, *, store: str | None, bundles: Path | None, **sections: dict[str, Any]
) -> Layers:
    """Reads what is set where; arguments and errors as `settings_of`."""
    overrides: dict[str, Any] = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in sections.items()
    }
    overrides |= {"store": store} if store else {}
    overrides |= {"bundles": bundles} if bundles else {}
    return read_layers(file, {name: value for name, value in overrides.items() if value})


def progress(what: str) -> Progress:
    """A progress bar on stderr; nothing where that is no terminal."""
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
    """The name of the user, as author of changes in the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a uid without a name.
        return f"uid {os.getuid()}"
