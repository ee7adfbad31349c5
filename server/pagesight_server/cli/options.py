"""Options, settings, progress bar and consoles that the commands of the server share."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pagesight_server.config import Config, read_config

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

StoreOption = Annotated[
    Path | None,
    typer.Option("--store", help="SQLite file of the galleries.", show_default="gallery.db"),
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
    file: Path | None, *, store: Path | None, bundles: Path | None, **sections: dict[str, Any]
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
    overrides: dict[str, Any] = {
        name: {key: value for key, value in section.items() if value is not None}
        for name, section in sections.items()
    }
    overrides |= {"store": store} if store else {}
    overrides |= {"bundles": bundles} if bundles else {}
    return read_config(file, {name: value for name, value in overrides.items() if value})


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


def user() -> str:
    """The name of the user, as author of changes in the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a uid without a name.
        return f"uid {os.getuid()}"
