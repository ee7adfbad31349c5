"""Hostile messages by the thousand over a real socket: one reply or one documented status each.

    Fuzz ──bytes, no stubs──> server with fake models ──> reply, or a status with a reason

Never a crash, a hang, INTERNAL or UNKNOWN, and what is known still answers afterwards. The long
versions (`make soak`) also watch memory; PAGESIGHT_FUZZ_SEED gives them other inputs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from pagesight.v1 import review_pb2 as rpb
from pagesight_server.config_sections import ReviewConfig
from pagesight_server.gallery import backup
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service.auth import RequireRole, read_tokens
from pagesight_server.telemetry import Telemetry
from pagesight_server.telemetry.instruments import Instruments
from tests.bench.measure import rss_mb
from tests.support import WAIT_S
from tests.support.fuzzing import SEED, STRINGS, Fuzz, shown
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import Serving, details, serving, status_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits(max_pixels=500_000)
IN_FLIGHT = 8
PER_STREAM = 500

CLASSIFYING = {"INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
CHANGING = {
    *("INVALID_ARGUMENT", "NOT_FOUND", "ABORTED", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"),
}
"""What classifier.proto and gallery.proto say that calls fail with, ALREADY_EXISTS for items."""
BY_NUMBER = {code.value[0]: code.name for code in grpc.StatusCode}


def long(inputs: int) -> Any:
    return pytest.param(inputs, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])


class Soak:
    """Sends inputs, counts what became of them, and watches memory and time."""

    def __init__(self, inputs: int) -> None:
        self.inputs = inputs
        self.seed = 0 if inputs < 10_000 else SEED
        self.fuzz = Fuzz(self.seed)
        self.outcomes: Counter[str] = Counter()
        self._done = 0
        self._halfway_mb = 0.0
        self._began_s = time.monotonic()

    def count(self, outcome: str) -> None:
        """One input is answered."""
        self.outcomes[outcome] += 1
        self._done += 1
        if self._done == self.inputs // 2:
            self._halfway_mb = rss_mb(os.getpid())

    async def run(self, one: Callable[[int], Awaitable[None]]) -> None:
        """Hands out the numbers of the inputs, a few at the same time."""
        numbers = iter(range(self.inputs))

        async def some() -> None:
            for number in numbers:
                await one(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(IN_FLIGHT):
                group.create_task(some())

    def told(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Prints the counts; memory has not grown since halfway."""
        assert self._done == self.inputs
        end_mb, took_s = rss_mb(os.getpid()), time.monotonic() - self._began_s
        shares = ", ".join(f"{count:,} {code}" for code, count in self.outcomes.most_common())
        memory = f"{self._halfway_mb:.0f} MB halfway, {end_mb:.0f} MB in the end"
        with capsys.disabled():
            sys.stdout.write(f"\n{self.inputs:,} in {took_s:.0f} s: {shares}; {memory}\n")
        assert end_mb <= 1.1 * self._halfway_mb + 10, memory


def reason(status: Status, allowed: set[str]) -> str:
    """The code of a status that says why, as the contract has it."""
    code = BY_NUMBER[status.code]
    why, retry_s = details(status)
    assert code in allowed, f"{code}: {status.message}"
    assert why, f"{code} without a reason: {status.message}"
    assert (retry_s is not None) == (why in {"OVERLOADED", "RATE_LIMITED"}), why
    return code


async def called(call: Awaitable[bytes], allowed: set[str], data: bytes, note: str) -> bytes | str:
    """The reply of a unary call, or its code; an input that breaks the contract is shown."""
    try:
        return await call
    except grpc.RpcError as error:
        try:
            return reason(status_of(error), allowed)
        except BaseException as broken:
            broken.add_note(f"{note}: {error.code().name} {error.details()}; {shown(data)}")
            raise


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that knows a page, with telemetry that keeps nothing."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("test")
    telemetry = Telemetry(
        tracer=tracer, always=tracer, instruments=Instruments(meter), record_text=True
    )
    async with serving(tmp_path, limits=LIMITS, telemetry=telemetry) as made:
        await made.enrol(("a", solid(RED)))
        # No input names this one, so what is known can be asked for afterwards.
        await made.enrol(("a", solid(RED)), ("b", solid(GREEN)), gallery="kept")
        yield made
        assert made.gate.waiting == 0
        assert made.models.active == 0
        assert (await made.classify(solid(RED), gallery="kept")).label == "a"


def parsed(kind: type[Message], data: bytes) -> Any:
    """The message, or an empty one where the bytes are none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind()


# --- classification ---------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [2_000, long(100_000)])
async def test_each_message_of_a_stream_has_one_reply_whatever_its_bytes(
    served: Serving, inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(inputs)
    channel: Any = served.channel
    open_stream = channel.stream_stream("/pagesight.v1.ClassifierService/ClassifyStream")
    for first in range(0, inputs, PER_STREAM):
        sent = [
            soak.fuzz.wire(soak.fuzz.message(pb.ClassifyStreamRequest)) for _ in range(PER_STREAM)
        ]
        stream = open_stream(timeout=3 * WAIT_S)

        async def send(stream: Any = stream, sent: list[bytes] = sent) -> None:
            for data in sent:
                await stream.write(data)
            await stream.done_writing()

        sending = asyncio.create_task(send())
        replies = []
        try:
            while (data := await asyncio.wait_for(stream.read(), WAIT_S)) is not grpc.aio.EOF:
                reply = pb.ClassifyStreamResponse.FromString(data)
                outcome = reply.WhichOneof("outcome")
                assert outcome is not None
                failed = outcome == "error"
                soak.count(reason(reply.error, CLASSIFYING) if failed else "OK")
                replies.append(reply.request_id)
            await sending
        except BaseException as error:
            sending.cancel()
            error.add_note(f"seed {soak.seed}, a message of the {PER_STREAM} from {first} on")
            raise
        asked = [parsed(pb.ClassifyStreamRequest, data) for data in sent]
        if asked[0].reply_order == pb.REPLY_ORDER_AS_SENT:
            assert replies == [request.request_id for request in asked]
        assert Counter(replies) == Counter(request.request_id for request in asked)
    soak.told(capsys)


@pytest.mark.parametrize("inputs", [500, long(30_000)])
async def test_each_call_has_a_reply_or_a_status_whatever_its_bytes(
    served: Serving, inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(inputs)
    channel: Any = served.channel
    classify = channel.unary_unary("/pagesight.v1.ClassifierService/Classify")
    check = channel.unary_unary("/grpc.health.v1.Health/Check")

    async def one(number: int) -> None:
        if number % 50 == 0:
            data = soak.fuzz.wire(soak.fuzz.message(health_pb2.HealthCheckRequest))
            code = grpc.StatusCode.OK
            try:
                await check(data, timeout=WAIT_S)
            except grpc.aio.AioRpcError as error:
                code = error.code()
            assert code.name in CLASSIFYING | {"OK"}, shown(data)
            soak.count("health")
            return
        data = soak.fuzz.wire(soak.fuzz.message(pb.ClassifyRequest))
        note = f"seed {soak.seed}, call {number}"
        reply = await called(classify(data, timeout=WAIT_S), CLASSIFYING, data, note)
        if isinstance(reply, str):
            soak.count(reply)
            return
        told = pb.ClassifyResponse.FromString(reply)
        assert told.request_id == parsed(pb.ClassifyRequest, data).request_id
        assert told.classification.label
        soak.count("OK")

    await soak.run(one)
    soak.told(capsys)


# --- galleries --------------------------------------------------------------------------------

UNARY = {
    method.name: (getattr(gpb, method.input_type.name), getattr(gpb, method.output_type.name))
    for method in gpb.DESCRIPTOR.services_by_name["GalleryService"].methods
    if method.name != "Enrol"
}
WITH_PROGRESS = ("Diagnose", "SuggestBrands")
"""Calls that answer with several messages, the last of which holds the result."""


def learn(fuzz: Fuzz, reply: Any) -> None:
    """What later messages may name."""
    match reply:
        case gpb.ListImagesResponse():
            fuzz.know("id", *(image.image_id for image in reply.images))
            fuzz.know("label", *(image.label for image in reply.images))
            fuzz.know("token", *filter(None, [reply.next_page_token]))
        case gpb.ListHistoryResponse():
            fuzz.know("token", *filter(None, [reply.next_page_token]))
        case gpb.EnrolResponse():
            added = (outcome.image_id for outcome in reply.result.outcomes if outcome.added)
            fuzz.know("id", *added)


@pytest.mark.parametrize("inputs", [600, long(30_000)])
async def test_no_change_of_a_gallery_does_more_than_it_may(
    served: Serving, inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(inputs)
    fuzz = soak.fuzz
    fuzz.know("label", "a", "b", "c", "支付", "other", "other_x")
    channel: Any = served.channel
    service = "/pagesight.v1.GalleryService"
    calls = {
        name: channel.unary_stream(f"{service}/{name}")
        if name in WITH_PROGRESS
        else channel.unary_unary(f"{service}/{name}")
        for name in UNARY
    }

    async def answer(name: str, data: bytes) -> bytes:
        call = calls[name](data, timeout=WAIT_S)
        replies = [reply async for reply in call] if name in WITH_PROGRESS else [await call]
        last: bytes = replies[-1]
        return last

    def enrol(sent: list[bytes]) -> bytes:
        # Not grpc.aio's, which hides the status of a call that ends during a write.
        call = teaching.stream_stream(f"{service}/Enrol")
        *_, last = call(iter(sent), timeout=WAIT_S)
        result: bytes = last
        return result

    def taught(sent: list[bytes]) -> Awaitable[bytes]:
        # In threads of its own: the server waits for those of the loop.
        return asyncio.get_running_loop().run_in_executor(threads, enrol, sent)

    async def teach(note: str) -> None:
        # Seldom without a header or with two, as `message` would have it.
        messages = [
            gpb.EnrolRequest(header=fuzz.message(gpb.Change, request_id=fuzz.text()[:200])),
            *(
                gpb.EnrolRequest(item=fuzz.message(gpb.EnrolItem, label=fuzz.text("label")))
                for _ in range(fuzz.random.choice((0, 1, 2, 5)))
            ),
        ]
        if fuzz.random.random() < 0.1:
            messages.append(fuzz.message(gpb.EnrolRequest))
        as_is = fuzz.random.random() < 0.7
        sent = [m.SerializeToString() if as_is else fuzz.wire(m) for m in messages]
        data = b"|".join(sent)
        reply = await called(taught(sent), CHANGING, data, note)
        if isinstance(reply, str):
            soak.count(f"Enrol {reply}")
            return
        told = gpb.EnrolResponse.FromString(reply)
        for outcome in told.result.outcomes:
            if outcome.HasField("error"):
                reason(outcome.error, CHANGING | {"ALREADY_EXISTS"})
        learn(fuzz, told)
        soak.count("Enrol OK")

    async def one(number: int) -> None:
        note = f"seed {soak.seed}, call {number}"
        if fuzz.random.random() < 0.25:
            await teach(f"{note}, Enrol")
            return
        name = fuzz.random.choice(list(UNARY))
        data = fuzz.wire(fuzz.message(UNARY[name][0]))
        reply = await called(answer(name, data), CHANGING, data, f"{note}, {name}")
        if isinstance(reply, str):
            soak.count(reply)
        else:
            learn(fuzz, UNARY[name][1].FromString(reply))
            soak.count("OK")

    with ThreadPoolExecutor(IN_FLIGHT) as threads, grpc.insecure_channel(served.address) as plain:
        teaching: Any = plain
        await soak.run(one)
    assert soak.outcomes["OK"] > inputs / 10
    assert soak.outcomes["Enrol OK"] > inputs / 50
    assert backup.check(served.store) == []
    soak.told(capsys)


# --- review -----------------------------------------------------------------------------------

REVIEWING = {
    method.name: (getattr(rpb, method.input_type.name), getattr(rpb, method.output_type.name))
    for method in rpb.DESCRIPTOR.services_by_name["ReviewService"].methods
    if not method.client_streaming
}


@pytest.mark.parametrize("inputs", [300, long(15_000)])
async def test_no_call_of_the_review_does_more_than_it_may(
    tmp_path: Path, inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(inputs)
    fuzz = soak.fuzz
    async with serving(
        tmp_path, limits=LIMITS, review=ReviewConfig(keep=20, random_share=1.0)
    ) as served:
        await served.enrol(("a", solid(RED)), ("a", solid((250, 10, 60))), ("b", solid(GREEN)))
        for shade in range(30):
            await served.classify(solid((shade, 9 * shade % 256, 200)))
        await served.keeper.flush()
        kept = [one.answer.image_id for one in served.store.kept("default")]
        fuzz.know("id", *kept, hashlib.sha256(solid(RED)).hexdigest())
        fuzz.know("label", "a", "b", "other", "other_x")
        channel: Any = served.channel
        service = "/pagesight.v1.ReviewService"
        calls = {name: channel.unary_unary(f"{service}/{name}") for name in REVIEWING}

        async def one(number: int) -> None:
            name = fuzz.random.choice(list(REVIEWING))
            data = fuzz.wire(fuzz.message(REVIEWING[name][0]))
            note = f"seed {soak.seed}, call {number}, {name}"
            reply = await called(calls[name](data, timeout=WAIT_S), CHANGING, data, note)
            if isinstance(reply, str):
                soak.count(reply)
            else:
                answered = REVIEWING[name][1].FromString(reply)
                fuzz.know("token", *filter(None, [getattr(answered, "next_page_token", "")]))
                soak.count("OK")

        await soak.run(one)
        assert backup.check(served.store) == []
        assert served.store.revisions() == {"default": 1}
    assert soak.outcomes["OK"] > inputs / 20
    soak.told(capsys)


# --- metadata ---------------------------------------------------------------------------------


def ascii_text(fuzz: Fuzz, longest: int = 2_000) -> str:
    """What gRPC lets a caller write into a header: printable ASCII."""
    text = fuzz.text()
    printable = "".join(c for c in text if " " <= c <= "~")[:longest]
    return printable or "".join(chr(fuzz.random.randrange(32, 127)) for _ in range(40))


@pytest.mark.parametrize("inputs", [500, long(20_000)])
async def test_no_metadata_does_more_than_be_refused(
    tmp_path: Path, inputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    soak = Soak(inputs)
    fuzz, secret = soak.fuzz, "the one that is right"
    file = tmp_path / "tokens.toml"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    file.write_text(f"[[token]]\nname = 'it'\nsha256 = '{digest}'\nroles = ['classify']\n", "utf-8")
    right = f"Bearer {secret}"
    query = pb.Query(image=solid(RED), gallery="kept")
    async with serving(tmp_path, guards=[RequireRole(read_tokens(file))]) as made:
        channel: Any = made.channel
        classify = channel.unary_unary("/pagesight.v1.ClassifierService/Classify")

        async def one(number: int) -> None:
            tokens = (
                right,
                right[:-1],
                f"{right}x",
                f"bearer  {secret}",
                f"Basic {secret}",
                secret,
            )
            bearer = fuzz.random.choice((*tokens, ascii_text(fuzz), f"Bearer {ascii_text(fuzz)}"))
            metadata: list[tuple[str, str | bytes]] = [
                ("traceparent", ascii_text(fuzz)),
                ("tracestate", ascii_text(fuzz)),
                ("baggage", ascii_text(fuzz)),
                ("authorization", bearer),
                ("authorization", right if fuzz.random.random() < 0.1 else "Bearer no"),
                ("any-bin", fuzz.random.randbytes(50)),
            ]
            metadata = metadata[: fuzz.random.choice((4, 4, 4, 5, 6))]
            query.traceparent = fuzz.random.choice(STRINGS)
            data = pb.ClassifyRequest(query=query).SerializeToString()
            call = classify(data, metadata=metadata, timeout=WAIT_S)
            note = f"seed {soak.seed}, call {number}, {metadata}"
            code = await called(call, CLASSIFYING | {"UNAUTHENTICATED"}, data, note)
            # There is no gallery: whoever is let in is told so.
            assert code == ("NOT_FOUND" if bearer == right else "UNAUTHENTICATED"), note
            soak.count(str(code))

        await soak.run(one)
        assert soak.outcomes["NOT_FOUND"] > inputs / 20
    soak.told(capsys)
