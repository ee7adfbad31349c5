"""The real gRPC server on a free loopback port, with fake models behind a real pipeline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc, gallery_pb2_grpc, review_pb2_grpc
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server import wiring
from pagesight_server.config import Config, ReviewConfig, ServerConfig
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service.admission import Gate
from pagesight_server.service.audit import Audit
from pagesight_server.service.classifier import ClassifierService
from pagesight_server.service.galleries import GalleryService
from pagesight_server.service.rate_limits import CallerLimits, LimitGalleryCalls
from pagesight_server.service.reviews import ReviewService
from pagesight_server.service.server import serve
from pagesight_server.telemetry import Telemetry, WatchCalls
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.keeping import AnswerKeeper
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, FakeModels
from tests.support.pictures import Colour, solid


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """A running server and a channel to it."""

    models: FakeModels
    store: Gallery
    audit: Audit
    registry: Registry
    gate: Gate
    keeper: AnswerKeeper
    """Writes what it keeps when it is told to: `flush`."""
    address: str
    channel: grpc.aio.Channel
    service: ClassifierService
    """What the server asks."""
    classifier: Any
    """An asynchronous stub of ClassifierService."""
    gallery: Any
    """An asynchronous stub of GalleryService."""
    reviews: Any
    """An asynchronous stub of ReviewService."""
    stopping: asyncio.Event
    """Setting it makes the server drain, as SIGTERM does."""
    stopped: asyncio.Task[None]
    """A task that ends when the server has stopped."""

    async def enrol(self, *pictures: tuple[str, bytes], **header: Any) -> gpb.EnrolResult:
        """Enrols (label, bytes) in one call."""
        items = [
            gpb.EnrolRequest(item=gpb.EnrolItem(image=data, label=label))
            for label, data in pictures
        ]
        return await self.send([gpb.EnrolRequest(header=gpb.Change(**header)), *items])

    async def send(self, messages: Sequence[gpb.EnrolRequest]) -> gpb.EnrolResult:
        """Makes an Enrol call of these messages; repeats it where grpc.aio lost the status."""
        while True:
            try:
                answer: gpb.EnrolResult = await result_of(
                    self.gallery.Enrol(iter(messages), timeout=WAIT_S)
                )
            except grpc.aio.AioRpcError as error:
                if not failed_to_write(error):
                    raise
            else:
                return answer

    async def classify(self, image: bytes, **query: Any) -> pb.Classification:
        """Classifies one screenshot in a call of its own."""
        request = pb.ClassifyRequest(query=pb.Query(image=image, **query))
        answer: pb.ClassifyResponse = await self.classifier.Classify(request, timeout=WAIT_S)
        return answer.classification

    def stream(self) -> Any:
        """A ClassifyStream call to write to and read from."""
        return self.classifier.ClassifyStream(timeout=3 * WAIT_S)


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    config: ServerConfig | None = None,
    limits: ImageLimits | None = None,
    epsilon: float = 0.05,
    guards: Sequence[grpc.aio.ServerInterceptor] = (),
    models: FakeModels | None = None,
    telemetry: Telemetry | None = None,
    callers: CallerLimits | None = None,
    credentials: grpc.ServerCredentials | None = None,
    load: bool = False,
    review: ReviewConfig | None = None,
    location: StoreLocation | None = None,
) -> AsyncIterator[Serving]:
    """Serves a store, usually an empty one, in `folder` or elsewhere, for the time of the block.

    A store that is not empty is loaded, as `serve` does it, where `load` says so.

    With credentials, the channel of the result cannot be used, as it has no TLS.
    """
    settings = config or ServerConfig(port=0, drain_seconds=WAIT_S)
    if "lame_duck_seconds" not in settings.model_fields_set:
        settings = settings.model_copy(update={"lame_duck_seconds": 0.0})
    image_limits = limits or ImageLimits()
    models = models or FakeModels()
    telemetry = telemetry or Telemetry()
    store = Gallery(location or folder / "gallery.db")
    audit = Audit(store)
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=epsilon)
    pipeline = Pipeline(
        decode=lambda data: decode(data, image_limits),
        encode=models.encode,
        read=models.read,
        knowledge=registry.get,
    )
    gate = Gate(settings.max_active or 8, settings.max_waiting)  # 0 means a default by cores
    settings_of_all = Config(server=settings, image=image_limits, review=review or ReviewConfig())
    keeper = wiring.keeper(settings_of_all, store, forgets=True)
    classifier = ClassifierService(
        pipeline,
        gate,
        registry.wait_for_revision,
        max_in_flight=settings.max_in_flight_per_stream,
        ocr=True,
        telemetry=telemetry,
        limits=callers,
        max_stream_age_s=settings.max_connection_age_seconds,
        keep=keeper.offer,
    )
    enroller = Enroller(store=store, bundles=BUNDLES, extract_features=pipeline.extract_features)
    stopping = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stopped = asyncio.create_task(
        serve(
            classifier,
            GalleryService(store, enroller, registry, settings),
            ReviewService(store, enroller, registry, settings_of_all),
            settings,
            max_image_bytes=image_limits.max_bytes,
            stop=stopping.wait,
            ready=port.set_result,
            interceptors=[
                WatchCalls(telemetry),
                *guards,
                *([LimitGalleryCalls(callers)] if callers else []),
            ],
            credentials=credentials,
            load=registry.load if load else None,
        )
    )
    started_or_failed: set[asyncio.Future[Any]] = {stopped, port}
    await asyncio.wait(started_or_failed, return_when=asyncio.FIRST_COMPLETED)
    if stopped.done():
        stopped.result()
    address = f"127.0.0.1:{port.result()}"
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield Serving(
                models=models,
                store=store,
                audit=audit,
                registry=registry,
                gate=gate,
                keeper=keeper,
                address=address,
                channel=channel,
                service=classifier,
                classifier=classifier_pb2_grpc.ClassifierServiceStub(channel),
                gallery=gallery_pb2_grpc.GalleryServiceStub(channel),
                reviews=review_pb2_grpc.ReviewServiceStub(channel),
                stopping=stopping,
                stopped=stopped,
            )
    finally:
        stopping.set()
        await models.release()
        await stopped
        await keeper.close()
        await registry.close()
        store.close()


async def result_of(call: Any) -> Any:
    """The result of a call that reports progress: it must be the last message, and the only one."""
    replies = [reply async for reply in call]
    assert [reply.WhichOneof("message") for reply in replies] == [
        *["progress"] * (len(replies) - 1),
        "result",
    ]
    return replies[-1].result


def failed_to_write(error: grpc.aio.AioRpcError) -> bool:
    """Whether an error is of a write to a call that the server has already ended.

    grpc.aio sometimes raises it in place of the server's status
    (https://github.com/grpc/grpc/issues/36066); pagesight's client looks for that status.
    """
    return error.details() == "Internal error from Core"


def complaints(records: Iterable[logging.LogRecord], least: int = logging.WARNING) -> list[str]:
    """The messages logged at this level or above, without those about an earlier test.

    gRPC has one poller for all event loops of a process. It may handle the end of a call whose loop
    was closed with its test, and logs an error during whichever test runs then.
    """
    return [
        record.getMessage()
        for record in records
        if record.levelno >= least
        and not (
            record.name == "asyncio"
            and "PollerCompletionQueue" in record.getMessage()
            and record.exc_info
            and str(record.exc_info[1]) == "Event loop is closed"
        )
    ]


async def until(true: Callable[[], bool]) -> None:
    """Yields to other tasks until a condition is true; for states that no event signals."""
    async with asyncio.timeout(WAIT_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0)


def request(request_id: str, image: bytes | Colour, **query: Any) -> pb.ClassifyStreamRequest:
    """One message of a stream; a colour stands for a picture of that colour."""
    data = image if isinstance(image, bytes) else solid(image)
    return pb.ClassifyStreamRequest(request_id=request_id, query=pb.Query(image=data, **query))


def details(status: Status) -> tuple[str, float | None]:
    """The reason of a status, and the delay of its RetryInfo in seconds; None without one."""
    reason, retry_s = "", None
    for packed in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if packed.Unpack(info):
            assert info.domain == "pagesight"
            reason = info.reason
        elif packed.Unpack(retry):
            retry_s = retry.retry_delay.ToTimedelta().total_seconds()
    return reason, retry_s


def status_of(error: Any) -> Status:
    """The google.rpc.Status in the trailing metadata of a failed call, asynchronous or not."""
    status = Status()
    metadata: Iterable[tuple[str, str | bytes]] = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == "grpc-status-details-bin":
            assert isinstance(value, bytes)
            status.ParseFromString(value)
    return status


def names(messages: Iterable[Message], field: str) -> list[Any]:
    """One field of each message."""
    return [getattr(message, field) for message in messages]
