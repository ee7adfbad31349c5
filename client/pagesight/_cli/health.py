"""`pagesight health`: whether a server is serving, for probes and for scripts that wait."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated

import typer

from pagesight import _health
from pagesight._cli import session, wire
from pagesight._client import Client
from pagesight._errors import PagesightError
from pagesight._retry import RetryPolicy

NO_ANSWER = 1
"""Exit code for a server that cannot be asked."""

NOT_SERVING = 3
"""Exit code for a server that answers and is not serving."""

OFTEN = RetryPolicy(longest_delay_s=1.0)
"""A script that waits for a server wants to go on as soon as there is one."""


@session.teaching
def health(
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
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

    Of several servers each is asked. Exit code 0: all are serving; 3: one answers and is not
    serving, as it starts or drains; 1: no answer; 2: the command line is wrong. Health needs no
    token.
    """
    with session.preparing(address):
        tls = session.Proof.from_environment().tls
        clients = {
            one: Client(one, tls=tls, retry_for_s=wait, retry=OFTEN)
            for one in (one.strip() for given in address for one in given.split(","))
        }
    with ThreadPoolExecutor(len(clients)) as threads:
        try:
            answers = threads.map(partial(_asked, wait + session.FIRST_CONTACT_S), clients.values())
            codes = {
                _told(one, error, as_json=as_json)
                for one, error in zip(clients, answers, strict=True)
            }
        finally:
            # Ctrl-C ends those that are waiting.
            for client in clients.values():
                client.close()
    raise typer.Exit(NO_ANSWER if NO_ANSWER in codes else max(codes))


def _asked(timeout_s: float, client: Client) -> PagesightError | None:
    """Asks a server; returns why it is not serving, None where it is."""
    try:
        _health.check(client, timeout_s)
    except PagesightError as error:
        return error
    return None


def _told(address: str, error: PagesightError | None, *, as_json: bool) -> int:
    """Prints the answer of one server and returns its exit code."""
    if error is None:
        status, code = "serving", 0
    elif isinstance(error, _health.NotServingError):
        status, code = "not_serving", NOT_SERVING
    else:
        status, code = "unreachable", NO_ANSWER
    if as_json:
        wire.print_line(address=address, status=status, **({"error": error} if error else {}))
    elif error is None:
        session.output().print(f"{address} is serving")
    elif code == NOT_SERVING:
        session.output().print(f"{address} is {error.message}")
    else:
        session.warn(f"pagesight: {error.message}")
    return code
