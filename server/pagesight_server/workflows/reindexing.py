"""Moving a gallery to other bundles, while servers go on with the old ones.

    pictures without new content ──original──> extract_features ──> content beside the old
           ^── any enrolled meanwhile? ──────────────────────────────────────┘
    none left ──> one revision that makes the gallery one of the new bundles

Content is stored as soon as it is computed, so a run that is killed goes on where it was.
Removed pictures are moved too as far as they can be, so that rolling back still restores them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pagesight_server.common.errors import ImageError, NotFoundError, PurgedError
from pagesight_server.gallery import Change, Content, Form, Gallery
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.workflows.pipeline import Features

log = logging.getLogger(__name__)

_NO_ORIGINAL = {
    "thumbnail": "only a thumbnail is kept (gallery.keep_images)",
    "none": "the picture is not kept (gallery.keep_images)",
    "expired": "it is no longer kept (gallery.keep_removed_days)",
}


@dataclass(slots=True)
class ReindexReport:
    """Says what became of a gallery that was moved to other bundles."""

    revision: int = 0
    """The gallery's revision at the end."""
    computed: int = 0
    """Pictures whose content of the new bundles was computed by this run."""
    switched: bool = False
    """Whether the gallery is one of the new bundles now."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """Pictures of the gallery that cannot move, each with the reason."""


async def reindex_gallery(
    store: Gallery,
    gallery: str,
    bundles: Bundles,
    extract_features: Callable[[bytes], Awaitable[Features]],
    *,
    author: str,
    concurrency: int = 2,
    switch: bool = True,
    drop_missing: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReindexReport:
    """Computes what is missing of the new bundles, then switches in one revision.

    Args:
        store: Holds the gallery.
        gallery: Its name.
        bundles: The bundles that `extract_features` runs.
        extract_features: Computes embedding and text of a picture.
        author: For the history.
        concurrency: Pictures worked on at the same time.
        switch: Whether the gallery is moved once all is computed.
        drop_missing: Whether it is moved without the pictures that cannot move.
        progress: Called with how many pictures are done, of how many.

    Raises:
        NotFoundError: no such gallery.
    """
    computation = _Computation(store, gallery, bundles, extract_features, concurrency, progress)
    report = ReindexReport()
    while not report.switched:
        await computation.run()
        report.computed = computation.computed
        report.missing = await computation.missing()
        report.revision = store.revisions()[gallery]
        if not switch or (report.missing and not drop_missing):
            break
        change = Change(gallery=gallery, author=author)
        drop = [image_id for image_id, _ in report.missing]
        try:
            applied = await asyncio.to_thread(store.move, change, bundles, drop=drop)
        except NotFoundError:
            continue  # A picture was enrolled since: compute it, then switch.
        report.revision, report.switched = applied.revision, True
    return report


async def repair_galleries(
    store: Gallery,
    bundles: Bundles,
    extract_features: Callable[[bytes], Awaitable[Features]],
    *,
    concurrency: int = 2,
) -> int:
    """Computes anew what has changed on the disk of the galleries that these bundles made.

    Reads the content of every picture once. What has no original any more stays left out.

    Args:
        store: Holds the galleries.
        bundles: The bundles that `extract_features` runs.
        extract_features: Computes embedding and text of a picture.
        concurrency: Pictures worked on at the same time.

    Returns:
        How many pictures were computed.
    """
    computed = 0
    for name in await asyncio.to_thread(store.revisions):
        info = await asyncio.to_thread(store.gallery, name)
        if Bundles(encoder=info.encoder_bundle, ocr=info.ocr_bundle) != bundles:
            continue
        damaged = await asyncio.to_thread(store.unseen, name, bundles, now_only=True)
        if not damaged:
            continue
        log.warning(
            "gallery %s: embedding or text of %d pictures has changed on the disk, or is missing: "
            "they are made anew",
            name,
            len(damaged),
        )
        report = await reindex_gallery(
            store,
            name,
            bundles,
            extract_features,
            author="",
            concurrency=concurrency,
            switch=False,
        )
        computed += report.computed
        for image_id, reason in report.missing:
            log.warning(
                "gallery %s: picture %s cannot be made anew (%s): enrol it again from its file",
                name,
                image_id,
                reason,
            )
    return computed


class _Computation:
    """Computes the content of every picture of a gallery that has none of the new bundles."""

    def __init__(
        self,
        store: Gallery,
        gallery: str,
        bundles: Bundles,
        extract_features: Callable[[bytes], Awaitable[Features]],
        concurrency: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._store = store
        self._gallery = gallery
        self._bundles = bundles
        self._extract_features = extract_features
        self._slots = asyncio.Semaphore(concurrency)
        self._progress = progress
        self.computed = 0
        """Pictures whose content was stored."""
        self.failures: dict[str, str] = {}
        """Why a picture cannot move, by its id."""
        self._purged: set[str] = set()
        """Pictures that were purged before their turn came: nothing of them is to be moved."""

    async def run(self) -> None:
        """Goes on until every picture, those enrolled meanwhile included, has been tried."""
        while pending := await self._pending():
            total = self.computed + len(self.failures) + len(pending)
            tasks = [
                asyncio.create_task(self._try(image_id, form, total)) for image_id, form in pending
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    async def missing(self) -> list[tuple[str, str]]:
        """The pictures now in the gallery that cannot move, each with the reason."""
        unseen = await asyncio.to_thread(
            self._store.unseen, self._gallery, self._bundles, now_only=True
        )
        return [(image, self.failures[image]) for image, _ in unseen if image in self.failures]

    async def _pending(self) -> list[tuple[str, Form]]:
        """The pictures that have not been tried yet, removed ones included, and their form."""
        unseen = await asyncio.to_thread(self._store.unseen, self._gallery, self._bundles)
        tried = self.failures.keys() | self._purged
        return [(image_id, form) for image_id, form in unseen if image_id not in tried]

    async def _try(self, image_id: str, form: Form, total: int) -> None:
        async with self._slots:
            try:
                await self._compute(image_id, form)
                self.computed += 1
            except ImageError as error:
                self.failures[image_id] = str(error)
            except (PurgedError, NotFoundError):
                self._purged.add(image_id)
            self._progress(self.computed + len(self.failures), total)

    async def _compute(self, image_id: str, form: Form) -> None:
        """Computes and stores the content of one picture.

        Raises:
            ImageError: its original is not kept, or cannot be used.
            NotFoundError: the picture was purged; PurgedError likewise.
        """
        if form != "original":
            raise ImageError(_NO_ORIGINAL[form])
        data = await asyncio.to_thread(self._store.image_bytes, image_id)
        if data is None:
            raise ImageError(_NO_ORIGINAL["expired"])
        if hashlib.sha256(data).hexdigest() != image_id:
            raise ImageError("its kept bytes have changed on the disk")
        features = await self._extract_features(data)
        if features.reading is None:
            raise AssertionError("gallery pictures are always read")
        content = Content(
            image_id=image_id,
            width_px=features.width_px,
            height_px=features.height_px,
            data=None,  # the original stays
            embedding=features.embedding,
            reading=features.reading,
        )
        await asyncio.to_thread(self._store.put_content, content, self._bundles)
