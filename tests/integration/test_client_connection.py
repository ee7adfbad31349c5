"""What belongs to the connection: TLS and tokens, the caller's trace, and repeated calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from opentelemetry import context, trace

import pagesight
from pagesight import AsyncClient, Client, RetryPolicy, TlsConfig
from pagesight.v1.classifier_pb2_grpc import add_ClassifierServiceServicer_to_server
from tests.support import WAIT_S
from tests.support.fake_classifier import FakeClassifier
from tests.support.fake_server import FakeServer
from tests.support.relay import Relay

QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, longest_delay_s=0.05)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


class Heard(grpc.ServerInterceptor):
    """Notes the metadata of every call, and lets the first ones fail as the test says."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.refuse = 0
        self.code = grpc.StatusCode.UNAVAILABLE

    def intercept_service(
        self, continuation: Callable[[Any], Any], details: grpc.HandlerCallDetails
    ) -> Any:
        """As grpc calls it."""
        self.metadata.append({key: str(value) for key, value in details.invocation_metadata})
        if len(self.metadata) <= self.refuse:
            code = self.code

            def refuse(_request: Any, call: grpc.ServicerContext) -> Any:
                call.abort(code, "not now")

            return grpc.unary_unary_rpc_method_handler(refuse)
        return continuation(details)


class HeardServer:
    """A classifier with TLS or without, and what callers sent with their calls."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.heard = Heard()
        self.classifier = FakeClassifier(lambda _: 1)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="fake-server")
        self._server = grpc.server(self._pool, interceptors=[self.heard])
        add_ClassifierServiceServicer_to_server(self.classifier, self._server)
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    def __enter__(self) -> HeardServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait(WAIT_S)
        self._pool.shutdown(wait=True)

    @property
    def address(self) -> str:
        """Where it listens, by the name in its certificate."""
        return f"localhost:{self.port}"


@pytest.fixture
def plain() -> Iterator[HeardServer]:
    with HeardServer() as running:
        yield running


# --- TLS and tokens ---


def test_a_token_travels_over_tls_with_every_call_and_stream(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    credentials = grpc.ssl_server_credentials(
        [
            (
                certificate.private_key_pem.bytes(),
                b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
            )
        ]
    )
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with HeardServer(credentials) as server:
        tls = TlsConfig(ca=tmp_path / "ca.pem")
        with Client(server.address, tls=tls, token="open-sesame") as client:
            assert client.classify(b"login").label == "login"
            assert len(list(client.classify_stream([b"a"]))) == 1

        async def ask() -> str:
            ca = authority.cert_pem.bytes()
            async with AsyncClient(
                server.address, tls=TlsConfig(ca=ca), token="open-sesame"
            ) as client:
                return (await client.classify(b"login")).label

        assert asyncio.run(ask()) == "login"
        sent = [metadata["authorization"] for metadata in server.heard.metadata]
        assert sent == ["Bearer open-sesame"] * 3


def test_a_server_that_cannot_prove_itself_is_not_talked_to() -> None:
    certificate = trustme.CA().issue_cert("localhost")
    pair = (
        certificate.private_key_pem.bytes(),
        b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
    )
    stranger = TlsConfig(ca=trustme.CA().cert_pem.bytes())
    with (
        HeardServer(grpc.ssl_server_credentials([pair])) as server,
        Client(server.address, tls=stranger, token="secret", retry=QUICK) as client,
        pytest.raises(pagesight.UnavailableError),
    ):
        client.classify(b"login")
    assert server.heard.metadata == []


def test_with_mutual_tls_the_caller_proves_itself_too() -> None:
    authority = trustme.CA()
    certificate, mine = authority.issue_cert("localhost"), authority.issue_cert("caller")
    pair = (
        certificate.private_key_pem.bytes(),
        b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
    )
    ca = authority.cert_pem.bytes()
    credentials = grpc.ssl_server_credentials([pair], ca, require_client_auth=True)
    known = TlsConfig(
        ca=ca,
        cert=b"".join(blob.bytes() for blob in mine.cert_chain_pems),
        key=mine.private_key_pem.bytes(),
    )
    with HeardServer(credentials) as server:
        with Client(server.address, tls=known) as client:
            assert client.classify(b"login").label == "login"
        with (
            Client(server.address, tls=TlsConfig(ca=ca), retry=QUICK) as client,
            pytest.raises(pagesight.UnavailableError),
        ):
            client.classify(b"login")


def test_a_token_in_the_clear_is_for_this_machine_alone(plain: HeardServer) -> None:
    with Client(f"127.0.0.1:{plain.port}", token="t0ken") as client:
        client.classify(b"login")
    assert plain.heard.metadata[0]["authorization"] == "Bearer t0ken"
    with pytest.raises(ValueError, match="needs TLS"):
        Client("pages.example.org:443", token="t0ken")
    with pytest.raises(ValueError, match="visible ASCII"):
        Client("127.0.0.1:1", token="t0ken\n")
    with pytest.raises(ValueError, match="both cert and key"):
        TlsConfig(cert=b"x")


# --- the caller's trace ---


def test_the_callers_span_goes_with_call_and_screenshot(plain: HeardServer) -> None:
    span = trace.SpanContext(
        trace_id=0x0AF7651916CD43DD8448EB211C80319C,
        span_id=0xB7AD6B7169203331,
        is_remote=False,
        trace_flags=trace.TraceFlags(1),
    )
    expected = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Client(plain.address) as client:
        token = context.attach(trace.set_span_in_context(trace.NonRecordingSpan(span)))
        try:
            client.classify(b"login")
            list(client.classify_stream([b"a"]))
            client.classify(b"login", traceparent="00-mine")
        finally:
            context.detach(token)
        client.classify(b"login")
    sent = [metadata.get("traceparent", "") for metadata in plain.heard.metadata]
    assert sent == [expected, expected, expected, ""]
    told = [query.traceparent for query in plain.classifier.queries]
    assert told == [expected, expected, "00-mine", ""]


# --- repeated calls ---


def test_a_call_that_a_server_could_not_take_is_repeated(plain: HeardServer) -> None:
    plain.heard.refuse = 2
    with Client(plain.address, retry=QUICK) as client:
        assert client.classify(b"login").label == "login"
    assert len(plain.heard.metadata) == 3


async def test_a_call_is_repeated_from_an_event_loop_too(plain: HeardServer) -> None:
    plain.heard.refuse = 2
    async with AsyncClient(plain.address, retry=QUICK) as client:
        assert (await client.classify(b"login")).label == "login"
    assert len(plain.heard.metadata) == 3


def test_a_call_that_may_have_been_made_is_not_repeated(plain: HeardServer) -> None:
    plain.heard.refuse, plain.heard.code = 1, grpc.StatusCode.INTERNAL
    with Client(plain.address, retry=QUICK) as client, pytest.raises(pagesight.InternalError):
        client.classify(b"login")
    assert len(plain.heard.metadata) == 1


def test_a_change_is_repeated_under_the_same_request_id(server: FakeServer) -> None:
    with Client(server.address, retry=QUICK) as client:
        client.enrol([pagesight.EnrolItem(image=b"a", label="a")])
        server.gallery.refuse_next = 2
        assert client.set_labels([pagesight.LabelInfo(label="a", brands=("x",))]).revision == 2
    refused = [change.request_id for change in server.gallery.refused]
    assert refused == [server.gallery.changes[-1].request_id] * 2


ITEMS = (
    pagesight.EnrolItem(image=b"a", label="a"),
    pagesight.EnrolItem(image="/gone.png", label="a"),
    pagesight.EnrolItem(image=b"b", label="a"),
)


@pytest.mark.parametrize("kind", [list, tuple])
def test_an_enrolment_of_a_sequence_is_repeated_under_the_same_request_id(
    server: FakeServer, kind: Callable[[Any], Any]
) -> None:
    server.gallery.refuse_next = 2
    with Client(server.address, retry=QUICK) as client:
        result = client.enrol(kind(ITEMS))
    assert [outcome.added for outcome in result.outcomes] == [True, False, True]
    assert result.outcomes[1].error is not None
    assert result.revision == 1
    refused = [change.request_id for change in server.gallery.refused]
    assert refused == [server.gallery.changes[-1].request_id] * 2


async def test_an_enrolment_is_repeated_from_an_event_loop_too(server: FakeServer) -> None:
    server.gallery.refuse_next = 2
    async with AsyncClient(server.address, retry=QUICK) as client:
        result = await client.enrol(ITEMS, request_id="mine")
    assert [outcome.added for outcome in result.outcomes] == [True, False, True]
    changes = [*server.gallery.refused, *server.gallery.changes]
    assert [change.request_id for change in changes] == ["mine"] * 3


async def test_an_enrolment_of_what_a_generator_gave_is_not_repeated(server: FakeServer) -> None:
    server.gallery.refuse_next = 5
    with Client(server.address, retry=QUICK) as client, pytest.raises(pagesight.UnavailableError):
        client.enrol(iter(ITEMS))
    async with AsyncClient(server.address, retry=QUICK) as aclient:
        with pytest.raises(pagesight.UnavailableError):
            await aclient.enrol(iter(ITEMS))
    assert len(server.gallery.refused) == 2
    assert server.gallery.changes == []


def test_an_enrolment_waits_no_longer_than_its_caller(server: FakeServer) -> None:
    slow = RetryPolicy(first_delay_s=600.0, longest_delay_s=600.0)
    server.gallery.refuse_next = 1
    with Client(server.address, retry=slow) as client, pytest.raises(pagesight.UnavailableError):
        client.enrol(ITEMS, timeout_s=60.0)
    assert len(server.gallery.refused) == 1


def test_a_screenshot_without_a_place_is_asked_again_no_sooner_than_told(
    server: FakeServer,
) -> None:
    with Client(server.address, retry=RetryPolicy(attempts=2)) as client:
        begun = time.monotonic()
        with pytest.raises(pagesight.OverloadedError):
            client.classify(b"busy")  # whose RetryInfo says 0.25 s
        assert time.monotonic() - begun >= 0.25
    assert len(server.classifier.queries) == 2


def test_no_wait_goes_beyond_the_time_that_the_caller_has(server: FakeServer) -> None:
    server.classifier.retry_after_ms = 3_600_000
    with (
        Client(server.address, timeout_s=WAIT_S) as client,
        pytest.raises(pagesight.OverloadedError),
    ):
        client.classify(b"busy")
    assert len(server.classifier.queries) == 1


def test_closing_the_client_ends_a_wait_for_the_next_attempt(server: FakeServer) -> None:
    slow = RetryPolicy(attempts=2, first_delay_s=600.0, longest_delay_s=600.0)
    client = Client(server.address, timeout_s=3600.0, retry=slow)
    asked = threading.Event()

    def close() -> None:
        server.classifier.asked.wait(WAIT_S)
        asked.set()
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(pagesight.CallCancelledError):
        client.classify(b"busy")
    closer.join()
    assert asked.is_set()


async def test_closing_the_client_ends_repeats_on_an_event_loop_too(server: FakeServer) -> None:
    # So many that none is the last before the client is closed.
    policy = RetryPolicy(attempts=1_000_000, first_delay_s=0.2, longest_delay_s=0.2)
    client = AsyncClient(server.address, retry=policy)
    asking = asyncio.create_task(client.classify(b"busy"))
    server.classifier.breaks = 1_000_000
    streaming = asyncio.create_task(anext(client.classify_stream([b"break"])))
    assert await asyncio.to_thread(server.classifier.asked.wait, WAIT_S)
    assert await asyncio.to_thread(server.classifier.stream_ended.wait, WAIT_S)
    await client.close()
    for task in (asking, streaming):
        with pytest.raises(pagesight.CallCancelledError):
            await task


# --- connections ---

PROBING: dict[str, Any] = {
    "keepalive_s": 0.2,
    # A server that is alive answers in time on a machine that is busy.
    "channel_options": [
        ("grpc.keepalive_timeout_ms", 2_000),
        ("grpc.http2.ping_timeout_ms", 2_000),
    ],
    "retry": RetryPolicy(attempts=1),
}


def test_a_server_that_fell_silent_is_noticed_long_before_the_timeout(server: FakeServer) -> None:
    with Relay(server.address) as relay, Client(relay.address, **PROBING) as client:
        assert client.classify(b"login").label == "login"
        asking = ThreadPoolExecutor(1)
        answer = asking.submit(client.classify, b"mute")
        server.classifier.wait_until_asked(2)
        relay.fall_silent()
        with pytest.raises(pagesight.UnavailableError):
            answer.result(WAIT_S)
        asking.shutdown()


async def test_a_server_that_fell_silent_is_noticed_from_an_event_loop_too(
    server: FakeServer,
) -> None:
    with Relay(server.address) as relay:
        async with AsyncClient(relay.address, **PROBING) as client:
            answer = asyncio.create_task(client.classify(b"mute"))
            await asyncio.to_thread(server.classifier.wait_until_asked, 1)
            relay.fall_silent()
            with pytest.raises(pagesight.UnavailableError):
                await asyncio.wait_for(answer, WAIT_S)


def test_a_stream_whose_network_fell_silent_goes_on_over_another_connection(
    server: FakeServer,
) -> None:
    settings = PROBING | {"retry": QUICK}
    with Relay(server.address) as relay, Client(relay.address, **settings) as client:
        results = client.classify_stream([b"a", b"hold", b"b"], max_in_flight=2)
        labels = [next(results).unwrap().label, next(results).unwrap().label]
        server.classifier.wait_until_asked(3)
        relay.fall_silent()
        server.classifier.release()
        labels += [result.unwrap().label for result in results]
    assert sorted(labels) == ["a", "b", "hold"]
    ids = server.classifier.request_ids
    assert {request_id: ids.count(request_id) for request_id in ids} == {"0": 1, "1": 2, "2": 1}


async def test_no_connection_and_no_task_outlives_its_client(server: FakeServer) -> None:
    before = asyncio.all_tasks()
    with Relay(server.address) as relay:
        for image in (b"login", b"bad"):
            with Client(relay.address, retry=QUICK) as client:
                with contextlib.suppress(pagesight.InvalidImageError):
                    client.classify(image)
                next(client.classify_stream([b"a", b"mute"]))
                client.enrol(ITEMS)
                relay.wait_until_open(1)
            relay.wait_until_open(0)
            async with AsyncClient(relay.address, retry=QUICK) as aclient:
                with contextlib.suppress(pagesight.InvalidImageError):
                    await aclient.classify(image)
                async with aclosing(aclient.classify_stream([b"a", b"mute"])) as answers:
                    await anext(answers)
                await aclient.enrol(ITEMS)
                left = aclient.classify_stream([b"a", b"mute"])
                await anext(left)
                relay.wait_until_open(1)
            # The event loop must turn for grpc.aio to hang up.
            await asyncio.to_thread(relay.wait_until_open, 0)
            ours = {t for t in asyncio.all_tasks() - before if "poller" not in repr(t).lower()}
            if ours:  # gRPC's own, of a call that was cancelled, takes another turn of the loop
                assert not (await asyncio.wait(ours, timeout=WAIT_S))[1]
            with pytest.raises(pagesight.CallCancelledError):
                await anext(left)
