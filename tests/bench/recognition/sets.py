"""Labelled screenshots as recognition sees them: a gallery, and the screenshots that test it.

    DIR/gallery/<label>/* ──index_folder──> store ──> snapshot ─┐
    DIR/test/<label>/* ──extract_features──> test screenshots ──┴─> ScreenSet ──> its variants
    DIR/PROVENANCE.tsv ──> version and language of each

Pictures go through the code of `index` and `evaluate`. Their features are kept in a `FeatureFile`
for each set, and the models are loaded when the first picture is not in it: a second run reads
nothing.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from pagesight_server import wiring
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.errors import ImageError, SetupError
from pagesight_server.config import Config
from pagesight_server.evaluation import FeatureFile, Observation
from pagesight_server.evaluation.run import DEFAULT_LIMITS, collect
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, Bundles, Snapshot, is_reserved
from pagesight_server.inference.decode import decode, read_file
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.enrolment import Enroller, index_folder
from pagesight_server.workflows.pipeline import Pipeline
from tests.samples.catalog import LABELS
from tests.samples.dataset import write_dataset

PROVENANCE = "PROVENANCE.tsv"
SPLITS = ("version", "language")
"""Columns of `PROVENANCE.tsv` by which known screenshots are told apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestScreenshot:
    """A screenshot that tests a gallery, seen and read."""

    __test__ = False

    path: str
    """Relative to the set's `test` folder."""
    image_id: str
    """SHA-256 of its bytes, in hexadecimal."""
    truth: str
    query: Query
    split: tuple[tuple[str, str], ...] = ()
    """Columns of `PROVENANCE.tsv` and what they say of it, where they say anything."""

    @property
    def observation(self) -> Observation:
        """The screenshot as `evaluation.compare` takes it."""
        return Observation(truth=self.truth, query=self.query)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenSet:
    """A gallery and the screenshots that test it."""

    name: str
    snapshot: Snapshot
    tests: tuple[TestScreenshot, ...]
    """By path; known pages are those that the gallery has."""
    unreadable: tuple[str, ...] = ()
    """Files that could not be used, gallery and test; no figure counts them."""

    @property
    def observations(self) -> list[Observation]:
        """The test screenshots, in their order."""
        return [test.observation for test in self.tests]

    def per_page(self, pictures: int) -> ScreenSet:
        """The set with at most so many gallery pictures of each label, as good as drawn by lot."""
        rows = sorted(row for rows in self.snapshot.sample.first(pictures).values() for row in rows)
        return replace(
            self,
            name=f"{self.name}, {pictures} a page",
            snapshot=replace(
                self.snapshot,
                pictures=tuple(self.snapshot.pictures[row] for row in rows),
                embeddings=self.snapshot.embeddings[np.asarray(rows, np.int64)],
            ),
        )

    def without_brands(self) -> ScreenSet:
        """The set as if there were no `labels.toml`."""
        return replace(
            self, name=f"{self.name}, no brands", snapshot=replace(self.snapshot, facts={})
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A set of sample pages to draw: `SEED:GALLERY:TEST:OTHER`."""

    seed: int
    gallery: int
    test: int
    other: int
    labels: tuple[str, ...] = LABELS

    @staticmethod
    def parse(text: str) -> Drawing:
        """Reads `SEED:GALLERY:TEST:OTHER`.

        Raises:
            ValueError: it is not four whole numbers.
        """
        seed, gallery, test, other = map(int, text.split(":"))
        return Drawing(seed=seed, gallery=gallery, test=test, other=other)

    @property
    def name(self) -> str:
        """The name of the set."""
        return f"drawn {self.seed}"

    def draw(self, under: Path) -> Path:
        """Draws the set below a folder, unless it is there already; returns its own folder."""
        folder = under / f"{self.seed}-{self.gallery}-{self.test}-{self.other}"
        finished = folder / "finished"
        if not finished.is_file():
            write_dataset(
                folder,
                labels=self.labels,
                gallery=self.gallery,
                test=self.test,
                other=self.other,
                seed=self.seed,
            )
            finished.touch()
        return folder


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads folders into sets; `open_reader` makes one."""

    config: Config
    bundles: Bundles
    features: Path
    """The folder of feature files."""
    _stack: AsyncExitStack
    _models: wiring.Models | None = None
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, name: str, folder: Path) -> ScreenSet:
        """Indexes the gallery and takes the features of the test screenshots.

        Args:
            name: What to call the set.
            folder: Holds `gallery/` and `test/`, and maybe `PROVENANCE.tsv`.

        Raises:
            SetupError: there are no pictures, or a mistake in the labels file.
        """
        cache = FeatureFile(
            self.features / f"{name.replace(' ', '-')}.jsonl",
            self.bundles,
            # As they are written, for no model is loaded yet.
            {"compute": self.config.compute.model_dump(include={"device", "reading"})},
        )
        try:
            pipeline = self._pipeline(cache)
            snapshot, unreadable = await self._gallery(pipeline, folder / "gallery")
            splits = read_provenance(folder / PROVENANCE)
            places = asyncio.Semaphore(self.config.ocr_threads)

            async def read(path: str, truth: str) -> TestScreenshot | str:
                async with places:
                    try:
                        data = await asyncio.to_thread(
                            read_file, folder / "test" / path, DEFAULT_LIMITS
                        )
                        features = await pipeline.extract_features(data)
                    except ImageError:
                        return f"test/{path}"
                return TestScreenshot(
                    path=path,
                    image_id=hashlib.sha256(data).hexdigest(),
                    truth=truth,
                    query=Query(embedding=features.embedding, reading=features.reading),
                    split=() if is_reserved(truth) else splits.get(f"test/{path}", ()),
                )

            images = collect(folder / "test")
            tests = await asyncio.gather(*(read(path, truth) for path, truth in images))
        finally:
            cache.close()
        return ScreenSet(
            name=name,
            snapshot=snapshot,
            tests=tuple(test for test in tests if isinstance(test, TestScreenshot)),
            unreadable=(*unreadable, *(test for test in tests if isinstance(test, str))),
        )

    async def _gallery(self, pipeline: Pipeline, folder: Path) -> tuple[Snapshot, list[str]]:
        """The snapshot that `index` makes of a folder, and the files that it could not use."""
        with (
            tempfile.TemporaryDirectory() as scratch,
            closing(Gallery(Path(scratch) / "gallery.db")) as store,
        ):
            report = await index_folder(
                Enroller(
                    store=store,
                    bundles=self.bundles,
                    extract_features=pipeline.extract_features,
                    keep_images="none",
                ),
                folder,
                gallery=DEFAULT_GALLERY,
                author="bench",
                limits=DEFAULT_LIMITS,
                concurrency=self.config.ocr_threads,
            )
            return store.snapshot(), [f"gallery/{source}" for source, _ in report.skipped]

    def _pipeline(self, cache: FeatureFile) -> Pipeline:
        """A pipeline over models that are loaded at the first picture that the file lacks."""

        async def encode(pixels: Pixels) -> Embedding:
            return await (await self._loaded()).encode(pixels)

        async def read(pixels: Pixels) -> Reading:
            return await (await self._loaded()).ocr.read(pixels)

        return Pipeline(
            decode=lambda data: decode(data, DEFAULT_LIMITS),
            encode=encode,
            read=read,
            knowledge=_no_knowledge,
            cache=cache,
        )

    async def _loaded(self) -> wiring.Models:
        async with self._loading:
            if self._models is None:
                self._models = await self._stack.enter_async_context(wiring.models(self.config))
        return self._models


@asynccontextmanager
async def open_reader(config: Config, features: Path) -> AsyncIterator[Reader]:
    """A reader whose models, if it needed them, end with the block.

    Args:
        config: Names the bundles.
        features: The folder of feature files.

    Raises:
        SetupError: a bundle is missing or not what was exported.
    """
    encoder, ocr = wiring.load_bundles(config.bundles)
    async with AsyncExitStack() as stack:
        yield Reader(
            config=config,
            bundles=Bundles(encoder=encoder.id, ocr=ocr.id),
            features=features,
            _stack=stack,
        )


def read_provenance(path: Path) -> dict[str, tuple[tuple[str, str], ...]]:
    """What `PROVENANCE.tsv` says of each file under `SPLITS`; nothing where there is no such file.

    Raises:
        SetupError: it has no column `file`.
    """
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if rows and "file" not in rows[0]:
        raise SetupError(f"{path} has no column `file`: name each picture, as test/<label>/<name>")
    return {
        row["file"]: tuple((column, row[column]) for column in SPLITS if row.get(column))
        for row in rows
    }


def variants(
    screen_set: ScreenSet, *, per_page: Sequence[int] = (), without_brands: bool = False
) -> list[ScreenSet]:
    """A set, with fewer pictures a page where it has more, and each without brands if it has any.

    Args:
        screen_set: The set.
        per_page: Gallery pictures of a label at most; left out where the typical label has no more.
        without_brands: Whether to leave out what `labels.toml` says, too.
    """
    typical = median(Counter(p.label for p in screen_set.snapshot.pictures).values())
    sets = [screen_set, *(screen_set.per_page(most) for most in per_page if most < typical)]
    if without_brands and any(facts.brands for facts in screen_set.snapshot.facts.values()):
        return [one for made in sets for one in (made, made.without_brands())]
    return sets


def _no_knowledge(gallery: str) -> Knowledge:
    raise AssertionError(f"features are taken without knowledge; {gallery} was asked for")
