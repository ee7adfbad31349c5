"""Who may call: tokens and their roles over real sockets, and what the server refuses to serve."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import pagesight
from pagesight import AsyncClient
from pagesight.v1 import gallery_pb2, review_pb2
from pagesight_server.common.errors import SetupError
from pagesight_server.config_sections import SecurityConfig
from pagesight_server.service import auth
from pagesight_server.service.auth import (
    RequireRole,
    credentials,
    edge,
    is_loopback,
    open_to_all,
    read_tokens,
    roles_for,
)
from tests.support import WAIT_S
from tests.support.pictures import RED, solid
from tests.support.serving import Serving, serving

FILE = "".join(
    f"[[token]]\nname = '{name}'\nsha256 = '{hashlib.sha256(secret).hexdigest()}'\n"
    f"roles = ['{role}']\n"
    for name, secret, role in [
        ("asker", b"ask-me", "classify"),
        ("teacher", b"teach-me", "gallery-write"),
        ("reader", b"show-me", "gallery-read"),
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
    return AsyncClient(served.address, token=token, timeout_s=WAIT_S)


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
    async with client(guarded, "show-me") as reader:
        assert [info.name async for info in reader.list_galleries()] == ["default"]
        assert (await reader.get_gallery()).images == 1
        assert (await reader.diagnose()).images == 1
        for change in (
            reader.enrol([item]),
            reader.remove(["0" * 64]),
            reader.rollback(0),
            reader.delete_gallery("default"),
            reader.classify(solid(RED)),
        ):
            with pytest.raises(pagesight.PermissionDeniedError):
                await change
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


def test_each_call_is_for_the_roles_that_its_effect_asks_for() -> None:
    methods = gallery_pb2.DESCRIPTOR.services_by_name["GalleryService"].methods
    changes = {
        method.name
        for method in methods
        if any(
            field.message_type is gallery_pb2.Change.DESCRIPTOR
            for field in method.input_type.fields
        )
    }
    settling = {"SettleFindings", "UnsettleFindings"}  # which make no revision
    reading = {method.name for method in methods} - changes - settling
    assert len(changes) == 6
    service = "pagesight.v1.GalleryService"
    for method in reading:
        assert roles_for(service, method) == {"gallery-read", "gallery-write", "review", "admin"}
    for method in settling:
        assert roles_for(service, method) == {"gallery-write", "review", "admin"}
    for method in changes:
        assert roles_for(service, method) == {"gallery-write", "admin"}
    for reviewing in review_pb2.DESCRIPTOR.services_by_name["ReviewService"].methods:
        assert roles_for("pagesight.v1.ReviewService", reviewing.name) == {"review", "admin"}
    for name in ("Classify", "ClassifyStream"):
        roles = roles_for("pagesight.v1.ClassifierService", name)
        assert roles == {"classify", "review", "admin"}
    assert roles_for("grpc.reflection.v1alpha.ServerReflection", "x") == {"admin"}


async def test_only_an_admin_may_see_the_contract(guarded: Serving) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    codes = {}
    for token in ("ask-me", "teach-me", "all"):
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        bearer = (("authorization", f"Bearer {token}"),)
        call = stub.ServerReflectionInfo(iter([asked]), metadata=bearer, timeout=WAIT_S)
        with contextlib.suppress(grpc.aio.AioRpcError):
            assert [reply async for reply in call]
        codes[token] = (await call.code()).name
    assert codes == {"ask-me": "PERMISSION_DENIED", "teach-me": "PERMISSION_DENIED", "all": "OK"}


async def test_probes_need_no_token(guarded: Serving) -> None:
    stub = health_pb2_grpc.HealthStub(guarded.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_every_token_of_the_file_is_compared_and_never_with_equals(
    guarded: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[bytes] = []

    def compare_digest(known: bytes, given: bytes) -> bool:
        compared.append(given)
        return hmac.compare_digest(known, given)

    # In place of the module: `==`, or a look-up in a dictionary, would not come this way.
    monkeypatch.setattr(auth, "hmac", SimpleNamespace(compare_digest=compare_digest))
    for token in ("ask-me", "all", "guessed"):
        async with client(guarded, token) as caller:
            with contextlib.suppress(pagesight.PagesightError):
                await caller.get_labels()
        # Of the first, the last and none alike: all four, with the digest of what was sent.
        assert compared == [hashlib.sha256(token.encode()).digest()] * 4
        compared.clear()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "nobody could call"),
        ("[[token]]\nname = 'a'\nroles = ['admin']\n", "sha256"),
        (f"[[token]]\nname = 'a'\nsha256 = '{'0' * 64}'\nroles = ['king']\n", "roles among"),
        ("[[token]]\nname = 'a'\nsha256 = '00'\nroles = ['admin']\n", "64 digits"),
        (
            "".join(
                f"[[token]]\nname = {name!r}\nsha256 = '{digit * 64}'\nroles = ['review']\n"
                for name, digit in (("team", "0"), ("team/mei", "1"))
            ),
            "'team/mei' is named like a reviewer of 'team'",
        ),
        ("token = 3", "name, sha256"),
        ("[[token", "name, sha256"),
    ],
)
def test_a_file_of_tokens_with_a_mistake_is_refused(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(SetupError, match=says):
        read_tokens(file)


def test_a_file_of_tokens_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(FILE.replace("\n", "\r\n"), "utf-8-sig", newline="")
    assert [token.name for token in read_tokens(file)] == ["asker", "teacher", "reader", "root"]


async def test_with_mutual_tls_only_callers_of_the_authority_are_heard(tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    config = SecurityConfig(
        cert=tmp_path / "cert.pem", key=tmp_path / "key.pem", client_ca=tmp_path / "ca.pem"
    )
    guards = edge("0.0.0.0", config)

    def showing(issuer: trustme.CA | None) -> pagesight.TlsConfig:
        ca = authority.cert_pem.bytes()
        if issuer is None:
            return pagesight.TlsConfig(ca=ca)
        mine = issuer.issue_cert("caller")
        return pagesight.TlsConfig(
            ca=ca, cert=mine.cert_chain_pems[0].bytes(), key=mine.private_key_pem.bytes()
        )

    once = pagesight.RetryPolicy(attempts=1)
    async with serving(tmp_path, credentials=guards.credentials) as served:
        for tls in (showing(None), showing(stranger), None):
            async with AsyncClient(served.address, tls=tls, retry=once, timeout_s=WAIT_S) as nobody:
                with pytest.raises(pagesight.UnavailableError):
                    await nobody.enrol([pagesight.EnrolItem(image=solid(RED), label="a")])
        assert served.store.revisions() == {}
        async with AsyncClient(served.address, tls=showing(authority), timeout_s=WAIT_S) as known:
            await known.enrol([pagesight.EnrolItem(image=solid(RED), label="a")])
            assert (await known.classify(solid(RED))).label == "a"


@pytest.mark.parametrize(
    ("host", "settings", "open_to"),
    [
        ("127.0.0.1", {}, False),
        ("0.0.0.0", {"allow_plaintext": True}, True),
        ("0.0.0.0", {"cert": "c.pem", "key": "k.pem"}, True),
        ("0.0.0.0", {"cert": "c.pem", "key": "k.pem", "tokens": "t.toml"}, False),
        ("0.0.0.0", {"cert": "c.pem", "key": "k.pem", "client_ca": "a.pem"}, False),
    ],
)
def test_whoever_is_open_to_all_is_told_so(
    host: str, settings: dict[str, Any], open_to: bool
) -> None:
    assert bool(open_to_all(host, SecurityConfig(**settings))) == open_to


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
