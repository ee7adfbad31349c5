"""What one caller may ask for, by a clock that the test turns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.errors import LimitError, RateLimitedError
from pagesight_server.config_sections import SecurityConfig
from pagesight_server.service import rate_limits
from pagesight_server.service.auth import CALLER, RequireRole, read_tokens
from pagesight_server.service.rate_limits import CallerLimits, caller_of
from tests.support import WAIT_S
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import details, request, serving, status_of


class Clock:
    """Stands still until it is turned."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def made(clock: Clock, **settings: float) -> CallerLimits:
    return CallerLimits(SecurityConfig.model_validate(settings), clock=clock)


def test_a_burst_is_let_in_and_then_as_many_as_the_rate_says() -> None:
    clock = Clock()
    callers = made(clock, calls_per_second=4, calls_burst=3)
    for _ in range(3):
        callers.spend("ipv4:10.0.0.1")
    with pytest.raises(RateLimitedError, match="4 calls a second") as error:
        callers.spend("ipv4:10.0.0.1")
    assert error.value.retry_after_ms == 250
    callers.spend("ipv4:10.0.0.2")
    clock.now_s += 0.25
    callers.spend("ipv4:10.0.0.1")
    with pytest.raises(RateLimitedError):
        callers.spend("ipv4:10.0.0.1")
    clock.now_s += 3600
    for _ in range(3):
        callers.spend("ipv4:10.0.0.1")
    with pytest.raises(RateLimitedError):
        callers.spend("ipv4:10.0.0.1")


def test_whoever_waits_as_long_as_told_is_let_in() -> None:
    clock = Clock()
    callers = made(clock, calls_per_second=0.3, calls_burst=1)
    for _ in range(1000):
        callers.spend("unix:")
        with pytest.raises(RateLimitedError) as error:
            callers.spend("unix:")
        clock.now_s += error.value.retry_after_ms / 1000


def test_bytes_are_counted_and_what_never_fits_is_refused_for_good() -> None:
    clock = Clock()
    callers = made(clock, bytes_per_second=100, bytes_burst=1000)
    callers.spend("unix:", 900)
    with pytest.raises(RateLimitedError, match="100 bytes a second") as error:
        callers.spend("unix:", 600)
    assert error.value.retry_after_ms == 5000
    callers.spend("unix:", 100)  # what was refused took nothing
    with pytest.raises(LimitError, match="has 1,001 bytes"):
        callers.spend("unix:", 1001)


def test_unless_set_nothing_is_counted() -> None:
    callers = made(Clock())
    for _ in range(1000):
        callers.spend("unix:", 10**9)


def test_no_more_callers_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_CALLERS", 2)
    callers = made(Clock(), calls_per_second=1, calls_burst=1)
    for host in ("10.0.0.1", "10.0.0.2", "10.0.0.3"):
        callers.spend(f"ipv4:{host}")
    assert list(callers._callers) == ["ipv4:10.0.0.2", "ipv4:10.0.0.3"]


class Call:
    """What a service is told of a call: where it comes from, and whose certificate it has."""

    def __init__(self, peer: str, *identities: bytes) -> None:
        self._peer = peer
        self._identities = identities

    def peer(self) -> str:
        return self._peer

    def peer_identities(self) -> Iterable[bytes] | None:
        return self._identities or None


@pytest.mark.parametrize(
    ("call", "caller"),
    [
        (Call("ipv4:10.0.0.1:4567"), "ipv4:10.0.0.1"),
        (Call("ipv6:%5B::1%5D:4567"), "ipv6:%5B::1%5D"),
        (Call("unix:/run/a.sock"), "unix:/run/a.sock"),
        (Call("ipv4:10.0.0.1:4567", b"loader"), "certificate:loader"),
        (Call("ipv4:10.0.0.2:4568", b"a.example", b"b.example"), "certificate:a.example b.example"),
    ],
)
def test_without_a_token_a_caller_is_its_certificate_or_its_address(call: Any, caller: str) -> None:
    assert caller_of(call) == caller


def test_a_token_says_who_calls_wherever_it_calls_from() -> None:
    reset = CALLER.set("loader")
    try:
        call: Any = Call("ipv4:10.0.0.1:4567", b"gateway")
        assert caller_of(call) == "token:loader"
    finally:
        CALLER.reset(reset)


async def test_a_caller_over_its_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    clock = Clock()
    callers = made(clock, calls_per_second=2, calls_burst=3)
    async with serving(tmp_path, callers=callers) as served:
        await served.enrol(("a", solid(RED)))
        assert (await served.classify(solid(RED))).label == "a"
        stream = served.stream()
        await stream.write(request("third", RED))
        assert (await stream.read()).classification.label == "a"
        # The stream goes on; its message alone fails.
        await stream.write(request("fourth", RED))
        reply = await stream.read()
        assert reply.error.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert details(reply.error) == ("RATE_LIMITED", 0.5)
        for call in (
            served.classify(solid(GREEN)),
            served.enrol(("b", solid(GREEN))),
            served.gallery.GetLabels(gpb.GetLabelsRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert details(status_of(error.value)) == ("RATE_LIMITED", 0.5)
        clock.now_s += 0.5
        await stream.write(request("again", RED))
        assert (await stream.read()).classification.label == "a"
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_tokens_pay_for_themselves_wherever_they_call_from(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text(
        "".join(
            f"[[token]]\nname = '{name}'\nroles = ['admin']\n"
            f"sha256 = '{hashlib.sha256(name.encode()).hexdigest()}'\n"
            for name in ("one", "two")
        ),
        "utf-8",
    )
    callers = made(Clock(), calls_per_second=1, calls_burst=1)
    guard = RequireRole(read_tokens(file))
    async with serving(tmp_path, callers=callers, guards=[guard]) as served:

        async def labels(token: str) -> None:
            bearer = (("authorization", f"Bearer {token}"),)
            await served.gallery.GetLabels(gpb.GetLabelsRequest(), metadata=bearer, timeout=WAIT_S)

        for token in ("one", "two"):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await labels(token)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await labels("one")
        assert details(status_of(error.value))[0] == "RATE_LIMITED"
