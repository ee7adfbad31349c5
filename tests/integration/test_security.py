"""Who may call: tokens and their roles over real sockets, and what the server refuses to serve."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

import pagesight
from pagesight import AsyncClient
from pagesight_server.config import SecurityConfig
from pagesight_server.errors import SetupError
from pagesight_server.service.security import (
    RequireRole,
    credentials,
    edge,
    is_loopback,
    read_tokens,
)
from tests.support.pictures import RED, solid
from tests.support.serving import Serving, serving

FILE = "".join(
    f"[[token]]\nname = '{name}'\nsha256 = '{hashlib.sha256(secret).hexdigest()}'\n"
    f"roles = ['{role}']\n"
    for name, secret, role in [
        ("asker", b"ask-me", "classify"),
        ("teacher", b"teach-me", "gallery-write"),
        ("root", b"all", "admin"),
    ]
)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that asks for tokens."""
    file = tmp_path / "tokens.toml"
    file.write_text(FILE, "utf-8")
    async with serving(tmp_path, guards=[RequireRole(read_tokens(file))]) as made:
        yield made


def client(served: Serving, token: str | None) -> AsyncClient:
    return AsyncClient(served.address, token=token, timeout_s=10)


async def test_a_token_may_do_what_its_role_says(guarded: Serving) -> None:
    item = pagesight.EnrolItem(image=solid(RED), label="a")
    async with client(guarded, "teach-me") as teacher:
        assert (await teacher.enrol([item])).revision == 1
        with pytest.raises(pagesight.PermissionDeniedError, match="'teacher' has the roles"):
            await teacher.classify(solid(RED))
    async with client(guarded, "ask-me") as asker:
        assert (await asker.classify(solid(RED))).label == "a"
        results = [result async for result in asker.classify_stream([solid(RED)])]
        assert [result.unwrap().label for result in results] == ["a"]
        for refused in (asker.get_labels(), asker.enrol([item])):
            with pytest.raises(pagesight.PermissionDeniedError) as error:
                await refused
            assert error.value.reason == "ROLE_MISSING"
    async with client(guarded, "all") as root:
        assert (await root.classify(solid(RED))).label == "a"
        assert (await root.get_labels()).revision == 1


@pytest.mark.parametrize("token", [None, "ask-m", "ASK-ME", hashlib.sha256(b"ask-me").hexdigest()])
async def test_without_a_token_that_is_known_nothing_is_done(
    guarded: Serving, token: str | None
) -> None:
    async with client(guarded, token) as nobody:
        with pytest.raises(pagesight.UnauthenticatedError):
            await nobody.classify(solid(RED))
        with pytest.raises(pagesight.UnauthenticatedError):
            [result async for result in nobody.classify_stream([solid(RED)])]
        with pytest.raises(pagesight.UnauthenticatedError):
            await nobody.enrol([pagesight.EnrolItem(image=solid(RED), label="a")])
    assert guarded.models.encoded == 0
    assert guarded.store.revisions() == {}


async def test_probes_need_no_token(guarded: Serving) -> None:
    stub = health_pb2_grpc.HealthStub(guarded.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_every_change_leaves_a_line_with_who_made_it(
    guarded: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pagesight_server.audit")
    async with client(guarded, "teach-me") as teacher:
        await teacher.enrol([pagesight.EnrolItem(image=solid(RED), label="a")], author="mei")
        image_id = hashlib.sha256(solid(RED)).hexdigest()
        await teacher.relabel([image_id], "b")
        await teacher.set_labels([pagesight.LabelInfo(label="b", outputs=("limit",))])
        await teacher.remove([image_id])
        await teacher.rollback(1)
        await teacher.get_labels()
    lines = [r.getMessage() for r in caplog.records if r.name == "pagesight_server.audit"]
    assert lines[0].startswith("gallery 'default' enrol by 'teacher' (author 'mei') from ")
    assert lines[0].endswith("revision 1, 1 added")
    assert [line.split(" by 'teacher'")[0] for line in lines] == [
        f"gallery 'default' {kind}" for kind in ("enrol", "relabel", "labels", "remove", "rollback")
    ]
    assert "teach-me" not in caplog.text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nobody could call"),
        ("[[token]]\nname = 'a'\nroles = ['admin']\n", "sha256"),
        (f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nroles = ['king']\n", "roles among"),
        ("[[token]]\nname = 'a'\nsha256 = '00'\nroles = ['admin']\n", "64 digits"),
        ("token = 3", "name, sha256"),
        ("[[token", "name, sha256"),
    ],
)
def test_a_file_of_tokens_with_a_mistake_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(SetupError, match=says):
        read_tokens(file)


def test_beyond_this_machine_only_with_tls_or_on_demand(tmp_path: Path) -> None:
    assert credentials("127.0.0.1", SecurityConfig()) is None
    with pytest.raises(SetupError, match="--allow-plaintext"):
        credentials("0.0.0.0", SecurityConfig())
    assert credentials("0.0.0.0", SecurityConfig(allow_plaintext=True)) is None
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with_tls = SecurityConfig(cert=tmp_path / "cert.pem", key=tmp_path / "key.pem")
    assert isinstance(credentials("0.0.0.0", with_tls), grpc.ServerCredentials)
    with pytest.raises(SetupError, match="belong together"):
        credentials("127.0.0.1", SecurityConfig(cert=tmp_path / "cert.pem"))
    gone = SecurityConfig(cert=tmp_path / "gone.pem", key=tmp_path / "key.pem")
    with pytest.raises(SetupError, match=r"gone\.pem: No such file"):
        edge("127.0.0.1", gone)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_which_addresses_are_this_machine_alone(host: str, own: bool) -> None:
    assert is_loopback(host) == own
