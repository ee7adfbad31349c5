"""The `pagesight` command as a person at a terminal gives it, to a fake server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from typer.testing import CliRunner, Result

from pagesight._cli import app
from tests.support.fake_server import FakeServer

Run: TypeAlias = Callable[..., Result]


def command_of(server: FakeServer) -> Run:
    """Returns what gives a command to a server: its arguments, and what the environment says."""

    def run(*arguments: object, **environment: str) -> Result:
        settings = {
            "PAGESIGHT_ADDRESS": server.address,
            "PAGESIGHT_AUTHOR": "mei",
            "COLUMNS": "100",
            **environment,
        }
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=settings)

    return run


def rows(result: Result) -> list[Any]:
    """What a command printed with `--json`, an object a line."""
    return [json.loads(line) for line in result.stdout.splitlines()]
