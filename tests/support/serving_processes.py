"""The command `pagesight-server` with fake models, for tests of what its processes do.

    python -m tests.support.serving_processes serve ...   workers run the same command, and so do we

The embedding is the mean colour, and there is no text. Where FOLDER is given, the encoder tells of
each picture by a line with its process id in the FIFO FOLDER/arrived, and keeps blue ones as long
as somebody else holds a lock on FOLDER/gate. With HOLD_LOADING all but the leading process wait
for that lock before they load the galleries. Where TALLY is given, each process adds a byte to the
file TALLY/<process id> for each picture that it encodes, which takes ENCODE_MS.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pagesight_server import wiring
from pagesight_server.__main__ import main
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.config import Config
from pagesight_server.inference.batcher import BatchConfig, Batcher
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.ocr.detector import TextColumns
from pagesight_server.inference.ocr.engine import OcrEngine, owned
from pagesight_server.inference.ocr.recogniser import Shape, Text
from pagesight_server.inference.ocr.settings import LibraryNumbers, OcrSettings
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, mean_colour, unit

FOLDER = "TESTS_SERVING_FOLDER"
HOLD_LOADING = "TESTS_SERVING_HOLD_LOADING"
TALLY = "TESTS_SERVING_TALLY"
ENCODE_MS = "TESTS_SERVING_ENCODE_MS"


class NoText:
    """A detector and a recogniser that find and read nothing."""

    def find(self, pixels: Pixels, columns: TextColumns) -> list[Region]:
        """Finds nothing."""
        return []

    def read(self, strips: Sequence[Pixels], shape: Shape) -> list[Text]:
        """Reads nothing."""
        return [Text("", 0.0) for _ in strips]


def _pass_gate() -> None:
    with Path(f"{os.environ[FOLDER]}/gate").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_SH)


class HeldRegistry(Registry):
    """A registry that waits at the gate where another process leads."""

    async def load(self, turn: Callable[[], Awaitable[object]] | None = None) -> None:
        """As it was, behind the gate."""
        if not self._recalibrator._turns.calibrates:
            await asyncio.to_thread(_pass_gate)
        await super().load(turn)


def _prepare(pixels: Pixels) -> Tensors:
    return {"pixels": pixels}


def _encode(prepared: Sequence[Tensors]) -> list[Embedding]:
    pictures = [inputs["pixels"] for inputs in prepared]
    folder, tally = os.environ.get(FOLDER), os.environ.get(TALLY)
    time.sleep(len(pictures) * float(os.environ.get(ENCODE_MS, "0")) / 1000)
    if tally:
        with Path(f"{tally}/{os.getpid()}").open("ab") as file:
            file.write(bytes(len(pictures)))
    for pixels in pictures if folder else ():
        red, green, blue = mean_colour(pixels)
        with Path(f"{folder}/arrived").open("w") as arrived:
            arrived.write(f"{os.getpid()}\n")
        if blue > max(red, green):
            _pass_gate()
    return [unit(*(value + 1 for value in mean_colour(pixels))) for pixels in pictures]


@asynccontextmanager
async def _models(config: Config, *, processes: int = 1) -> AsyncIterator[wiring.Models]:
    del processes
    encoder = Batcher[Tensors, Embedding](_encode, BatchConfig(max_batch=1), name="encoder")
    settings = OcrSettings(detectors=1, recognisers=1)
    library = LibraryNumbers(longest_px=2000, batch=6, padded_px=320, min_confidence=0.5)
    ocr = OcrEngine(
        owned([NoText()], name="detector"),
        [owned([NoText()], name="recogniser")],
        settings,
        library,
    )
    try:
        yield wiring.Models(
            config=config,
            bundles=BUNDLES,
            readers=2,
            prepare=_prepare,
            resized_by="nothing",
            encoder=encoder,
            ocr=ocr,
        )
    finally:
        await encoder.close()
        await ocr.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running command."""

    process: subprocess.Popen[str]
    address: str
    listening: dict[str, Any]
    """The line of JSON that it printed."""

    @property
    def pids(self) -> list[int]:
        """Its workers at the start, by number."""
        return [worker["pid"] for worker in self.listening["processes"]]


def command(store: Path | str, *more: str) -> list[str]:
    """The command of a server with fake models."""
    module = ["-W", "error", "-m", "tests.support.serving_processes"]
    return [sys.executable, *module, "serve", "--json", "--store", str(store), *more]


@contextmanager
def served(folder: Path, *more: str, **variables: str) -> Iterator[tuple[Server, Path]]:
    """A server of two processes with its store in a folder; killed in the end if it still runs.

    Yields:
        The server, and the file that its standard error goes to.
    """
    log = folder / "log"
    with (
        log.open("w", encoding="utf-8") as errors,
        subprocess.Popen(
            command(folder / "gallery.db", "--port", "0", "--processes", "2", *more),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | variables,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text("utf-8")
            listening = json.loads(line)
            address = f"{listening['host']}:{listening['port']}"
            yield Server(process=process, address=address, listening=listening), log
        finally:
            process.kill()


class Arrivals:
    """The pictures that have come to the encoders of a server, and the gate of the blue ones.

    Args:
        folder: Where the FIFO and the gate are made.
    """

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "arrived")
        # For reading and writing, so that it is open before and after any server.
        self._arrived: IO[bytes] = os.fdopen(os.open(folder / "arrived", os.O_RDWR), "rb", 0)
        self._gate = (folder / "gate").open("w")
        self.variables = {FOLDER: str(folder), "PAGESIGHT_SERVER__REMEMBER": "0"}
        """Of the server's environment: each screenshot comes to an encoder."""

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.close()
        self._arrived.close()

    def next(self) -> int:
        """Waits for the next picture; returns the id of the process that it has come to."""
        return int(self._arrived.readline())

    def close(self) -> None:
        """Keeps blue pictures from now on."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)

    def open(self) -> None:
        """Lets blue pictures through."""
        fcntl.flock(self._gate, fcntl.LOCK_UN)


def gone(pid: int, timeout_s: float = WAIT_S) -> bool:
    """Whether a process ends within a time; it need not be a child."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    wiring.models = _models
    if HOLD_LOADING in os.environ:
        wiring.Registry = HeldRegistry  # type: ignore[attr-defined]
    main()
