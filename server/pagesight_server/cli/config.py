"""`config show`: every setting as it is in effect, and what set it."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    JsonOption,
    StoreOption,
    layers_of,
    print_json,
    print_text,
    settings_of,
)
from pagesight_server.config import Config, effective

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.callback()
def _only_commands() -> None:
    """Look at the settings."""


@app.command()
def show(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every setting as it is in effect, and what set it.

    The output is TOML: --config reads it. Behind each setting stands the file, variable or
    command line that set it, and what a 0 that leaves it to the machine comes to here.

    Example: pagesight-server config show --config pagesight.toml
    """
    settings = settings_of(config, store=store, bundles=bundles)
    layers = layers_of(config, store=store, bundles=bundles)
    values = effective(settings)
    sources = {name: layers.source(name) for name in values}
    here = _here(settings)
    if as_json:
        print_json(
            {
                name: {"value": _plain(value), "source": sources[name]}
                | ({"here": here[name]} if name in here else {})
                for name, value in values.items()
            }
        )
        return
    for name, value in values.items():
        told = sources[name] + (f", here {here[name]}" if name in here else "")
        if value is None:
            print_text(f"# {name} is not set\n")
        else:
            print_text(f"{name} = {_toml(value)}  # {told}\n")


def _here(config: Config) -> dict[str, int]:
    """What settings come to on this machine that leave it to the machine."""
    derived = {
        "server.max_active": (config.server.max_active, config.active),
        "compute.max_batch": (config.compute.max_batch, config.compute.batch_limit),
        "compute.ocr_threads": (config.compute.ocr_threads, config.ocr_threads),
    }
    return {name: here for name, (written, here) in derived.items() if not written}


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def _toml(value: object) -> str:
    # Strings, numbers, booleans and lists of them are TOML as JSON writes them, but for DEL.
    return json.dumps(_plain(value), ensure_ascii=False).replace("\x7f", "\\u007f")
