"""The three ways to classify screenshots that `make bench` compares.

    script     Pillow, encoder of batch 1, `rapidocr` with its defaults, faiss: one at a time
    pipeline   ours in this process, eight at a time
    service    ours in a process of its own, eight at a time over one gRPC stream

Pipeline and service are made anew for each round, so that their caches start empty.
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

import numpy as np
from PIL import Image
from rapidocr import RapidOCR

from pagesight import Client
from pagesight_server import wiring
from pagesight_server.config import Config, cores
from pagesight_server.index.exact import FlatIndex
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute
from pagesight_server.workflows.knowledge import load_knowledge

CONCURRENCY = 8


def script(config: Config) -> Callable[[bytes], None]:
    """What one would write first, with every library's defaults."""
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
async def pipeline(config: Config) -> AsyncIterator[Callable[[Sequence[bytes]], Awaitable[None]]]:
    """Ours in this process; what it gives takes a batch."""
    with wiring.opened(config.store) as store:
        recognition = config.recognition
        known = load_knowledge(store, "default", recognition.method, recognition.epsilon)
        async with wiring.models(config) as models:
            line = models.pipeline(lambda _name: known, remember=config.server.remember)

            async def classify(batch: Sequence[bytes]) -> None:
                places = asyncio.Semaphore(CONCURRENCY)

                async def one(data: bytes) -> None:
                    async with places:
                        await line.classify(data)

                await asyncio.gather(*(one(data) for data in batch))

            yield classify


@contextmanager
def service(
    config: Config, settings: Mapping[str, object] | None = None
) -> Iterator[tuple[str, int]]:
    """The real server; its address and its process."""
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
    """A Python process that prints one line of JSON when it is ready; ended by SIGTERM."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as said,
        subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=os.environ | dict(variables or {}),
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                process.wait()
                said.seek(0)
                raise SystemExit(f"{' '.join(arguments)} did not start:\n{said.read()[-2000:]}")
            yield json.loads(line), process.pid
        finally:
            process.terminate()


def stream(address: str, batch: Sequence[bytes], *, in_flight: int = CONCURRENCY) -> None:
    """Sends a batch over one stream; every reply must be an answer."""
    with Client(address) as client:
        for result in client.classify_stream(batch, max_in_flight=in_flight):
            result.unwrap()
