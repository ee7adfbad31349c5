"""Ports that several processes of one server share, and no other server."""

from __future__ import annotations

import socket

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.service.listening import reserved, why_not

IN_USE = "another program listens there"


def listener(port: int, *, shared: bool) -> socket.socket:
    """A socket that listens as gRPC has it."""
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        one.bind(("127.0.0.1", port))
        one.listen()
    except OSError:
        one.close()
        raise
    return one


def test_a_reserved_port_is_for_those_who_share_it_and_takes_no_calls_itself() -> None:
    with reserved("127.0.0.1", 0) as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with pytest.raises(OSError, match="in use"):
            listener(port, shared=False)
        assert IN_USE in why_not("127.0.0.1", port)
        with listener(port, shared=True), listener(port, shared=True):
            socket.create_connection(("127.0.0.1", port)).close()


def test_a_port_is_reserved_once_also_before_anybody_listens() -> None:
    with (
        reserved("127.0.0.1", 0) as port,
        pytest.raises(SetupError, match=f"cannot listen on 127.0.0.1:{port}: {IN_USE}"),
        reserved("127.0.0.1", port),
    ):
        pass
    with reserved("127.0.0.1", port) as again:
        assert again == port


def test_a_port_on_which_a_server_listens_is_not_reserved() -> None:
    with reserved("127.0.0.1", 0) as port:
        pass
    with (
        listener(port, shared=True),
        pytest.raises(SetupError, match=IN_USE),
        reserved("127.0.0.1", port),
    ):
        pass


def test_all_addresses_of_a_host_are_reserved() -> None:
    with reserved("localhost", 0) as port:
        addresses = {
            info[4] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)
        }
        for address in addresses:
            family = socket.AF_INET6 if ":" in str(address[0]) else socket.AF_INET
            with (
                socket.socket(family) as other,
                pytest.raises(OSError, match=r"in use|assign requested"),
            ):
                other.bind(address)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("256.1.1.1", r"256\.1\.1\.1:0: no such host"),
        ("192.0.2.1", r"192\.0\.2\.1:0: this machine has no such address"),  # RFC 5737
    ],
)
def test_an_address_that_cannot_be_had_is_told_in_one_line(host: str, says: str) -> None:
    with pytest.raises(SetupError, match=says), reserved(host, 0):
        pass
