"""The three ways to classify screenshots that `make bench` compares.

    script     Pillow, encoder with batch 1, `rapidocr` with its defaults, faiss: one at a time
    pipeline   ours in this process, eight in flight
    service    ours in a process of its own, eight in flight over one gRPC stream

Pipeline and service are created for each round, so that their caches start empty.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import numpy as np
from PIL import Image
from rapidocr import RapidOCR

from pagesight import Client
from pagesight_server import wiring
from pagesight_server.common.cores import cores
from pagesight_server.common.timings import recording
from pagesight_server.config import Config
from pagesight_server.index.exact import FlatIndex
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute
from pagesight_server.workflows.knowledge import load_knowledge
from tests.bench.stages import StageCpu

CONCURRENCY = 8
"""Screenshots in flight of pipeline and service: enough to keep all threads busy on few cores."""


def script(config: Config) -> Callable[[bytes], None]:
    """The simplest program for the job, with the defaults of every library."""
    bundle, _ = wiring.load_bundles(config.bundles)
    encoder = Encoder(bundle, Compute(threads=cores()))
    reader = RapidOCR(params={"Global.log_level": "error"})
    index = FlatIndex(np.eye(1, bundle.embedding_dim, dtype=np.float32), np.zeros(1, np.int64))

    def classify(data: bytes) -> None:
        with Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        embedding = encoder.encode([pixels])[0]
        reader(np.ascontiguousarray(pixels[:, :, ::-1]))
        index.search(embedding, 5)

    return classify


@asynccontextmanager
async def pipeline(
    config: Config,
) -> AsyncIterator[Callable[[Sequence[bytes], StageCpu], Awaitable[None]]]:
    """Our pipeline in this process; yields a function that classifies a batch, stages measured."""
    with wiring.opened(config) as store:
        recognition = config.recognition
        knowledge = load_knowledge(store, "default", recognition.method, recognition.epsilon)
        async with wiring.models(config) as models:
            pipeline = models.pipeline(lambda _name: knowledge, remember=config.server.remember)

            async def classify_all(batch: Sequence[bytes], stages: StageCpu) -> None:
                in_flight = asyncio.Semaphore(CONCURRENCY)
                preparing = replace(models, prepare=stages.timed("prepare", models.prepare))
                measured = replace(
                    pipeline,
                    decode=stages.timed("decode", pipeline.decode),
                    encode=preparing.encode,
                )

                async def classify(data: bytes) -> None:
                    async with in_flight:
                        with recording(stages.record()):
                            await measured.classify(data)

                await asyncio.gather(*(classify(data) for data in batch))

            yield classify_all


@contextmanager
def service(
    config: Config, settings: Mapping[str, object] | None = None
) -> Iterator[tuple[str, int]]:
    """Runs the real server; yields its address and its process id.

    Args:
        config: Store and bundles of the server.
        settings: Further settings, such as `SERVER__REMEMBER` and 0.
    """
    variables = {f"PAGESIGHT_{name}": str(value) for name, value in (settings or {}).items()}
    with started(
        [
            *("-m", "pagesight_server", "serve", "--port", "0", "--json"),
            *("--store", str(config.store), "--bundles", str(config.bundles)),
        ],
        variables,
    ) as (listening, pid):
        yield f"{listening['host']}:{listening['port']}", pid


@contextmanager
def started(
    arguments: Sequence[str], variables: Mapping[str, str] | None = None
) -> Iterator[tuple[Mapping[str, object], int]]:
    """Runs a Python process that prints a line of JSON when it is ready; ends it by SIGTERM.

    Args:
        arguments: Arguments of the interpreter.
        variables: Further environment variables.

    Yields:
        The object that it printed, and its process id.

    Raises:
        SystemExit: It ended before it was ready; the message has the end of its standard error.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | dict(variables or {}),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait()
                errors.seek(0)
                raise SystemExit(f"{' '.join(arguments)} did not start:\n{errors.read()[-2000:]}")
            yield json.loads(line), process.pid
        finally:
            process.terminate()


def stream(address: str, batch: Sequence[bytes], *, in_flight: int = CONCURRENCY) -> None:
    """Classifies a batch over one stream; raises the first error among the replies."""
    with Client(address) as client:
        for result in client.classify_stream(batch, max_in_flight=in_flight):
            result.unwrap()
