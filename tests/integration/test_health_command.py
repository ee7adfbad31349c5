"""`pagesight health` against health services on real sockets: what it says, and its exit codes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from typer.testing import CliRunner, Result

from pagesight._cli import app
from tests.support import WAIT_S
from tests.support.names import NameServer
from tests.support.serving import serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def ask(address: str, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["health", "--address", address, *arguments], env=environment)


@contextmanager
def listening(
    service: Any = None,
    credentials: grpc.ServerCredentials | None = None,
    *,
    offers_health: bool = True,
    address: str = "127.0.0.1:0",
) -> Iterator[str]:
    """The address of a server with a health service, the library's own unless one is given."""
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        if offers_health:
            service = service or health.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(service, server)
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
        server.start()
        try:
            yield f"{address.rpartition(':')[0]}:{port}"
        finally:
            server.stop(None).wait(WAIT_S)


def answering(*answers: int) -> Any:
    """A health service with these answers, the last of them for ever."""
    left = list(answers)

    class Service(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
            return health_pb2.HealthCheckResponse(status=left.pop(0) if left[1:] else left[0])

    return Service()


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def test_the_server_of_pagesight_is_serving(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        result = await asyncio.to_thread(ask, served.address)
    assert (result.exit_code, result.output) == (0, f"{served.address} is serving\n")


def test_a_server_that_says_that_it_is_not_serving_is_exit_code_3() -> None:
    with listening(answering(NOT_SERVING)) as address:
        result = ask(address)
    assert result.exit_code == 3
    assert result.output == f"{address} is not serving: it starts, or it drains\n"


def test_where_nobody_listens_it_is_one_line_and_exit_code_1() -> None:
    address = nobody()
    result = ask(address)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"pagesight: no server answers at {address}: ")
    assert result.stderr.count("\n") == 1


def test_a_server_without_health_is_named_as_no_server_of_pagesight() -> None:
    with listening(offers_health=False) as address:
        result = ask(address)
    assert result.exit_code == 1
    assert "does not offer this call; is it a pagesight server?" in result.stderr


def test_of_several_servers_each_is_asked_and_the_worst_answer_is_the_exit_code() -> None:
    away = nobody()
    with listening() as serving_one, listening(answering(NOT_SERVING)) as starting:
        both = ask(f"{serving_one}, {starting}")
        all_three = ask(f"{starting},{away},{serving_one}")
    assert both.exit_code == 3
    assert [line.split(" is ")[0] for line in both.output.splitlines()] == [serving_one, starting]
    assert all_three.exit_code == 1
    assert f"no server answers at {away}" in all_three.stderr
    assert len(all_three.output.splitlines()) == 3


@pytest.fixture
def name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that stands for two of this machine's addresses, in both families."""
    resolve = socket.getaddrinfo

    def found(host: Any, port: Any, *arguments: Any, **options: Any) -> list[Any]:
        if host != "pages.test":
            return resolve(host, port, *arguments, **options)
        every = ("::1", "127.0.0.1", "127.0.0.2")
        return [one for at in every for one in resolve(at, port, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return "pages.test"


def test_a_name_whose_server_is_not_serving_is_exit_code_3() -> None:
    with listening(answering(NOT_SERVING)) as address:
        result = ask(f"dns:///{address}")
    assert result.exit_code == 3
    assert result.output == f"{address} is not serving: it starts, or it drains\n"


def test_of_a_name_each_server_is_asked(name: str) -> None:
    with listening() as first:
        port = first.rpartition(":")[2]
        with listening(answering(NOT_SERVING), address=f"127.0.0.2:{port}"):
            result = ask(f"dns:///{name}:{port}")
        alone = ask(f"dns:///{name}:{port}")
    assert result.exit_code == 3
    assert result.output.splitlines() == [
        f"{first} is serving",
        f"127.0.0.2:{port} is not serving: it starts, or it drains",
    ]
    assert alone.exit_code == 1
    assert f"no server answers at 127.0.0.2:{port}" in alone.stderr


def test_a_name_that_nobody_knows_is_exit_code_1() -> None:
    result = ask("dns:///no-such-name.invalid:50051")
    assert result.exit_code == 1
    assert "no server answers at dns:///no-such-name.invalid:50051" in result.stderr


def test_a_name_of_another_name_server_is_left_to_grpc(name: str) -> None:
    with listening(answering(NOT_SERVING)) as address, NameServer("127.0.0.1") as names:
        result = ask(f"dns://{names.address}/{name}:{address.rpartition(':')[2]}")
    assert result.exit_code == 3


def test_the_certificate_of_a_name_is_asked_of_each_of_its_servers(
    name: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert(name)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(leaf.private_key_pem.bytes(), chain)])
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert_pem.bytes())
    with listening(credentials=credentials) as first:
        port = first.rpartition(":")[2]
        with listening(credentials=credentials, address=f"127.0.0.2:{port}"):
            result = ask(f"dns:///{name}:{port}", PAGESIGHT_TLS_CA=str(ca))
    assert result.exit_code == 0, result.output


def test_an_empty_address_is_told_in_one_line() -> None:
    result = ask("127.0.0.1:1,")
    assert result.exit_code != 0
    assert "host:port" in result.stderr


@pytest.mark.parametrize("status", [0, 3], ids=["unknown", "service unknown"])
def test_whatever_is_not_serving_counts_as_that(status: int) -> None:
    with listening(answering(status)) as address:
        assert ask(address).exit_code == 3


def test_who_waits_goes_on_once_it_is_serving() -> None:
    with listening(answering(NOT_SERVING, NOT_SERVING, SERVING)) as address:
        result = ask(address, "--wait", str(WAIT_S))
    assert (result.exit_code, result.output) == (0, f"{address} is serving\n")


def test_who_waits_in_vain_hears_how_often_it_was_asked() -> None:
    with listening(answering(NOT_SERVING)) as address:
        result = ask(address, "--wait", "0.2")
    assert result.exit_code == 3
    assert "it drains; tried " in result.output


@pytest.mark.parametrize(
    ("status", "code", "told"), [(SERVING, 0, "serving"), (NOT_SERVING, 3, "not_serving")]
)
def test_a_machine_reads_one_object(status: int, code: int, told: str) -> None:
    with listening(answering(status)) as address:
        result = ask(address, "--json")
    assert result.exit_code == code
    answer = json.loads(result.stdout)
    assert (answer["address"], answer["status"]) == (address, told)
    assert ("error" in answer) == (code != 0)


def test_a_machine_reads_why_there_was_no_answer() -> None:
    result = ask(nobody(), "--json")
    answer = json.loads(result.stdout)
    assert (result.exit_code, result.stderr, answer["status"]) == (1, "", "unreachable")
    assert answer["error"]["code"] == "UNAVAILABLE"


def test_over_tls_it_trusts_whom_it_is_told_to_and_asks_by_another_name(tmp_path: Path) -> None:
    # As the probe of a pod does: the address is loopback, the certificate the service's.
    authority = trustme.CA()
    leaf = authority.issue_cert("pagesight.example.org")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    pair = (leaf.private_key_pem.bytes(), chain)
    ca = tmp_path / "ca.crt"
    ca.write_bytes(authority.cert_pem.bytes())
    settings = {"PAGESIGHT_TLS_CA": str(ca), "PAGESIGHT_TLS_SERVER_NAME": "pagesight.example.org"}
    with listening(credentials=grpc.ssl_server_credentials([pair])) as address:
        assert ask(address, **settings).exit_code == 0
        without = ask(address)
    assert without.exit_code == 1
    assert "hangs up on connections without TLS" in without.stderr


def test_a_token_in_the_environment_is_neither_needed_nor_sent_in_the_clear() -> None:
    seen: list[Any] = []

    class Service(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
        def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
            seen.extend(context.invocation_metadata())
            return health_pb2.HealthCheckResponse(status=SERVING)

    with listening(Service()) as address:
        assert ask(address, PAGESIGHT_TOKEN="secret").exit_code == 0
    assert "authorization" not in dict(seen)
