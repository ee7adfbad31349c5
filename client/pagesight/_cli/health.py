"""`pagesight health`: whether a server is serving, for probes and for scripts that wait.

    dns:///name:port ──> each address of the name ─┐
    host:port ─────────────────────────────────────┴──> asked, over a connection of its own

A client that balances by health makes no call to a server that is not serving, not even this one.
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer

from pagesight import _health
from pagesight._cli import session, wire
from pagesight._client import Client
from pagesight._environment import host_of, is_loopback, proxy_of
from pagesight._errors import PagesightError
from pagesight._retry import RetryPolicy
from pagesight._security import TlsConfig

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

    Of several servers each is asked, as is each that a name (dns:///NAME:PORT) stands for. Exit
    code 0: all are serving; 3: one answers and is not serving, as it starts or drains; 1: no
    answer; 2: the command line is wrong. Health needs no token.
    """
    with session.preparing(address):
        tls = session.Proof.from_environment().tls
        clients: dict[str, Client] = {}
        for one in (one.strip() for given in address for one in given.split(",")):
            clients |= _clients(one, tls, retry_for_s=wait, retry=OFTEN)
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


def _clients(address: str, tls: TlsConfig | None, **settings: Any) -> dict[str, Client]:
    """Returns a client for each server behind an address, by which it is told."""
    name = address.removeprefix("dns:///").removeprefix("dns:")
    goes_by_proxy = proxy_of(address, os.environ) is not None and not is_loopback(address)
    servers = [] if name == address or goes_by_proxy else _servers(name)
    if not servers:
        # One server; or a name that this machine does not know yet, or asks others for: gRPC finds
        # one that it stands for.
        unwatched = ("grpc.service_config", "{}")
        return {address: Client(address, tls=tls, channel_options=[unwatched], **settings)}
    if tls is not None and not tls.server_name:
        tls = replace(tls, server_name=host_of(name))
    for_name = ("grpc.default_authority", name)
    return {
        server: Client(server, tls=tls, use_proxy=False, channel_options=[for_name], **settings)
        for server in servers
    }


def _servers(name: str) -> list[str]:
    """Returns "address:port" of each server that a name stands for; none where it is not known."""
    if name.startswith("//"):
        return []  # Another name server is to be asked for it.
    host = host_of(name)
    port = name.removeprefix(f"[{host}]").removeprefix(host).removeprefix(":") or "443"  # gRPC's
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    by_family: dict[bool, list[str]] = {True: [], False: []}
    for family, *_, where in found:
        is_v6 = family == socket.AF_INET6
        by_family[is_v6].append(f"[{where[0]}]:{port}" if is_v6 else f"{where[0]}:{port}")
    # A machine with addresses of both kinds is one server, and need not listen at both.
    return list(dict.fromkeys(by_family[False] or by_family[True]))


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
