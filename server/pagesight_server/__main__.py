"""The `pagesight-server` command: serve, index, evaluate, calibrate, doctor, gallery, config."""

from __future__ import annotations

import importlib.metadata
import io
import sys
import warnings
from typing import Annotated

import typer

from pagesight_server.cli import calibrate, config, evaluate, gallery, index, serve
from pagesight_server.common.errors import PagesightError

app = typer.Typer(
    help="Tells which known page a phone screenshot shows, or that it shows none of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pagesight-server {importlib.metadata.version('pagesight')}")
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


for command in (
    serve.serve,
    index.index,
    evaluate.evaluate,
    calibrate.calibrate,
    serve.doctor,
):
    app.command()(command)
app.add_typer(gallery.app, name="gallery")
app.add_typer(config.app, name="config")


def main() -> None:
    """Runs the command; an expected failure is one line on stderr and exit code 1."""
    # Pillow warns of each damaged tag of a picture. Who sends pictures must not fill our log, nor
    # the memory in which Python keeps what it has warned of.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding lacks, such as a yen sign in GBK, costs no answer.
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except PagesightError as error:
        print(f"pagesight-server: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
