"""The gallery calls of the client for event loops; see `_gallery` for what each does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Sequence,
)
from typing import Unpack

from pagesight import _curation_replies, _replies, _requests
from pagesight._aio_stream import as_async
from pagesight._changes import (
    DeleteResult,
    EnrolResult,
    LabelField,
    Progress,
    RelabelResult,
    RemoveResult,
    RollbackResult,
    SetLabelsResult,
)
from pagesight._connection import AsyncConnection
from pagesight._curation import (
    Diagnosis,
    GalleryFinding,
    LabelSuggestions,
    SettleResult,
)
from pagesight._inputs import ChangeOptions, EnrolItem
from pagesight._listings import GalleryInfo, ImageInfo, LabelInfo, Labels, RevisionInfo
from pagesight._upload import upload_async
from pagesight.v1 import gallery_pb2 as messages


class AsyncGalleryCalls(AsyncConnection):
    """Reads and changes what is known."""

    async def enrol(
        self,
        items: Iterable[EnrolItem] | AsyncIterable[EnrolItem],
        *,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        **change: Unpack[ChangeOptions],
    ) -> EnrolResult:
        """Teaches pages, as `Client.enrol` does.

        Items may come from an async iterable. A plain one is read on the event loop, the files
        that it names in a thread.
        """
        made = _requests.change(change)
        longest_s = math.inf if timeout_s is None else timeout_s

        async def attempt(left_s: float) -> EnrolResult:
            return await self._enrol(items, _requests.Upload(made), left_s, progress)

        once = not isinstance(items, Sequence)
        return await self._repeated(attempt, longest_s, once=once)

    async def _enrol(
        self,
        items: Iterable[EnrolItem] | AsyncIterable[EnrolItem],
        sending: _requests.Upload,
        timeout_s: float,
        progress: Callable[[Progress], None] | None,
    ) -> EnrolResult:
        async def sent() -> AsyncIterator[messages.EnrolRequest]:
            yield sending.header
            async for item in as_async(items):
                message = await asyncio.to_thread(sending.message, item)
                if message is not None:
                    yield message

        result = await upload_async(
            self._endpoint, self._gallery.Enrol, sent(), timeout_s, progress
        )
        return sending.result(result)

    async def remove(
        self, image_ids: Iterable[str], **change: Unpack[ChangeOptions]
    ) -> RemoveResult:
        """Takes images out of a gallery; an id that is not in it changes nothing at all."""
        request = _requests.remove(image_ids, change)
        return await self._call(self._gallery.Remove, request, _replies.removed)

    async def relabel(
        self, image_ids: Iterable[str], label: str, **change: Unpack[ChangeOptions]
    ) -> RelabelResult:
        """Gives images another label; an id that is not in the gallery changes nothing."""
        request = _requests.relabel(image_ids, label, change)
        return await self._call(self._gallery.Relabel, request, _replies.relabelled)

    async def rollback(self, to_revision: int, **change: Unpack[ChangeOptions]) -> RollbackResult:
        """Makes a new revision with the images and labels of an earlier one."""
        request = _requests.rollback(to_revision, change)
        return await self._call(self._gallery.Rollback, request, _replies.rolled_back)

    async def delete_gallery(
        self,
        gallery: str,
        *,
        author: str = "",
        request_id: str = "",
        expected_revision: int | None = None,
    ) -> DeleteResult:
        """Deletes a gallery: nothing of it is found any more until it is enrolled anew."""
        change = ChangeOptions(
            author=author, request_id=request_id, expected_revision=expected_revision
        )
        request = _requests.delete_gallery(gallery, change)
        return await self._call(self._gallery.DeleteGallery, request, _replies.deleted)

    async def list_galleries(self, *, page_size: int = 0) -> AsyncGenerator[GalleryInfo, None]:
        """Yields the galleries of the server by name, fetching page after page."""
        request = messages.ListGalleriesRequest(page_size=page_size)
        while True:
            page = await self._call(self._gallery.ListGalleries, request, _replies.as_it_is)
            for message in page.galleries:
                yield _replies.gallery_info(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_gallery(self, *, gallery: str = "") -> GalleryInfo:
        """Shows one gallery: how large it is, what made it, where `other` begins."""
        request = messages.GetGalleryRequest(gallery=gallery)
        return await self._call(self._gallery.GetGallery, request, _replies.gallery_shown)

    async def set_labels(
        self,
        labels: Iterable[LabelInfo],
        *,
        fields: Iterable[LabelField] | None = None,
        **change: Unpack[ChangeOptions],
    ) -> SetLabelsResult:
        """Sets what is known of these labels, as `Client.set_labels` does."""
        request = _requests.set_labels(labels, fields, change)
        return await self._call(self._gallery.SetLabels, request, _replies.labels_set)

    async def get_labels(self, *, gallery: str = "") -> Labels:
        """Reads what the operator knows of every label."""
        request = messages.GetLabelsRequest(gallery=gallery)
        return await self._call(self._gallery.GetLabels, request, _replies.labels)

    async def list_images(
        self, *, gallery: str = "", label: str = "", page_size: int = 0
    ) -> AsyncGenerator[ImageInfo, None]:
        """Yields the images of a gallery by label and id, fetching page after page."""
        request = messages.ListImagesRequest(gallery=gallery, label=label, page_size=page_size)
        while True:
            page = await self._call(self._gallery.ListImages, request, _replies.as_it_is)
            for message in page.images:
                yield _replies.image(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def history(
        self, *, gallery: str = "", page_size: int = 0
    ) -> AsyncGenerator[RevisionInfo, None]:
        """Yields the changes of a gallery, newest first, fetching page after page."""
        request = messages.ListHistoryRequest(gallery=gallery, page_size=page_size)
        while True:
            page = await self._call(self._gallery.ListHistory, request, _replies.as_it_is)
            for message in page.revisions:
                yield _replies.revision(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def diagnose(
        self,
        *,
        gallery: str = "",
        max_images: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Diagnosis:
        """Looks for what may be wrong with a gallery, and changes nothing."""
        request = messages.DiagnoseRequest(gallery=gallery, max_images=max_images)
        return await self._call_with_progress(
            self._gallery.Diagnose, request, _curation_replies.diagnosis, progress
        )

    async def settle_findings(
        self,
        findings: Iterable[GalleryFinding],
        *,
        gallery: str = "",
        author: str = "",
        note: str = "",
    ) -> SettleResult:
        """Notes that findings are well, as `Client.settle_findings` does."""
        request = _requests.settle_findings(findings, gallery, author, note)
        return await self._call(self._gallery.SettleFindings, request, _curation_replies.settled)

    async def unsettle_findings(self, keys: Iterable[str], *, gallery: str = "") -> SettleResult:
        """Takes back what `settle_findings` noted; a key that is not settled is no error."""
        request = _requests.unsettle_findings(keys, gallery)
        return await self._call(self._gallery.UnsettleFindings, request, _curation_replies.settled)

    async def suggest_brands(
        self, *, gallery: str = "", progress: Callable[[Progress], None] | None = None
    ) -> tuple[LabelSuggestions, ...]:
        """Proposes brands for every label; `set_labels` sets those that a person confirms."""
        request = messages.SuggestBrandsRequest(gallery=gallery)
        return await self._call_with_progress(
            self._gallery.SuggestBrands, request, _curation_replies.suggestions, progress
        )

    async def get_image(self, image_id: str, *, gallery: str = "", max_side_px: int = 0) -> bytes:
        """Reads a picture back: the bytes as received, or a smaller JPEG of them."""
        request = messages.GetImageRequest(
            gallery=gallery, image_id=image_id, max_side_px=max_side_px
        )
        return await self._call(self._gallery.GetImage, request, _replies.picture)
