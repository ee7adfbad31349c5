"""Teaching pages: pictures into the store, one by one or a folder at a time.

    bytes -> sha256 -> stored? ──no──> extract_features -> put_content ─┐
                          └──yes────────────────────────────────────────┴─> enrol (one revision)

What a picture is gets stored as soon as it is computed; where it belongs follows
in one transaction. So a run that is killed repeats no computation and leaves no
half of a revision.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pagesight_server.common.errors import (
    ImageError,
    InvalidRequestError,
    LimitError,
    PurgedError,
    RequestError,
    SetupError,
)
from pagesight_server.gallery import Applied, Change, Content, Entry, Gallery
from pagesight_server.gallery.folder import read_folder
from pagesight_server.gallery.labels_file import read_labels
from pagesight_server.gallery.snapshot import Bundles, check_label, check_source
from pagesight_server.inference.decode import read_file
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.thumbnails import shrink
from pagesight_server.workflows.pipeline import Features

LABELS_FILE = "labels.toml"
THUMBNAIL_SIDE_PX = 640
"""Long side of a kept thumbnail: page and buttons can be told, small text cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Holds a picture to enrol, and the label it is given."""

    data: bytes
    label: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enroller:
    """Enrols pictures; safe to call from many tasks at once."""

    store: Gallery
    bundles: Bundles
    extract_features: Callable[[bytes], Awaitable[Features]]
    keep_images: Literal["original", "thumbnail", "none"] = "original"
    """What is kept of the bytes, for reports and, the original alone, for another encoder."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    """What decoding a picture may cost when its thumbnail is made."""

    async def enrol(
        self,
        change: Change,
        items: Sequence[Item],
        *,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Applied:
        """Enrols pictures as one revision; those that cannot be used are told in their outcome.

        Args:
            change: What every change carries.
            items: The pictures.
            progress: Called with how many of how many are seen and read, from 0 on.

        Raises:
            RequestError: the change as a whole cannot be made.
        """
        answered = await asyncio.to_thread(self.store.answered, change, "enrol")
        if answered is not None:
            return answered
        ids = [hashlib.sha256(item.data).hexdigest() for item in items]
        await asyncio.to_thread(self.store.check_full, change.gallery, ids)
        entries = []
        progress(0, len(items))
        for item in items:
            entries.append(await self.prepare(item))
            progress(len(entries), len(items))
        try:
            return await asyncio.to_thread(self.store.enrol, change, entries, self.bundles)
        except LimitError:
            # Whoever tries again and again must not fill the disk with what no gallery takes.
            await asyncio.to_thread(self.store.drop_unused, ids)
            raise

    async def prepare(self, item: Item) -> Entry:
        """Stores what a picture is, unless the store has it already."""
        image_id = hashlib.sha256(item.data).hexdigest()
        try:
            label, source = check_label(item.label), check_source(item.source)
            if not await asyncio.to_thread(self.store.has_content, image_id, self.bundles):
                content = await self._content(image_id, item.data)
                await asyncio.to_thread(self.store.put_content, content, self.bundles)
        except (ImageError, InvalidRequestError, PurgedError) as error:
            return Entry(image_id=image_id, label=item.label, source=item.source, error=error)
        return Entry(image_id=image_id, label=label, source=source)

    async def _content(self, image_id: str, data: bytes) -> Content:
        features = await self.extract_features(data)
        if features.reading is None:
            raise AssertionError("gallery pictures are always read")
        kept: bytes | None = data
        if self.keep_images == "thumbnail":
            kept = await asyncio.to_thread(shrink, data, THUMBNAIL_SIDE_PX, self.limits)
        elif self.keep_images == "none":
            kept = None
        return Content(
            image_id=image_id,
            width_px=features.width_px,
            height_px=features.height_px,
            data=kept,
            # A picture that is small already is kept as it came.
            is_thumbnail=kept != data,
            embedding=features.embedding,
            reading=features.reading,
        )


@dataclass(slots=True)
class IndexReport:
    """Says what became of the pictures of a folder."""

    revision: int = 0
    added: int = 0
    present: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    """Files that could not be used, with the reason."""
    added_ids: dict[str, str] = field(default_factory=dict, compare=False)
    """The file of each image id that was added."""
    left_out: str = ""
    """Files that were not looked at, with how many for which reason, in words."""


async def index_folder(
    enroller: Enroller,
    folder: Path,
    *,
    gallery: str,
    author: str,
    limits: ImageLimits,
    labels: Path | None = None,
    concurrency: int = 2,
    progress: Callable[[], None] = lambda: None,
) -> IndexReport:
    """Enrols `folder/<label>/*`, one revision a label, and what `labels.toml` says.

    Args:
        enroller: Does the work.
        folder: Holds one folder per label; its name is the label.
        gallery: Where to enrol; made when missing.
        author: For the history.
        limits: What a file may cost.
        labels: The labels file; `folder/labels.toml`, if there is one, when None.
        concurrency: Pictures worked on at the same time.
        progress: Called once for each picture that is done.

    Raises:
        SetupError: no pictures, or a mistake in the labels file.
        InvalidRequestError: a folder's name cannot be a label.
    """
    found = read_folder(folder)
    pictures = found.pictures
    revisions = enroller.store.revisions()
    enrolled = set(enroller.store.labels(gallery)[1]) if gallery in revisions else set()
    if labels is None and (folder / LABELS_FILE).is_file():
        labels = folder / LABELS_FILE
    facts = read_labels(labels, enrolled | set(pictures)) if labels is not None else {}

    report = IndexReport(revision=revisions.get(gallery, 0), left_out=found.left_out_in_words)
    places = asyncio.Semaphore(concurrency)

    async def prepare(path: Path, label: str) -> Entry:
        async with places:
            source = f"{label}/{_printable(path.name)}"
            try:
                data = await asyncio.to_thread(read_file, path, limits)
            except ImageError as error:
                entry = Entry(image_id="", label=label, source=source, error=error)
            else:
                entry = await enroller.prepare(Item(data=data, label=label, source=source))
            progress()
            return entry

    for label, paths in pictures.items():
        entries = await asyncio.gather(*(prepare(path, label) for path in paths))
        change = Change(gallery=gallery, author=author)
        applied = await asyncio.to_thread(enroller.store.enrol, change, entries, enroller.bundles)
        report.revision = applied.revision
        for path, outcome in zip(paths, applied.outcomes, strict=True):
            if outcome.error is not None:
                report.skipped.append((f"{label}/{_printable(path.name)}", outcome.error[2]))
            elif outcome.added:
                report.added += 1
                report.added_ids[outcome.image_id] = f"{label}/{_printable(path.name)}"
            else:
                report.present += 1
    if facts:
        change = Change(gallery=gallery, author=author)
        try:
            report.revision = enroller.store.set_facts(change, facts).revision
        except RequestError as error:
            # A label of the file whose every picture turned out to be unusable.
            raise SetupError(f"{labels}: {error}") from None
    return report


def _printable(name: str) -> str:
    """A file name as UTF-8 can say it: on Linux it may be any bytes, such as GBK."""
    return os.fsencode(name).decode("utf-8", "replace")
