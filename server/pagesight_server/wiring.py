"""Builds the components from the settings, alike for every command: `serve` runs what is evaluated.

bundles ──> encoder, OCR (threads) ─┐
store ──> registry of knowledge ────┴─> pipeline, enroller
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.cache import CacheStats, SingleFlightLru
from pagesight_server.common.errors import SetupError
from pagesight_server.common.packages import check_packages
from pagesight_server.common.priority import present
from pagesight_server.common.timings import Observe
from pagesight_server.config import Config
from pagesight_server.config_sections import CUDA_BATCH_SIZES
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import StoreLocation, derived_folder
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.index.manager import IndexManager, gpu_mb
from pagesight_server.inference import bundle
from pagesight_server.inference.batcher import BatchConfig, Batcher
from pagesight_server.inference.bundle import Bundle, Tensors
from pagesight_server.inference.decode import decode
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.ocr import OcrEngine, OcrSettings
from pagesight_server.inference.ocr import load as load_ocr
from pagesight_server.inference.ocr.engine import networks
from pagesight_server.inference.ocr.settings import CUDA_CANVASES, CUDA_WIDTHS
from pagesight_server.inference.onnx_session import check_device
from pagesight_server.inference.settings import Compute, FixedShapes
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.keeping import AnswerKeeper, KeepPolicy
from pagesight_server.workflows.pipeline import Pipeline
from pagesight_server.workflows.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models of both bundles, loaded and warmed up; pipelines are made from them."""

    config: Config
    bundles: Bundles
    readers: int
    """OCR threads, detection and recognition together: the concurrency that keeps all busy."""
    prepare: Callable[[Pixels], Tensors]
    """The encoder's inputs for one picture; runs in a worker thread."""
    resized_by: str
    """The library that resizes pictures for the encoder, with its version."""
    encoder: Batcher[Tensors, Embedding]
    """Takes pictures that are prepared."""
    ocr: OcrEngine

    @property
    def conditions(self) -> dict[str, object]:
        """What changes embeddings and texts beside the bundles, by name, for reports and caches."""
        compute = self.config.compute
        return {
            "device": compute.device,
            "resized_by": self.resized_by,
            "reading": self.ocr.reading,
            "fixed_shapes": compute.device == "cuda" and compute.fixed_shapes,
            "max_lines": self.config.image.max_lines,
            "max_text_columns": self.config.image.max_text_columns,
        }

    async def encode(self, pixels: Pixels) -> Embedding:
        """The embedding of a picture, at the priority of the work at hand."""
        prepared = await asyncio.to_thread(self.prepare, pixels)
        embedding, _batch = await self.encoder.submit(prepared, priority=present())
        return embedding

    def pipeline(self, knowledge: Callable[[str], Knowledge], *, remember: int = 0) -> Pipeline:
        """A pipeline that classifies screenshots with these models and this knowledge.

        Args:
            knowledge: Returns the knowledge of a gallery, given its name.
            remember: Entries of the LRU cache of embeddings and texts; 0: no cache.
        """
        limits = self.config.image

        return Pipeline(
            decode=lambda data: decode(data, limits),
            encode=self.encode,
            read=self.ocr.read,
            knowledge=knowledge,
            review_above=self.config.recognition.review_above,
            cache=SingleFlightLru(remember),
        )

    def caches(self, pipeline: Pipeline) -> dict[str, CacheStats]:
        """Hits, misses and entries of the caches of whole `screenshots` and of text `lines`."""
        return {"screenshots": pipeline.cache.stats(), "lines": self.ocr.pool.cache.stats()}

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
        return {"once": self.ocr.pool.settled, "twice": self.ocr.pool.reread}

    def check(self, snapshot: Snapshot) -> None:
        """Checks that these bundles made the gallery.

        Raises:
            BundleMismatchError: other bundles made it; embeddings and texts are not comparable.
        """
        check_bundles(snapshot.gallery, snapshot.bundles, self.bundles)

    def registry(
        self, store: Gallery, *, calibrates: bool = True, replica_id: str = ""
    ) -> Registry:
        """The registry of a store's galleries, prepared for queries.

        Args:
            store: The store.
            calibrates: Whether this process calibrates large galleries, or waits for another.
            replica_id: Under which it is noted in the store that this process serves; empty where
                it is not.
        """
        recognition = self.config.recognition
        return Registry(
            store,
            self.bundles,
            method=recognition.method,
            epsilon=recognition.epsilon,
            index_manager=IndexManager(self.config.index, store.database.derived_folder),
            calibrates=calibrates,
            replica_id=replica_id,
        )


def load_bundles(folder: Path) -> tuple[Bundle, Bundle]:
    """The encoder and the OCR bundle of a folder, their hashes verified.

    Raises:
        SetupError: one is missing, or its files differ from those exported.
    """
    return bundle.load(folder / "encoder", "encoder"), bundle.load(folder / "ocr", "ocr")


@asynccontextmanager
async def models(config: Config, *, processes: int = 1) -> AsyncIterator[Models]:
    """Loads the bundles and starts their threads; stops the threads afterwards.

    Args:
        config: The settings.
        processes: For how many processes the GPU's memory must do, this one included.

    Raises:
        SetupError: a bundle is missing or damaged, or its golden pairs are not reproduced here; two
            packages overwrite each other; the device is missing, or has too little memory.
    """
    check_packages()
    encoder_bundle, ocr_bundle = load_bundles(config.bundles)
    compute = config.compute
    settings = ocr_settings(config)
    defaults = session_defaults(config)
    check_device(
        defaults,
        sessions=processes * memory_limits(config, len(networks(ocr_bundle, compute.reading))),
        index_mb=processes * gpu_mb(config.index, index_folder(config)),
        processes=processes,
    )

    async with AsyncExitStack() as stack:
        encoder = Encoder(
            encoder_bundle,
            replace(defaults, threads=compute.encoder_threads or 1),
            sizes=compute.sizes,
        )
        batcher = Batcher[Tensors, Embedding](
            lambda prepared: list(encoder.run(prepared)),
            BatchConfig(max_batch=compute.batch_limit, max_wait_ms=compute.max_wait_ms),
            name="encoder",
        )
        stack.push_async_callback(batcher.close)
        ocr = load_ocr(ocr_bundle, defaults, settings, reading=compute.reading)
        stack.push_async_callback(ocr.close)
        yield Models(
            config=config,
            bundles=Bundles(encoder=encoder_bundle.id, ocr=ocr_bundle.id),
            readers=settings.detectors + settings.recognisers,
            prepare=encoder.prepare,
            resized_by=encoder.resized_by,
            encoder=batcher,
            ocr=ocr,
        )


def keeper(
    config: Config,
    store: Gallery,
    *,
    forgets: bool,
    is_away: Callable[[], bool] = lambda: False,
) -> AnswerKeeper:
    """What keeps answers for review, as the settings say.

    Args:
        config: The settings.
        store: Where they are kept.
        forgets: Whether this process forgets what is too old, or leaves that to another one.
        is_away: Whether the store is known to be away.
    """
    review = config.review
    policy = KeepPolicy(
        limits=review.limits,
        rejected_share=review.rejected_share,
        random_share=review.random_share,
        thumbnails=review.keep_images == "thumbnail",
    )
    return AnswerKeeper(store, policy, config.image, forgets=forgets, is_away=is_away)


def index_folder(config: Config) -> Path:
    """Returns the folder in which the indexes of the store are kept."""
    return derived_folder(config.store, config.gallery.postgres)


def ocr_settings(config: Config) -> OcrSettings:
    """How text is read with these settings."""
    threads, image = config.ocr_threads, config.image
    if config.compute.device == "cpu":
        return OcrSettings(
            detectors=threads,
            recognisers=threads,
            max_lines=image.max_lines,
            max_text_columns=image.max_text_columns,
        )
    # A new shape is slow on CUDA, so lines are padded to few of them, which the warm-up runs: to
    # one size each where shapes are fixed, else to the next of some. 16 and 32 lines of the usual
    # 320 columns in one run are guesses, not measured yet.
    fixed = config.compute.fixed_shapes
    return OcrSettings(
        detectors=config.detectors,
        detection_sessions=threads,
        recognisers=threads,
        widths=CUDA_WIDTHS,
        sizes=() if fixed else CUDA_BATCH_SIZES,
        max_columns=(16 if fixed else 32) * 320,
        gives_way=False,
        max_lines=image.max_lines,
        max_text_columns=image.max_text_columns,
    )


def session_defaults(config: Config) -> Compute:
    """Returns where every session runs with these settings, on one CPU thread."""
    compute = config.compute
    fixed = None
    if compute.device == "cuda" and compute.fixed_shapes:
        settings = ocr_settings(config)
        fixed = FixedShapes(
            lines=tuple((settings.count(width, settings.max_columns), width)
                        for width in settings.widths),
            canvases=CUDA_CANVASES,
            cuda_graphs=compute.cuda_graphs,
        )  # fmt: skip
    return Compute(device=compute.device, gpu_memory_mb=compute.gpu_memory_mb, fixed=fixed)


def memory_limits(config: Config, reading_networks: int) -> int:
    """How many times `compute.gpu_memory_mb` the sessions may take together on CUDA.

    Those of fixed shapes share one limit, beside that of the session for any shape.

    Args:
        config: The settings.
        reading_networks: That recognise text: the bundle's own, and its draft where one is used.
    """
    settings = ocr_settings(config)
    finders = settings.detection_sessions or settings.detectors
    readers = finders + reading_networks * settings.recognisers
    return 1 + readers * (1 if session_defaults(config).fixed is None else 2)


def opened_for_copy(config: Config, location: StoreLocation) -> Gallery:
    """Opens a store to copy it, or to copy into it: also one that is a copy not complete yet.

    Raises:
        SetupError: it cannot be opened.
        StorageError: its database cannot be reached.
    """
    return Gallery(location, postgres=config.gallery.postgres, incomplete=True)


@contextmanager
def opened(
    config: Config,
    *,
    must_exist: bool = False,
    migrates: bool = True,
) -> Iterator[Gallery]:
    """Opens the store and closes it afterwards.

    Args:
        config: Where it is, and the quotas of its galleries.
        must_exist: Whether a missing file is an error instead of made.
        migrates: False: it is neither made nor brought forward from an older schema.

    Raises:
        SetupError: it cannot be opened, or is missing although it must exist.
        OlderStoreError: it would have to be made or brought forward.
        StorageError: its database cannot be reached.
    """
    where = config.store
    if must_exist and isinstance(where, Path) and not where.is_file():
        raise SetupError(
            f"no store {where}: make it with `pagesight-server index DIR --store {where}`"
        )
    recognition = config.recognition
    store = Gallery(
        where,
        limits=config.gallery.limits,
        postgres=config.gallery.postgres,
        migrates=migrates,
        # The published method compares whole texts, of every picture.
        texts_per_label=None if recognition.method == "seed" else recognition.texts_per_label,
    )
    try:
        yield store
    finally:
        store.close()
