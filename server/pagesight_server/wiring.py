"""Puts the parts together, for every command alike: what `evaluate` measures is what `serve` runs.

bundles ──> encoder, readers (threads) ─┐
store ──> registry of knowledge ────────┴─> pipeline, enroller
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
from pagesight_server.inference.onnx_session import check_device
from pagesight_server.inference.settings import Compute
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of the two bundles, running; pipelines are made from them."""

    config: Config
    bundles: Bundles
    readers: int
    """Screenshots that can be read at the same time."""
    encoder: Batcher[Pixels, Embedding]
    ocr: OcrEngine

    def pipeline(self, knowledge: Callable[[str], Knowledge], *, remember: int = 0) -> Pipeline:
        """The way of one screenshot through these models and this knowledge.

        Args:
            knowledge: What is known, by the name of the gallery.
            remember: Entries of the feature cache; 0 switches it off.
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
        """Hits and misses of the caches: features of `screenshots`, texts of `lines`."""
        return {"screenshots": pipeline.cache.stats(), "lines": self.ocr.cache.stats()}

    def enroller(self, store: Gallery, pipeline: Pipeline) -> Enroller:
        """Enrols pictures into a store with the features that these models compute."""
        return Enroller(
            store=store,
            bundles=self.bundles,
            extract_features=pipeline.extract_features,
            keep_images=self.config.gallery.keep_images,
            limits=self.config.image,
        )

    def observe(self, observe: Observe) -> None:
        """Has each run of a model told from now on."""
        self.encoder.observe = self.ocr.pool.observe = observe

    def queues(self) -> dict[str, Callable[[], int]]:
        """What waits for a model: how many, by the stage that runs it."""
        return {"encode": lambda: self.encoder.depth, "recognise": lambda: self.ocr.pool.depth}

    def check(self, snapshot: Snapshot) -> None:
        """Refuses a gallery that other bundles made.

        Raises:
            BundleMismatchError: its embeddings or texts cannot be compared with these models'.
        """
        check_bundles(snapshot.gallery, snapshot.bundles, self.bundles)

    def registry(self, store: Gallery) -> Registry:
        """The knowledge of every gallery of a store, once it is refreshed."""
        recognition = self.config.recognition
        return Registry(
            store,
            self.bundles,
            method=recognition.method,
            epsilon=recognition.epsilon,
            index_manager=IndexManager(self.config.index, Path(f"{store.path}.index")),
        )


def load_bundles(folder: Path) -> tuple[Bundle, Bundle]:
    """The encoder and the OCR bundle of a folder, verified.

    Raises:
        SetupError: one is missing or not what was exported.
    """
    return bundle.load(folder / "encoder", "encoder"), bundle.load(folder / "ocr", "ocr")


@asynccontextmanager
async def models(config: Config) -> AsyncIterator[Models]:
    """Loads the bundles and starts their threads; ends them afterwards.

    Raises:
        SetupError: a bundle is missing, damaged, or computes something else here.
    """
    encoder_bundle, ocr_bundle = load_bundles(config.bundles)
    compute = config.compute
    settings = _ocr_settings(config)
    of_each = Compute(device=compute.device, gpu_memory_mb=compute.gpu_memory_mb)
    check_device(of_each, sessions=1 + settings.detectors + settings.recognisers)

    async with AsyncExitStack() as stack:
        encoder = Encoder(
            encoder_bundle,
            replace(of_each, threads=compute.encoder_threads or 1),
            sizes=compute.sizes,
        )
        batcher = Batcher[Pixels, Embedding](
            lambda pictures: list(encoder.encode(pictures)),
            BatchConfig(max_batch=compute.batch_limit, max_wait_ms=compute.max_wait_ms),
            name="encoder",
        )
        stack.push_async_callback(batcher.close)
        ocr = load_ocr(ocr_bundle, of_each, settings)
        stack.push_async_callback(ocr.close)
        yield Models(
            config=config,
            bundles=Bundles(encoder=encoder_bundle.id, ocr=ocr_bundle.id),
            readers=settings.detectors + settings.recognisers,
            encoder=batcher,
            ocr=ocr,
        )


def _ocr_settings(config: Config) -> OcrSettings:
    each, lines = config.ocr_threads, config.image.max_lines
    if config.compute.device == "cpu":
        return OcrSettings(detectors=each, recognisers=each, max_lines=lines)
    # Few shapes, all of them warmed; how many columns a run should have is not measured yet.
    return OcrSettings(
        detectors=each,
        recognisers=each,
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

    Raises:
        SetupError: it cannot be opened, or is missing where it must exist.
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
