"""Moving a gallery to other bundles, while servers go on with the old ones.

    unseen pictures ──kept original──> perceive ──> content beside the old ─┐ again, while new
           ^──────────────────── enrolled meanwhile ────────────────────────┘ ones come
    all seen ──> one revision that makes the gallery one of the new bundles

What is computed is stored at once, so a run that is killed goes on where it was. Removed
pictures are moved too as far as they can be, so that rolling back still brings them back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pagesight_server.common.errors import ImageError, NotFoundError, PurgedError
from pagesight_server.gallery import Change, Content, Form, Gallery
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.workflows.pipeline import Percept

_NO_ORIGINAL = {
    "thumbnail": "only a thumbnail is kept (gallery.keep_images)",
    "none": "the picture is not kept (gallery.keep_images)",
    "expired": "it is no longer kept (gallery.keep_removed_days)",
}


@dataclass(slots=True)
class ReindexReport:
    """What became of a gallery."""

    revision: int = 0
    computed: int = 0
    switched: bool = False
    """Whether the gallery is one of the new bundles now."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """Pictures of the gallery that cannot move, with the reason."""


async def reindex_gallery(
    store: Gallery,
    gallery: str,
    bundles: Bundles,
    perceive: Callable[[bytes], Awaitable[Percept]],
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
        bundles: What `perceive` runs.
        perceive: Sees and reads a picture.
        author: For the history.
        concurrency: Pictures worked on at the same time.
        switch: Whether the gallery is moved once all is computed.
        drop_missing: Whether it is moved without the pictures that cannot move.
        progress: Called with how many pictures are done, of how many.

    Raises:
        NotFoundError: no such gallery.
    """
    report = ReindexReport()
    failed: dict[str, str] = {}
    places = asyncio.Semaphore(concurrency)

    async def see(image_id: str, form: Form, total: int) -> None:
        async with places:
            try:
                await _see(store, image_id, form, bundles, perceive)
                report.computed += 1
            except ImageError as error:
                failed[image_id] = str(error)
            except (PurgedError, NotFoundError):
                pass  # purged since: it is no longer to be moved
            progress(report.computed + len(failed), total)

    while True:
        unseen = await asyncio.to_thread(store.unseen, gallery, bundles)
        todo = [(image_id, form) for image_id, form in unseen if image_id not in failed]
        total = report.computed + len(failed) + len(todo)
        looking = [asyncio.create_task(see(image_id, form, total)) for image_id, form in todo]
        try:
            await asyncio.gather(*looking)
        finally:
            for task in looking:
                task.cancel()
        now = await asyncio.to_thread(store.unseen, gallery, bundles, now_only=True)
        if not all(image_id in failed for image_id, _ in now):
            continue  # enrolled meanwhile
        report.missing = [(image_id, failed[image_id]) for image_id, _ in now]
        report.revision = store.revisions()[gallery]
        if not switch or (report.missing and not drop_missing):
            return report
        change = Change(gallery=gallery, author=author)
        drop = [image_id for image_id, _ in report.missing]
        try:
            applied = await asyncio.to_thread(store.move, change, bundles, drop=drop)
        except NotFoundError:
            continue  # enrolled between looking and switching
        report.revision, report.switched = applied.revision, True
        return report


async def _see(
    store: Gallery,
    image_id: str,
    form: Form,
    bundles: Bundles,
    perceive: Callable[[bytes], Awaitable[Percept]],
) -> None:
    """Stores what the bundles make of one picture; raises ImageError where they cannot."""
    if form != "original":
        raise ImageError(_NO_ORIGINAL[form])
    data = await asyncio.to_thread(store.image_bytes, image_id)
    if data is None:
        raise ImageError(_NO_ORIGINAL["expired"])
    percept = await perceive(data)
    if percept.reading is None:
        raise AssertionError("gallery pictures are always read")
    content = Content(
        image_id=image_id,
        width_px=percept.width_px,
        height_px=percept.height_px,
        data=None,  # the original stays
        embedding=percept.embedding,
        reading=percept.reading,
    )
    await asyncio.to_thread(store.put_content, content, bundles)
