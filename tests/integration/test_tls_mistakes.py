"""What client, commands and server say where TLS keeps them apart: which side, and what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme
from typer.testing import CliRunner

import pagesight
from pagesight import AsyncClient, Client, TlsConfig
from pagesight._cli import app
from pagesight.v1.gallery_pb2_grpc import add_GalleryServiceServicer_to_server
from pagesight_server.common.errors import SetupError
from pagesight_server.config_sections import SecurityConfig, ServerConfig
from pagesight_server.service import auth, certificates
from pagesight_server.service.listening import why_not
from tests.support import WAIT_S
from tests.support.fake_gallery import FakeGallery
from tests.support.serving import serving

ONCE = pagesight.RetryPolicy(attempts=1)
LONG_AGO = (datetime(2019, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))


@dataclass(frozen=True)
class Parties:
    """Two authorities, and the certificates of a server and of two callers."""

    ours: trustme.CA
    theirs: trustme.CA
    server: trustme.LeafCert
    elsewhere: trustme.LeafCert
    """Of another name than the address."""
    expired: trustme.LeafCert
    caller: trustme.LeafCert
    stranger: trustme.LeafCert


@pytest.fixture(scope="module")
def parties() -> Parties:
    ours, theirs = trustme.CA(), trustme.CA()
    return Parties(
        ours=ours,
        theirs=theirs,
        server=ours.issue_cert("127.0.0.1"),
        elsewhere=ours.issue_cert("pages.example.org"),
        expired=ours.issue_cert("127.0.0.1", not_before=LONG_AGO[0], not_after=LONG_AGO[1]),
        caller=ours.issue_cert("caller"),
        stranger=theirs.issue_cert("caller"),
    )


def chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


@contextmanager
def listening(leaf: trustme.LeafCert | None, client_ca: trustme.CA | None = None) -> Iterator[str]:
    """A server with a certificate or without; its address."""
    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads)
        add_GalleryServiceServicer_to_server(FakeGallery(), server)
        if leaf is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (leaf.private_key_pem.bytes(), chain(leaf))
            asked = client_ca.cert_pem.bytes() if client_ca else None
            port = server.add_secure_port(
                "127.0.0.1:0",
                grpc.ssl_server_credentials([pair], asked, require_client_auth=asked is not None),
            )
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait(WAIT_S)


def trusting(
    authority: trustme.CA, leaf: trustme.LeafCert | None = None, server_name: str = ""
) -> TlsConfig:
    return TlsConfig(
        ca=authority.cert_pem.bytes(),
        cert=chain(leaf) if leaf else None,
        key=leaf.private_key_pem.bytes() if leaf else None,
        server_name=server_name,
    )


CASES: dict[
    str,
    tuple[
        Callable[[Parties], tuple[trustme.LeafCert | None, trustme.CA | None]],
        Callable[[Parties], TlsConfig | None],
        str,
    ],
] = {
    "in the clear to a TLS port": (
        lambda p: (p.server, None),
        lambda p: None,
        "hangs up on connections without TLS: if it asks for TLS, connect with it",
    ),
    "TLS to a port in the clear": (
        lambda p: (None, None),
        lambda p: trusting(p.ours),
        "the server does not speak TLS",
    ),
    "an authority that is not trusted": (
        lambda p: (p.server, None),
        lambda p: trusting(p.theirs),
        "of an authority that is not trusted: trust it",
    ),
    "another name": (
        lambda p: (p.elsewhere, None),
        lambda p: trusting(p.ours),
        "of another name than the address",
    ),
    "an expired certificate": (
        lambda p: (p.expired, None),
        lambda p: trusting(p.ours),
        "has expired, or is not valid yet: renew it",
    ),
    "no client certificate": (
        lambda p: (p.server, p.ours),
        lambda p: trusting(p.ours),
        "if it asks for a client certificate, show one",
    ),
    "a client certificate of strangers": (
        lambda p: (p.server, p.ours),
        lambda p: trusting(p.ours, p.stranger),
        "does it trust the authority of the client certificate",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_tls_mistake_says_what_it_is_in_both_clients(parties: Parties, case: str) -> None:
    of_server, of_client, told = CASES[case]
    tls = of_client(parties)

    async def ask(address: str) -> None:
        async with AsyncClient(address, tls=tls, retry=ONCE, timeout_s=WAIT_S) as client:
            await client.get_gallery()

    with listening(*of_server(parties)) as address:
        with (
            Client(address, tls=tls, retry=ONCE, timeout_s=WAIT_S) as client,
            pytest.raises(pagesight.UnavailableError, match=told) as failed,
        ):
            client.get_gallery()
        assert failed.value.reason == "TLS_FAILED"
        assert failed.value.message.startswith(f"{address}: ")
        with (
            Client(address, tls=tls, retry=ONCE, timeout_s=WAIT_S) as client,
            pytest.raises(pagesight.UnavailableError, match=told),
        ):
            list(client.classify_stream([b"picture"]))
        with pytest.raises(pagesight.UnavailableError, match=told):
            asyncio.run(ask(address))


def test_what_must_fail_again_is_told_at_the_first_attempt(parties: Parties) -> None:
    with (
        listening(parties.server) as address,
        Client(address, tls=trusting(parties.theirs), retry_for_s=WAIT_S) as client,
        pytest.raises(pagesight.UnavailableError, match="not trusted") as failed,
    ):
        client.get_gallery()
    assert "tried" not in failed.value.message


def test_a_server_that_is_away_is_no_tls_mistake(parties: Parties) -> None:
    with (
        Client("127.0.0.1:1", tls=trusting(parties.ours), retry=ONCE) as client,
        pytest.raises(pagesight.UnavailableError, match="no server answers") as failed,
    ):
        client.get_gallery()
    assert failed.value.reason == ""


def test_files_that_cannot_be_used_are_told_before_any_call(parties: Parties) -> None:
    ca, cert = parties.ours.cert_pem.bytes(), chain(parties.caller)
    mine, theirs = (leaf.private_key_pem.bytes() for leaf in (parties.caller, parties.stranger))
    for tls, told in (
        (TlsConfig(ca=ca, cert=cert, key=theirs), "key is the private key of another certificate"),
        (TlsConfig(ca=ca, cert=cert, key=b"nonsense"), "key is no private key in PEM"),
        (TlsConfig(ca=ca, cert=b"nonsense", key=mine), "cert holds no certificate"),
        (TlsConfig(ca=b"nonsense"), "ca holds no certificate"),
        (TlsConfig(ca=b""), "ca holds no certificate"),
    ):
        with pytest.raises(ValueError, match=f"tls: {told}"):
            Client("127.0.0.1:1", tls=tls)
    # Bundles of authorities name these in comments, which need not be ASCII.
    Client("127.0.0.1:1", tls=TlsConfig(ca="# Főtanúsítvány\n".encode() + ca)).close()
    Client("127.0.0.1:1", tls=TlsConfig(ca=ca, cert=cert, key=mine)).close()


def test_the_commands_show_a_client_certificate_and_say_what_tls_lacks(
    parties: Parties, tmp_path: Path
) -> None:
    files = {
        "CA": parties.ours.cert_pem.bytes(),
        "CERT": chain(parties.caller),
        "KEY": parties.caller.private_key_pem.bytes(),
        "OTHER_KEY": parties.stranger.private_key_pem.bytes(),
    }
    for name, pem in files.items():
        (tmp_path / name).write_bytes(pem)

    def run(address: str, **variables: str) -> tuple[int, str]:
        env: dict[str, str | None] = {
            f"PAGESIGHT_TLS_{name}": None for name in ("CA", "CERT", "KEY", "SERVER_NAME")
        }
        env |= {f"PAGESIGHT_TLS_{name}": value for name, value in variables.items()}
        result = CliRunner().invoke(app, ["gallery", "list", "--address", address], env=env)
        return result.exit_code, result.stderr

    paths = {name: str(tmp_path / name) for name in files}
    with listening(parties.server, parties.ours) as address:
        assert run(address, CA=paths["CA"], CERT=paths["CERT"], KEY=paths["KEY"]) == (0, "")
        code, err = run(address, CA=paths["CA"])
        assert (code, "PAGESIGHT_TLS_CERT and PAGESIGHT_TLS_KEY" in err) == (1, True)
        code, err = run(address)
        assert (code, "PAGESIGHT_TLS_CA" in err, len(err.splitlines())) == (1, True, 1)
        other = run(address, CA=paths["CA"], CERT=paths["CERT"], KEY=paths["OTHER_KEY"])
        assert other == (1, "pagesight: tls: key is the private key of another certificate\n")
        alone = run(address, CERT=paths["CERT"])
        assert alone == (1, "pagesight: PAGESIGHT_TLS_CERT and PAGESIGHT_TLS_KEY belong together\n")
        gone = run(address, CA=str(tmp_path / "gone"))
        assert gone[1].startswith("pagesight: PAGESIGHT_TLS_...: cannot read ")
    with listening(parties.elsewhere) as address:
        named = run(address, CA=paths["CA"], SERVER_NAME="pages.example.org")
        assert named == (0, "")
        assert "PAGESIGHT_TLS_SERVER_NAME" in run(address, CA=paths["CA"])[1]


# --- the server ---


def written(folder: Path, leaf: trustme.LeafCert, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(chain(leaf))
    leaf.private_key_pem.write_to_path(key)
    return cert, key


def test_files_that_the_server_cannot_use_are_one_line(parties: Parties, tmp_path: Path) -> None:
    cert, key = written(tmp_path, parties.server, "server")
    _, other = written(tmp_path, parties.caller, "other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for config, told in (
        (SecurityConfig(cert=cert, key=other), r"security\.key: .* of another certificate than"),
        (SecurityConfig(cert=cert, key=nonsense), r"security\.key: .*is no private key in PEM"),
        (SecurityConfig(cert=nonsense, key=key), r"security\.cert: .*holds no certificate"),
        (SecurityConfig(cert=damaged, key=key), r"security\.cert: .*is damaged"),
        (
            SecurityConfig(cert=cert, key=key, client_ca=nonsense),
            r"security\.client_ca: .*holds no certificate",
        ),
        (SecurityConfig(cert=cert, key=tmp_path / "gone"), r"security\.key: .*gone: No such file"),
    ):
        with pytest.raises(SetupError, match=told):
            auth.edge("127.0.0.1", config)


def test_a_certificate_that_is_not_valid_now_is_a_warning(parties: Parties, tmp_path: Path) -> None:
    cert, key = written(tmp_path, parties.expired, "expired")
    config = SecurityConfig(cert=cert, key=key)
    assert auth.edge("127.0.0.1", config).credentials is not None  # it starts all the same
    begin, end = LONG_AGO
    day = timedelta(days=1)

    def told(now: datetime) -> list[str]:
        return certificates.warnings(config, now)

    assert told(end + day) == [
        f"security.cert: {cert} has expired on 2020-01-01: renew it, or nobody can connect"
    ]
    assert told(end - day) == [f"security.cert: {cert} expires on 2020-01-01: renew it"]
    assert told(begin + day) == []
    assert told(begin - day) == [f"security.cert: {cert} is not valid before 2019-01-01 00:00 UTC"]


def test_the_times_of_a_certificate_are_read_in_both_forms() -> None:
    # RFC 5280, 4.1.2.5: years up to 2049 in two digits, later ones in four.
    for year in (1999, 2049, 2051):
        begin, end = datetime(1998, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, tzinfo=UTC)
        leaf = trustme.CA().issue_cert("a.example.org", not_before=begin, not_after=end)
        found = certificates.validity(_der(leaf))
        assert found == (begin, end)
    for nonsense in (b"", b"\x30", b"\x30\x80", b"nonsense", _der(leaf)[:40]):
        with pytest.raises(ValueError, match=r".+"):
            certificates.validity(nonsense)


def _der(leaf: trustme.LeafCert) -> bytes:
    import ssl

    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


async def test_a_port_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = ServerConfig(host="127.0.0.1", port=port)
        with pytest.raises(SetupError) as failed:
            async with serving(tmp_path, config=config):
                pass
        assert str(failed.value) == (
            f"cannot listen on 127.0.0.1:{port}: another program listens there: stop it, or take "
            "another --port"
        )
    # 203.0.113.0/24 is for documentation (RFC 5737): no machine has it.
    assert why_not("203.0.113.1", 0).startswith("this machine has no such address")
    assert why_not("no-such-host.invalid", 0).startswith("no such host")
