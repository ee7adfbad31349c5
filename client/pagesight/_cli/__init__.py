"""The `pagesight` command, from the command line to what is printed.

    classify   `pagesight classify`                ┐
    review     `pagesight review`                  │
    load       `pagesight load`                    │
    health     `pagesight health`                  │
    enrol      `pagesight gallery enrol`           │
    doctor     `pagesight gallery doctor`          │ parse arguments, call the client,
    brands     `pagesight gallery suggest-brands`  │ choose what to print
    gallery    the rest of `pagesight gallery`     ┘
    care_page  what doctor finds, as an HTML page
    changes    the options of all commands that change a gallery
    session    the server, the terminal, progress, failures: shared by all commands
    files      which pictures a path means, and of which label
    ids        ids of pictures, in full or their first characters
    labels     labels.toml
    load_page  what a load found, as text
    render     how results look to people       (rich)
    wire       how results look to machines     (JSON, one object per line)

Only this package needs the extra `cli`; nothing of the client imports it.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from pagesight._cli import gallery
from pagesight._cli.classify import classify
from pagesight._cli.health import health
from pagesight._cli.load import load
from pagesight._cli.review import review

app = typer.Typer(
    name="pagesight",
    help="Tells which known page a phone screenshot shows, or that it shows none of them.\n\n"
    "PAGESIGHT_TOKEN is sent as bearer token; PAGESIGHT_TLS_CA, the file of the authorities that "
    "are trusted, or empty for the public ones, asks for TLS; PAGESIGHT_TLS_CERT and "
    "PAGESIGHT_TLS_KEY are the files of a client certificate, PAGESIGHT_TLS_SERVER_NAME the name "
    "in the server's, if that is not the host.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pagesight {importlib.metadata.version('pagesight')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version of pagesight and leave.",
        ),
    ] = False,
) -> None:
    """Take the options that precede a command."""


app.command()(classify)
app.command()(review)
app.command()(load)
app.command()(health)
app.add_typer(gallery.app, name="gallery")
