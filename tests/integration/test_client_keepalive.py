"""How often a client may probe a silent connection: what fits the server, and what is said if not.

Real time must pass between two pings; the tests wait for pings to be sent, not for a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import pagesight
from pagesight import AsyncClient, Client
from pagesight._channel import MIN_KEEPALIVE_S, Endpoint
from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceStub
from pagesight_server.config import ServerConfig
from tests.support import WAIT_S
from tests.support.pictures import RED, solid
from tests.support.relay import Relay
from tests.support.serving import Serving, serving

GREEN = (0, 255, 0)
PINGS = 6
"""More than a stock server takes at once: it hangs up at the fourth."""


@pytest.fixture
async def lenient(tmp_path: Path) -> AsyncIterator[Serving]:
    config = ServerConfig(port=0, drain_seconds=WAIT_S, min_ping_interval_seconds=0.01)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        yield served


async def test_a_client_may_probe_as_often_as_the_server_allows(lenient: Serving) -> None:
    lenient.models.hold(GREEN)
    with Relay(lenient.address) as relay:
        async with AsyncClient(relay.address, keepalive_s=0.1, retry_for_s=0) as client:
            asking = asyncio.create_task(client.classify(solid(GREEN)))
            await lenient.models.until_active(1)
            await asyncio.to_thread(relay.wait_for_chunks, PINGS)
            await lenient.models.release()
            assert (await asking).closest_label == "a"


async def test_a_client_may_probe_without_a_call_as_well(lenient: Serving) -> None:
    options = [
        ("grpc.keepalive_time_ms", 100),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    request = pb.ClassifyRequest(query=pb.Query(image=solid(GREEN)))
    with Relay(lenient.address) as relay:
        async with grpc.aio.insecure_channel(relay.address, options=options) as channel:
            stub: Any = ClassifierServiceStub(channel)
            await stub.Classify(request, timeout=WAIT_S)
            await asyncio.to_thread(relay.wait_for_chunks, PINGS)
            await asyncio.to_thread(relay.wait_until_open, 1)
            await stub.Classify(request, timeout=WAIT_S)


async def test_whoever_probes_too_often_is_told_so(tmp_path: Path) -> None:
    told = r"hung up: keepalive_s=0\.1 probes it more often than it allows; .* allows 10 "
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(GREEN)
        async with AsyncClient(served.address, keepalive_s=0.1, retry_for_s=0) as client:
            with pytest.raises(pagesight.UnavailableError, match=told) as failed:
                await client.classify(solid(GREEN))
            assert failed.value.reason == "TOO_MANY_PINGS"

        def stream() -> None:
            with Client(served.address, keepalive_s=0.1, retry_for_s=0) as client:
                list(client.classify_stream([solid(GREEN)]))

        with pytest.raises(pagesight.UnavailableError, match=told):
            await asyncio.to_thread(stream)


def test_the_least_that_the_client_names_is_what_a_server_allows_with_room_to_spare() -> None:
    assert ServerConfig().min_ping_interval_seconds * 2 == MIN_KEEPALIVE_S
    assert f"every {MIN_KEEPALIVE_S:g}\n" in str(Client.__init__.__doc__)


@pytest.mark.parametrize(
    ("address", "keepalive_s", "options"),
    [
        ("127.0.0.1:1", None, (300_000, 20_000)),
        ("127.0.0.1:1,127.0.0.1:2", None, (10_000, 10_000)),
        ("dns:///localhost:1", None, (10_000, 10_000)),
        ("127.0.0.1:1", 1.0, (1_000, 5_000)),
        ("127.0.0.1:1,127.0.0.1:2", 60.0, (60_000, 20_000)),
    ],
)
def test_several_servers_are_probed_more_often_than_one(
    address: str, keepalive_s: float | None, options: tuple[int, int]
) -> None:
    endpoint = Endpoint(address=address, timeout_s=1.0, keepalive_s=keepalive_s)
    for each in endpoint.each():
        given = dict(each._channel_options())
        names = ("grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms")
        assert tuple(given[name] for name in names) == options
