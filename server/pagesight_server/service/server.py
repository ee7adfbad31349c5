"""Assembles the gRPC server and runs it until it is told to stop.

listening, NOT_SERVING ──all galleries known──> SERVING
    ──SIGTERM──> NOT_SERVING, answering still ──lame_duck_seconds──> calls refused, streams ended
    ──in flight done, or drain_seconds──> exit
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from pagesight.v1 import (
    classifier_pb2,
    classifier_pb2_grpc,
    gallery_pb2,
    gallery_pb2_grpc,
    review_pb2,
    review_pb2_grpc,
)
from pagesight_server.common.errors import SetupError
from pagesight_server.config import ServerConfig
from pagesight_server.service.classifier import AGE_SPREAD, LINGER_S, ClassifierService
from pagesight_server.service.codec import RefuseMalformed
from pagesight_server.service.galleries import GalleryService
from pagesight_server.service.health import Health, ReadBriefly
from pagesight_server.service.listening import why_not
from pagesight_server.service.reviews import ReviewService

log = logging.getLogger(__name__)

ENVELOPE_BYTES = 4 * 1024 * 1024
"""Room in a message beyond the limit of a picture. gRPC ends a whole stream over a message
that is too large, so a picture somewhat over the limit must arrive to fail alone."""

PING_TIMEOUT_MS = 20_000
"""How long a probed connection may stay silent. gRPC has two settings for it: one bounds how long
bytes stay unacknowledged; the other, 60 s unless set, how long a probe stays unanswered."""

SERVICES = (
    classifier_pb2.DESCRIPTOR.services_by_name["ClassifierService"].full_name,
    gallery_pb2.DESCRIPTOR.services_by_name["GalleryService"].full_name,
    review_pb2.DESCRIPTOR.services_by_name["ReviewService"].full_name,
)


async def serve(
    classifier: ClassifierService,
    galleries: GalleryService,
    reviews: ReviewService,
    config: ServerConfig,
    *,
    max_image_bytes: int,
    stop: Callable[[], Awaitable[object]],
    ready: Callable[[int], None],
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    credentials: grpc.ServerCredentials | None = None,
    load: Callable[[], Awaitable[object]] | None = None,
    shared: bool = False,
) -> None:
    """Serves until `stop` returns, then for the lame-duck time, then drains.

    Args:
        classifier: The classifier.
        galleries: The galleries.
        reviews: The review of answers.
        config: Where to listen, how long to drain.
        max_image_bytes: Limit of a picture; the message limit follows from it.
        stop: Returns when the server should stop.
        ready: Called with the port once it listens.
        interceptors: See every call, outermost first.
        credentials: For TLS; None listens in the clear.
        load: Called once it listens; health says that it is serving when this has returned. None:
            everything is known already.
        shared: Whether other processes of this server listen on the same port.

    Raises:
        SetupError: the address cannot be listened on.
        Exception: whatever `load` raises.
    """
    keepalive_ms = math.ceil(1000 * config.keepalive_seconds)
    min_ping_interval_ms = math.ceil(1000 * config.min_ping_interval_seconds)
    age_s = config.max_connection_age_seconds
    server = grpc.aio.server(
        interceptors=[*interceptors, ReadBriefly(health.SERVICE_NAME), RefuseMalformed()],
        options=[
            ("grpc.max_concurrent_streams", config.max_streams_per_connection),
            ("grpc.max_receive_message_length", max_image_bytes + ENVELOPE_BYTES),
            ("grpc.max_send_message_length", -1),
            # Measured: unary 300 KB messages 352/s at the default, 881/s at 1 MiB.
            ("grpc.http2.lookahead_bytes", 1 << 20),
            ("grpc.so_reuseport", int(shared)),
            ("grpc.keepalive_time_ms", keepalive_ms),
            ("grpc.keepalive_timeout_ms", min(keepalive_ms, PING_TIMEOUT_MS)),
            ("grpc.http2.ping_timeout_ms", min(keepalive_ms, PING_TIMEOUT_MS)),
            ("grpc.http2.min_ping_interval_without_data_ms", min_ping_interval_ms),
            # Else a client without a call may probe every two hours.
            ("grpc.keepalive_permit_without_calls", 1),
            *(_aged(age_s, config.drain_seconds) if age_s else ()),
        ],
    )
    classifier_pb2_grpc.add_ClassifierServiceServicer_to_server(classifier, server)
    gallery_pb2_grpc.add_GalleryServiceServicer_to_server(galleries, server)
    review_pb2_grpc.add_ReviewServiceServicer_to_server(reviews, server)
    health_service = Health(SERVICES)
    health_pb2_grpc.add_HealthServicer_to_server(health_service, server)
    names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)

    address = config.address()
    try:
        port = (
            server.add_insecure_port(address)
            if credentials is None
            else server.add_secure_port(address, credentials)
        )
    except RuntimeError:
        why = why_not(config.host, config.port)
        raise SetupError(f"cannot listen on {address}: {why}") from None
    await server.start()
    ready(port)
    stopping = asyncio.ensure_future(stop())
    loading = asyncio.ensure_future(load() if load else _nothing())
    try:
        await asyncio.wait({stopping, loading}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            health_service.serve()
            await stopping
            health_service.step_down()
            if config.lame_duck_seconds:
                await be_a_lame_duck(config.lame_duck_seconds)
    finally:
        loading.cancel()
        stopping.cancel()
        log.info("draining for at most %g s", config.drain_seconds)
        health_service.let_go()
        classifier.drain()
        await asyncio.shield(server.stop(config.drain_seconds))


async def be_a_lame_duck(seconds: float) -> None:
    """Waits, so that callers who balance by health go elsewhere before they are refused."""
    log.info("answering for %g s more, as not serving", seconds)
    await asyncio.sleep(seconds)


def _aged(age_s: float, drain_s: float) -> tuple[tuple[str, int], ...]:
    """Channel arguments that end a connection of this age.

    A stream that began just before is ended after as long again (`ClassifierService`), and what was
    read from it is answered, before the connection is cut.
    """
    grace_s = age_s * (1 + AGE_SPREAD) + max(drain_s, 1.0) + LINGER_S
    return (
        ("grpc.max_connection_age_ms", math.ceil(1000 * age_s)),
        ("grpc.max_connection_age_grace_ms", math.ceil(1000 * grace_s)),
    )


async def _nothing() -> None:
    """What there is to do where everything is done."""
