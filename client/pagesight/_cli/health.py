"""`pagesight health`: whether a server is serving, for probes and for scripts that wait."""

from __future__ import annotations

from typing import Annotated

import typer

from pagesight import _health
from pagesight._cli import session, wire
from pagesight._client import Client
from pagesight._errors import PagesightError
from pagesight._retry import RetryPolicy

NOT_SERVING = 3
"""Exit code for a server that answers and is not serving."""

OFTEN = RetryPolicy(longest_delay_s=1.0)
"""A script that waits for a server wants to go on as soon as there is one."""


@session.teaching
def health(
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="Ask until it is serving, for so long.")
    ] = 0.0,
    as_json: session.JsonOption = False,
) -> None:
    """Tell whether a server is serving, by grpc.health.v1.

    Examples:
      pagesight health
      pagesight health --wait 60 && pagesight classify screenshots/
      pagesight health --address pagesight.example:443 --json

    Exit code 0: it is serving; 3: it answers and is not serving, as it starts or drains; 1: no
    answer; 2: the command line is wrong. Health needs no token.
    """
    with session.preparing(address):
        tls = session.Proof.from_environment().tls
        client = Client(address, tls=tls, retry_for_s=wait, retry=OFTEN)
    status, code = "serving", 0
    error: PagesightError | None = None
    with session.answering(), client:
        try:
            _health.check(client, wait + session.FIRST_CONTACT_S)
        except _health.NotServingError as answer:
            status, error, code = "not_serving", answer, NOT_SERVING
        except PagesightError as failure:
            if not as_json:
                raise
            status, error, code = "unreachable", failure, 1
    if not as_json:
        session.output().print(f"{address} is {error.message if error else 'serving'}")
    elif error is None:
        wire.print_line(address=address, status=status)
    else:
        wire.print_line(address=address, status=status, error=error)
    raise typer.Exit(code)
