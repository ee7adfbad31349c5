"""Cost of the gRPC service without models: messages in, prepared answers out.

    messages of 300 KB ──> stream ──> ClassifierService ──> a pipeline that only answers
                            └── the real server, its limits, admission and replies ──┘

`python -m tests.bench.streaming` is the server: it prints its port and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pagesight_server.common.timings import StageTimes, recording
from pagesight_server.config import Config
from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Gallery
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service.admission import Gate
from pagesight_server.service.classifier import ClassifierService
from pagesight_server.service.galleries import GalleryService
from pagesight_server.service.reviews import ReviewService
from pagesight_server.service.server import serve
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry
from tests.bench.measure import Cost, timed
from tests.bench.sides import started, stream
from tests.support.parts import BUNDLES, FakeModels, reading, snapshot, unit

MESSAGE_BYTES = 300_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering(Pipeline):
    """A pipeline that gives the same prepared answer to every screenshot."""

    prepared: Answer

    async def classify(self, image: bytes, *, gallery: str = "default", ocr: bool = True) -> Answer:
        """Returns the answer, with its times written into the record of the message."""
        answer = self.prepared
        with recording() as times:
            times.update(answer.stage_ms)
        return replace(answer, stage_ms=times)


def prepared_answer() -> Answer:
    """An answer of realistic size: five candidates, eight stages."""
    knowledge = Knowledge.of(
        snapshot(*((f"page_{i}", np.eye(5)[i].tolist(), [f"page {i}", "back"]) for i in range(5)))
    )
    query = Query(embedding=unit(5, 4, 3, 2, 1), reading=reading("page 0", "back"))
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    stages = ("decode", "encode", "detect", "recognise", "read", "search", "evidence", "decide")
    return Answer(
        decision=decide(candidates, knowledge.calibration, with_text=True),
        knowledge=knowledge,
        query=query,
        stage_ms=StageTimes(**dict.fromkeys((*stages, "total"), 1.5)),
    )


async def _serve() -> None:
    models = FakeModels()
    pipeline, prepared = models.pipeline(), prepared_answer()
    answering = Answering(
        decode=pipeline.decode,
        encode=pipeline.encode,
        read=pipeline.read,
        knowledge=lambda _gallery: prepared.knowledge,
        prepared=prepared,
    )
    config = ServerConfig(port=0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory() as folder:
        store = Gallery(Path(folder) / "gallery.db")
        registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
        enroller = Enroller(
            store=store, bundles=BUNDLES, extract_features=answering.extract_features
        )
        gate = Gate(config.max_active or 8, config.max_waiting)  # 0 means a default by cores
        await serve(
            ClassifierService(
                answering,
                gate,
                registry.wait_for_revision,
                max_in_flight=config.max_in_flight_per_stream,
                ocr=True,
            ),
            GalleryService(store, enroller, registry, config),
            ReviewService(store, enroller, registry, Config(server=config)),
            config,
            max_image_bytes=16 << 20,
            stop=stop.wait,
            ready=lambda port: print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True),
        )
        store.close()


def overhead(messages: int, rounds: int) -> list[Cost]:
    """Measures streams of `messages` messages, `rounds` times after a warm-up of a quarter."""
    message = np.random.default_rng(0).bytes(MESSAGE_BYTES)
    costs = []
    with started(["-m", "tests.bench.streaming"]) as (listening, pid):
        address = str(listening["address"])
        stream(address, [message] * (messages // 4), in_flight=32)
        for _ in range(rounds):
            with timed("streaming", messages, pid) as cost:
                stream(address, [message] * messages, in_flight=32)
            costs.append(cost)
    return costs


if __name__ == "__main__":
    asyncio.run(_serve())
