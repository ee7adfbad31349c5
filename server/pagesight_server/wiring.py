"""Builds the components from the settings, alike for every command: `serve` runs what is evaluated.

bundles ──> encoder, OCR (threads) ─┐
store ──> registry of knowledge ────┴─> pipeline, enroller
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.cache import CacheStats, SingleFlightLru
from pagesight_server.common.errors import SetupError
from pagesight_server.common.priority import present
from pagesight_server.common.timings import Observe
from pagesight_server.config import CUDA_BATCH_SIZES, Config
from pagesight_server.gallery import Gallery, Limits
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.index.manager import IndexManager
from pagesight_server.inference import bundle
from pagesight_server.inference.batcher import BatchConfig, Batcher
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.decode import decode
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr import load as load_ocr
from pagesight_server.inference.ocr.engine import networks
from pagesight_server.inference.onnx_session import check_device
from pagesight_server.inference.settings import Compute
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of both bundles, loaded and warmed up; pipelines are made from them."""

    config: Config
    bundles: Bundles
    readers: int
    """OCR threads, detection and recognition together: the concurrency that keeps all busy."""
    encoder: Batcher[Pixels, Embedding]
    ocr: OcrEngine

    def pipeline(self, knowledge: Callable[[str], Knowledge], *, remember: int = 0) -> Pipeline:
        """A pipeline that classifies screenshots with these models and this knowledge.

        Args:
            knowledge: Returns the knowledge of a gallery, given its name.
            remember: Entries of the LRU cache of embeddings and texts; 0: no cache.
        """
        limits = self.config.image

        async def encode(pixels: Pixels) -> Embedding:
            embedding, _batch = await self.encoder.submit(pixels, priority=present())
            return embedding

        return Pipeline(
            decode=lambda data: decode(data, limits),
            encode=encode,
            read=self.ocr.read,
            knowledge=knowledge,
            review_above=self.config.recognition.review_above,
            cache=SingleFlightLru(remember),
        )

    def caches(self, pipeline: Pipeline) -> dict[str, CacheStats]:
        """Hits, misses and entries of the caches of whole `screenshots` and of text `lines`."""
        return {"screenshots": pipeline.cache.stats(), "lines": self.ocr.cache.stats()}

    def enroller(self, store: Gallery, pipeline: Pipeline) -> Enroller:
        """An enroller that computes embeddings and texts with these models."""
        return Enroller(
            store=store,
            bundles=self.bundles,
            extract_features=pipeline.extract_features,
            keep_images=self.config.gallery.keep_images,
            limits=self.config.image,
        )

    def observe(self, observe: Observe) -> None:
        """Calls `observe` after each model run from now on."""
        self.encoder.observe = self.ocr.pool.observe = observe

    def queues(self) -> dict[str, Callable[[], int]]:
        """Functions that return the present queue length of each model, by stage."""
        return {"encode": lambda: self.encoder.depth, "recognise": lambda: self.ocr.pool.depth}

    def lines(self) -> dict[str, int]:
        """Lines of text that were read `once` and `twice`."""
        return {"once": self.ocr.settled, "twice": self.ocr.reread}

    def check(self, snapshot: Snapshot) -> None:
        """Checks that these bundles made the gallery.

        Raises:
            BundleMismatchError: other bundles made it; embeddings and texts are not comparable.
        """
        check_bundles(snapshot.gallery, snapshot.bundles, self.bundles)

    def registry(self, store: Gallery) -> Registry:
        """The registry of a store's galleries, prepared for queries."""
        recognition = self.config.recognition
        return Registry(
            store,
            self.bundles,
            method=recognition.method,
            epsilon=recognition.epsilon,
            index_manager=IndexManager(self.config.index, Path(f"{store.path}.index")),
        )


def load_bundles(folder: Path) -> tuple[Bundle, Bundle]:
    """The encoder and the OCR bundle of a folder, their hashes verified.

    Raises:
        SetupError: one is missing, or its files differ from those exported.
    """
    return bundle.load(folder / "encoder", "encoder"), bundle.load(folder / "ocr", "ocr")


@asynccontextmanager
async def models(config: Config) -> AsyncIterator[Models]:
    """Loads the bundles and starts their threads; stops the threads afterwards.

    Raises:
        SetupError: a bundle is missing or damaged, or its golden pairs are not reproduced here.
    """
    encoder_bundle, ocr_bundle = load_bundles(config.bundles)
    compute = config.compute
    settings = _ocr_settings(config)
    session_defaults = Compute(device=compute.device, gpu_memory_mb=compute.gpu_memory_mb)
    in_use = networks(ocr_bundle, compute.reading)
    sessions = 1 + settings.detectors + len(in_use) * settings.recognisers
    check_device(session_defaults, sessions=sessions)

    async with AsyncExitStack() as stack:
        encoder = Encoder(
            encoder_bundle,
            replace(session_defaults, threads=compute.encoder_threads or 1),
            sizes=compute.sizes,
        )
        batcher = Batcher[Pixels, Embedding](
            lambda pictures: list(encoder.encode(pictures)),
            BatchConfig(max_batch=compute.batch_limit, max_wait_ms=compute.max_wait_ms),
            name="encoder",
        )
        stack.push_async_callback(batcher.close)
        ocr = load_ocr(ocr_bundle, session_defaults, settings, reading=compute.reading)
        stack.push_async_callback(ocr.close)
        yield Models(
            config=config,
            bundles=Bundles(encoder=encoder_bundle.id, ocr=ocr_bundle.id),
            readers=settings.detectors + settings.recognisers,
            encoder=batcher,
            ocr=ocr,
        )


def _ocr_settings(config: Config) -> OcrSettings:
    threads, lines = config.ocr_threads, config.image.max_lines
    if config.compute.device == "cpu":
        return OcrSettings(detectors=threads, recognisers=threads, max_lines=lines)
    # A new shape is slow on CUDA, so lines are padded to few of them, which the warm-up runs. The
    # limit of 32 lines of the usual 320 columns in one run is a guess, not measured yet.
    return OcrSettings(
        detectors=threads,
        recognisers=threads,
        widths=(160, 320, 480, 640, 960, 1280, 2048),
        sizes=CUDA_BATCH_SIZES,
        max_columns=32 * 320,
        gives_way=False,
        max_lines=lines,
    )


@contextmanager
def opened(
    path: Path,
    *,
    must_exist: bool = False,
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
) -> Iterator[Gallery]:
    """Opens a store and closes it afterwards.

    Args:
        path: Its SQLite file.
        must_exist: Whether a missing file is an error instead of made.
        limits: Quotas of each of its galleries.

    Raises:
        SetupError: it cannot be opened, or is missing although it must exist.
    """
    if must_exist and not path.is_file():
        raise SetupError(
            f"no store {path}: make it with `pagesight-server index DIR --store {path}`"
        )
    store = Gallery(path, limits=limits)
    try:
        yield store
    finally:
        store.close()
