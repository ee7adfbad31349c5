"""The engines that `make bench-ocr` compares: ours, timed by stage, and the Rust engine.

    ours, full and cascade ──> detector, recogniser of each network ──> CPU-seconds by stage
    faster-paddle ──> its own decoder, networks and ONNX Runtime ──> lines

`rapidocr` itself is `tests.support.congruence.Library`. `faster-paddle` is optional: it takes 65 MB
on the disk and has no use but this one. It reads with the networks inside its wheel and no others,
and takes files, not pixels; `same_weights` says whether those networks are the library's.
"""

from __future__ import annotations

import importlib
import mmap
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import onnx
import rapidocr
from onnx.numpy_helper import to_array

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Bundle, Tensors
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr.detector import DetectionNetwork, Detector, TextColumns
from pagesight_server.inference.ocr.engine import (
    finding_network,
    library_numbers,
    networks,
    owned,
    sure_from,
)
from pagesight_server.inference.ocr.recogniser import Network, Reader, Recogniser, Text
from pagesight_server.inference.ocr.tiling import Region
from pagesight_server.inference.onnx_session import Graph
from pagesight_server.inference.settings import Compute, ReadingMode
from pagesight_server.text.reading import Box, TextLine

FASTER_PADDLE = "faster-paddle==1.0.4"
"""The Rust engine, as pip is asked for it."""
SIZES = ("small", "tiny")
"""Its networks: the library's, and those that our draft is made from. Medium it would download."""
LIBRARY_MODELS = ("PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx")
"""The networks of `rapidocr`, which our bundle is exported from."""
LEAST_BYTES = 256
"""Least bytes of an array of weights that is looked for: a smaller one may be there by chance."""

Stages: TypeAlias = defaultdict[str, float]
"""CPU-seconds of our threads, by stage."""


class TimedGraph(Graph):
    """A graph that measures the CPU time of its runs."""

    def __init__(self, path: Path, stages: Stages, stage: str) -> None:
        super().__init__(path, Compute())
        self._stages, self._stage = stages, stage

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph."""
        start = time.thread_time()
        outputs = super().run(inputs)
        self._stages[self._stage] += time.thread_time() - start
        return outputs


class TimedDetector(Detector):
    """A detector that measures its CPU time outside the network."""

    def __init__(
        self, source: Bundle, settings: OcrSettings, stages: Stages, network: DetectionNetwork
    ) -> None:
        super().__init__(source, Compute(), network, max_enlarged_px=settings.max_enlarged_px)
        self._stages, self._stage = stages, f"{network} network"
        file = source.manifest["input"][network]["file"]
        self.graph = TimedGraph(source.file(file), stages, self._stage)

    def find(self, pixels: Pixels, columns: TextColumns | None = None) -> list[Region]:
        """Detects the text of a picture."""
        start, network = time.thread_time(), self._stages[self._stage]
        regions = super().find(pixels, columns)
        network = self._stages[self._stage] - network
        self._stages["resizing, boxes, crops"] += time.thread_time() - start - network
        return regions


class TimedRecogniser(Recogniser):
    """A recogniser that measures its CPU time outside the network."""

    def __init__(self, source: Bundle, stages: Stages, network: Network) -> None:
        super().__init__(source, Compute(), network)
        self._stages, self._stage = stages, f"{network} network"
        self.graph = TimedGraph(source.file(f"{network}.onnx"), stages, self._stage)

    def read(self, strips: Sequence[Pixels], width: int) -> list[Text]:
        """Recognises the text of line images."""
        start, network = time.thread_time(), self._stages[self._stage]
        texts = super().read(strips, width)
        network = self._stages[self._stage] - network
        self._stages["batches, texts"] += time.thread_time() - start - network
        return texts


def engine(
    source: Bundle, settings: OcrSettings, stages: Stages, reading: ReadingMode
) -> OcrEngine:
    """Returns our engine, with one thread for detection and one for recognition."""
    in_use = networks(source, reading)
    finding = finding_network(in_use)
    reader = Reader({network: TimedRecogniser(source, stages, network) for network in in_use})
    return OcrEngine(
        owned([TimedDetector(source, settings, stages, finding)], name="detector"),
        [owned([reader], name="recogniser")],
        settings,
        library_numbers(source),
        sure_from=sure_from(source) if "draft" in in_use else None,
    )


class FasterPaddle:
    """The Rust engine `faster-paddle` with its defaults, on one thread.

    Args:
        size: Of its networks: `small` or `tiny`.

    Raises:
        ImportError: It is not installed.
    """

    def __init__(self, size: str) -> None:
        # The networks are inside the wheel's one library, so nothing is downloaded.
        self._engine: Any = importlib.import_module("faster_paddle").OcrEngine(
            model_size=size, threads=1
        )

    @property
    def config(self) -> dict[str, Any]:
        """Its threads and the limits of its inputs, as it says itself."""
        return dict(self._engine.config)

    @staticmethod
    def encoded(pixels: Pixels) -> bytes:
        """Encodes RGB pixels of shape (height, width, 3) as BMP, which is decoded by copying."""
        done, file = cv2.imencode(".bmp", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        assert done
        return file.tobytes()

    def read(self, file: bytes) -> list[TextLine]:
        """Returns all lines of a picture, given as the bytes of its file."""
        return [
            TextLine(
                line["text"],
                float(line["confidence"]),
                Box(*line["topLeftCoord"], *line["bottomRightCoord"]),
            )
            for line in self._engine.ocr(file)["bounds"].values()
        ]


def find_faster_paddle() -> tuple[bool, str]:
    """Says whether `faster-paddle` is installed, and what it reads with or how to install it."""
    try:
        module = importlib.import_module("faster_paddle")
        extension = importlib.import_module("faster_paddle.faster_paddle").__file__
    except ImportError:
        how = f".venv/bin/pip install {FASTER_PADDLE}"
        return False, f"faster-paddle is not installed, so not compared with ({how} adds it)"
    assert extension is not None
    models = Path(rapidocr.__file__).parent / "models"
    same = same_weights(Path(extension), [models / name for name in LIBRARY_MODELS])
    return True, (
        f"faster-paddle {module.__version__} with its defaults and the networks inside its wheel; "
        f"small's weights are {'' if same else 'NOT '}rapidocr's"
    )


def same_weights(file: Path, models: Iterable[Path]) -> bool:
    """Whether a file contains, byte by byte, all arrays of weights of some ONNX models."""
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as inside,
    ):
        return all(
            inside.find(weights) >= 0
            for model in models
            for array in onnx.load(model).graph.initializer
            if len(weights := to_array(array).tobytes()) >= LEAST_BYTES
        )
