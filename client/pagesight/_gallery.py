"""The gallery calls of the client for callers with threads.

    enrol, remove, relabel, rollback, set_labels, delete_gallery    each makes one revision
    list_galleries, get_gallery, list_images, history, get_labels, get_image    read
    diagnose, suggest_brands                        what a person should look at
    settle_findings, unsettle_findings              what a person found to be well

`_aio_gallery` is the same for event loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Unpack

from pagesight import _curation_replies, _replies, _requests
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
from pagesight._connection import Connection
from pagesight._curation import (
    Diagnosis,
    GalleryFinding,
    LabelSuggestions,
    SettleResult,
)
from pagesight._inputs import ChangeOptions, EnrolItem
from pagesight._listings import GalleryInfo, ImageInfo, LabelInfo, Labels, RevisionInfo
from pagesight._upload import upload
from pagesight.v1 import gallery_pb2 as messages


class GalleryCalls(Connection):
    """Reads and changes what is known."""

    def enrol(
        self,
        items: Iterable[EnrolItem],
        *,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        **change: Unpack[ChangeOptions],
    ) -> EnrolResult:
        """Teaches pages: adds labelled screenshots to a gallery, as one revision.

        A call that a server could not take is repeated, for `retry_for_s` of the client, if
        `items` is a list, a tuple or another sequence: under its request_id it is made once. What
        a generator gave is gone, so that such a call fails at the first attempt.

        Args:
            items: The screenshots, read in a thread of its own as the server takes
                them. A picture that cannot be used is reported in its outcome and keeps
                no other from being enrolled; an exception of the iterable enrols none.
            timeout_s: Longest wait for the whole, in seconds. None: as long as it
                takes, since the text of every picture is read.
            progress: Called a few times a second, once the server has all pictures, with
                how many of them it has seen and read.
            **change: gallery, author, request_id, expected_revision.

        Raises:
            AbortedError: The gallery is not at `expected_revision`.
            ResourceExhaustedError: More pictures than a call or a gallery may hold.
            OverloadedError: The server has no room; see `retry_after_s`.
        """
        made = _requests.change(change)
        longest_s = math.inf if timeout_s is None else timeout_s

        def attempt(left_s: float) -> EnrolResult:
            return self._enrol(items, _requests.Upload(made), left_s, progress)

        once = not isinstance(items, Sequence)
        return self._repeated(attempt, longest_s, once=once)

    def _enrol(
        self,
        items: Iterable[EnrolItem],
        sending: _requests.Upload,
        timeout_s: float,
        progress: Callable[[Progress], None] | None,
    ) -> EnrolResult:
        def sent() -> Iterator[messages.EnrolRequest]:
            yield sending.header
            for item in items:
                if (message := sending.message(item)) is not None:
                    yield message

        result = upload(self._endpoint, self._gallery.Enrol, sent(), timeout_s, progress)
        return sending.result(result)

    def remove(self, image_ids: Iterable[str], **change: Unpack[ChangeOptions]) -> RemoveResult:
        """Takes images out of a gallery; an id that is not in it changes nothing at all.

        Raises:
            NotFoundError: One of the ids is not in the gallery.
        """
        request = _requests.remove(image_ids, change)
        return self._call(self._gallery.Remove, request, _replies.removed)

    def relabel(
        self, image_ids: Iterable[str], label: str, **change: Unpack[ChangeOptions]
    ) -> RelabelResult:
        """Gives images another label; an id that is not in the gallery changes nothing.

        Raises:
            NotFoundError: One of the ids is not in the gallery.
        """
        request = _requests.relabel(image_ids, label, change)
        return self._call(self._gallery.Relabel, request, _replies.relabelled)

    def rollback(self, to_revision: int, **change: Unpack[ChangeOptions]) -> RollbackResult:
        """Makes a new revision with the images and labels of an earlier one.

        Args:
            to_revision: 0 is the empty gallery before the first change.
            **change: gallery, author, request_id, expected_revision.

        Raises:
            NotFoundError: There is no such revision.
        """
        request = _requests.rollback(to_revision, change)
        return self._call(self._gallery.Rollback, request, _replies.rolled_back)

    def delete_gallery(
        self,
        gallery: str,
        *,
        author: str = "",
        request_id: str = "",
        expected_revision: int | None = None,
    ) -> DeleteResult:
        """Deletes a gallery: nothing of it is found any more until it is enrolled anew.

        Its history stays, and enrolling under its name goes on from its last revision: whoever
        deleted it by mistake enrols one picture and rolls back. Pictures that no other gallery
        holds stay in the store as removed ones do.

        Args:
            gallery: Its name; none is meant by default.
            author: Who makes the change, for the history.
            request_id: A change repeated under the same id is made once. Empty: a fresh id.
            expected_revision: Fail with `AbortedError` unless the gallery is at it. None: whatever
                it is at.

        Raises:
            NotFoundError: There is no such gallery.
        """
        change = ChangeOptions(
            author=author, request_id=request_id, expected_revision=expected_revision
        )
        request = _requests.delete_gallery(gallery, change)
        return self._call(self._gallery.DeleteGallery, request, _replies.deleted)

    def list_galleries(self, *, page_size: int = 0) -> Iterator[GalleryInfo]:
        """Yields the galleries of the server by name, fetching page after page.

        Args:
            page_size: Galleries fetched at a time. 0: the server's choice.
        """
        request = messages.ListGalleriesRequest(page_size=page_size)
        while True:
            page = self._call(self._gallery.ListGalleries, request, _replies.as_it_is)
            yield from map(_replies.gallery_info, page.galleries)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def get_gallery(self, *, gallery: str = "") -> GalleryInfo:
        """Shows one gallery: how large it is, what made it, where `other` begins.

        Raises:
            NotFoundError: There is no such gallery.
        """
        request = messages.GetGalleryRequest(gallery=gallery)
        return self._call(self._gallery.GetGallery, request, _replies.gallery_shown)

    def set_labels(
        self,
        labels: Iterable[LabelInfo],
        *,
        fields: Iterable[LabelField] | None = None,
        **change: Unpack[ChangeOptions],
    ) -> SetLabelsResult:
        """Sets what is known of these labels; others stay as they are.

        Args:
            labels: What to set.
            fields: Which of `brands` and `outputs` to set, of every label; one that is empty is
                cleared. None: of each label, those that are not empty.
            **change: gallery, author, request_id, expected_revision.

        Raises:
            NotFoundError: The gallery lacks one of the labels; nothing is changed.
        """
        request = _requests.set_labels(labels, fields, change)
        return self._call(self._gallery.SetLabels, request, _replies.labels_set)

    def get_labels(self, *, gallery: str = "") -> Labels:
        """Reads what the operator knows of every label."""
        request = messages.GetLabelsRequest(gallery=gallery)
        return self._call(self._gallery.GetLabels, request, _replies.labels)

    def list_images(
        self, *, gallery: str = "", label: str = "", page_size: int = 0
    ) -> Iterator[ImageInfo]:
        """Yields the images of a gallery by label and id, fetching page after page.

        Args:
            gallery: Empty: "default".
            label: Only images of this label. Empty: all.
            page_size: Images fetched at a time. 0: the server's choice.
        """
        request = messages.ListImagesRequest(gallery=gallery, label=label, page_size=page_size)
        while True:
            page = self._call(self._gallery.ListImages, request, _replies.as_it_is)
            yield from map(_replies.image, page.images)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def history(self, *, gallery: str = "", page_size: int = 0) -> Iterator[RevisionInfo]:
        """Yields the changes of a gallery, newest first, fetching page after page.

        Args:
            gallery: Empty: "default".
            page_size: Revisions fetched at a time. 0: the server's choice.
        """
        request = messages.ListHistoryRequest(gallery=gallery, page_size=page_size)
        while True:
            page = self._call(self._gallery.ListHistory, request, _replies.as_it_is)
            yield from map(_replies.revision, page.revisions)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def diagnose(
        self,
        *,
        gallery: str = "",
        max_images: int = 0,
        progress: Callable[[Progress], None] | None = None,
    ) -> Diagnosis:
        """Looks for what may be wrong with a gallery, and changes nothing.

        Args:
            gallery: Empty: "default".
            max_images: Pictures to examine, drawn at random from a larger gallery. 0: 2000,
                which is the most.
            progress: Called a few times a second with how many pictures are examined.
        """
        request = messages.DiagnoseRequest(gallery=gallery, max_images=max_images)
        return self._call_with_progress(
            self._gallery.Diagnose, request, _curation_replies.diagnosis, progress
        )

    def settle_findings(
        self,
        findings: Iterable[GalleryFinding],
        *,
        gallery: str = "",
        author: str = "",
        note: str = "",
    ) -> SettleResult:
        """Notes that a person looked at findings of `diagnose` and that all is well.

        It is kept with the gallery for everybody, and makes no revision. A finding stays settled
        until the pictures or labels that it is about change: then it is another one, with another
        key. A rollback keeps it; deleting the gallery or purging one of the pictures forgets it.

        Args:
            findings: As `diagnose` told them.
            gallery: Empty: "default".
            author: Who settles them.
            note: Why, for whoever asks later; at most 1024 characters.

        Raises:
            NotFoundError: The gallery lacks a picture or label of one; nothing is noted.
        """
        request = _requests.settle_findings(findings, gallery, author, note)
        return self._call(self._gallery.SettleFindings, request, _curation_replies.settled)

    def unsettle_findings(self, keys: Iterable[str], *, gallery: str = "") -> SettleResult:
        """Takes back what `settle_findings` noted; a key that is not settled is no error.

        Args:
            keys: Of the findings.
            gallery: Empty: "default".
        """
        request = _requests.unsettle_findings(keys, gallery)
        return self._call(self._gallery.UnsettleFindings, request, _curation_replies.settled)

    def suggest_brands(
        self, *, gallery: str = "", progress: Callable[[Progress], None] | None = None
    ) -> tuple[LabelSuggestions, ...]:
        """Proposes brands for every label; `set_labels` sets those that a person confirms.

        Args:
            gallery: Empty: "default".
            progress: Called a few times a second with in how many apps brands were looked for.
        """
        request = messages.SuggestBrandsRequest(gallery=gallery)
        return self._call_with_progress(
            self._gallery.SuggestBrands, request, _curation_replies.suggestions, progress
        )

    def get_image(self, image_id: str, *, gallery: str = "", max_side_px: int = 0) -> bytes:
        """Reads a picture back: the bytes as received, or a smaller JPEG of them.

        Args:
            image_id: SHA-256 of its bytes, in hexadecimal.
            gallery: Empty: "default".
            max_side_px: Longest side wanted, in pixels. 0: as received.

        Raises:
            NotFoundError: The gallery lacks it, or the server keeps no pictures.
        """
        request = messages.GetImageRequest(
            gallery=gallery, image_id=image_id, max_side_px=max_side_px
        )
        return self._call(self._gallery.GetImage, request, _replies.picture)
