"""Those that are held to the contract of galleries: the fake server, and the real one."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from pagesight.v1 import (
    classifier_pb2,
    classifier_pb2_grpc,
    errors_pb2,
    gallery_pb2_grpc,
    review_pb2_grpc,
)
from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.config_sections import ReviewConfig
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.pictures import shade, solid
from tests.support.serving import details, serving, status_of

MOVED = ("ABORTED", "REVISION_MOVED")
GONE = ("NOT_FOUND", "NOT_FOUND")
INVALID = ("INVALID_ARGUMENT", "REQUEST_INVALID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """One of those that are held to the contract."""

    gallery: Any
    classifier: Any
    review: Any
    kept: Callable[[], Awaitable[None]]
    """Returns once the answers so far are kept for review."""
    fake: bool

    def picture(self, number: int) -> bytes:
        """A picture unlike those of other numbers."""
        return f"page {number}".encode() if self.fake else solid(shade(1 + 40 * number))

    def image_id(self, number: int) -> str:
        """The id of a picture."""
        return hashlib.sha256(self.picture(number)).hexdigest()

    async def enrol(self, *items: tuple[int, str], source: str = "", **change: Any) -> Any:
        """The result of enrolling (picture, label)."""
        return (await self.enrolling(*items, source=source, **change))[-1].result

    async def enrolling(
        self, *items: tuple[int, str], source: str = "", **change: Any
    ) -> list[pb.EnrolResponse]:
        """All that an enrolment answers."""
        messages = [pb.EnrolRequest(header=pb.Change(**change))]
        messages += [
            pb.EnrolRequest(
                item=pb.EnrolItem(image=self.picture(number), label=label, source=source)
            )
            for number, label in items
        ]
        return [reply async for reply in self.gallery.Enrol(iter(messages), timeout=WAIT_S)]

    async def labels(self, gallery: str = "") -> dict[str, pb.Label]:
        """What is known of each label."""
        known = await self.gallery.GetLabels(pb.GetLabelsRequest(gallery=gallery), timeout=WAIT_S)
        return {row.label: row for row in known.labels}

    async def set_labels(
        self, *labels: pb.Label, mask: Iterable[str] | None = None, **change: Any
    ) -> int:
        """The revision after labels are set."""
        request = pb.SetLabelsRequest(change=pb.Change(**change), labels=labels)
        if mask is not None:
            request.update_mask.CopyFrom(FieldMask(paths=mask))
        answer = await self.gallery.SetLabels(request, timeout=WAIT_S)
        revision: int = answer.revision
        return revision

    async def remove(self, *numbers: int, **change: Any) -> pb.RemoveResponse:
        """Takes pictures out."""
        ids = map(self.image_id, numbers)
        request = pb.RemoveRequest(change=pb.Change(**change), image_ids=ids)
        answer: pb.RemoveResponse = await self.gallery.Remove(request, timeout=WAIT_S)
        return answer

    async def rollback(self, to: int | None, **change: Any) -> pb.RollbackResponse:
        """Goes back to a revision."""
        request = pb.RollbackRequest(change=pb.Change(**change), to_revision=to)
        answer: pb.RollbackResponse = await self.gallery.Rollback(request, timeout=WAIT_S)
        return answer

    async def delete(self, name: str, **change: Any) -> pb.DeleteGalleryResponse:
        """Deletes a gallery."""
        request = pb.DeleteGalleryRequest(change=pb.Change(gallery=name, **change))
        answer: pb.DeleteGalleryResponse = await self.gallery.DeleteGallery(request, timeout=WAIT_S)
        return answer

    async def galleries(self, page_size: int = 0) -> list[pb.Gallery]:
        """All galleries, page after page."""
        found: list[pb.Gallery] = []
        token = ""
        while True:
            request = pb.ListGalleriesRequest(page_size=page_size, page_token=token)
            page = await self.gallery.ListGalleries(request, timeout=WAIT_S)
            found += page.galleries
            token = page.next_page_token
            if not token:
                return found

    async def show(self, name: str = "") -> pb.Gallery:
        """One gallery."""
        request = pb.GetGalleryRequest(gallery=name)
        answer: pb.GetGalleryResponse = await self.gallery.GetGallery(request, timeout=WAIT_S)
        return answer.gallery

    async def history(self, name: str = "") -> list[pb.Revision]:
        """The newest changes."""
        request = pb.ListHistoryRequest(gallery=name, page_size=100)
        return list((await self.gallery.ListHistory(request, timeout=WAIT_S)).revisions)

    async def images(self, **request: Any) -> list[tuple[str, str]]:
        """Label and id of each image."""
        asked = pb.ListImagesRequest(page_size=100, **request)
        listed = await self.gallery.ListImages(asked, timeout=WAIT_S)
        return [(image.label, image.image_id) for image in listed.images]

    async def classify(self, image: bytes, **query: Any) -> classifier_pb2.Classification:
        """What a picture shows, with all that can be told of it."""
        options = classifier_pb2.Options(top_k=10, explain=True)
        request = classifier_pb2.ClassifyRequest(
            query=classifier_pb2.Query(image=image, options=options, **query)
        )
        answer = await self.classifier.Classify(request, timeout=2 * WAIT_S)
        found: classifier_pb2.Classification = answer.classification
        return found


@asynccontextmanager
async def faked(_: Path) -> AsyncIterator[Party]:
    """The fake."""
    with FakeServer() as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Party(
                gallery=gallery_pb2_grpc.GalleryServiceStub(channel),
                classifier=classifier_pb2_grpc.ClassifierServiceStub(channel),
                review=review_pb2_grpc.ReviewServiceStub(channel),
                kept=_at_once,
                fake=True,
            )


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Party]:
    """The real server."""
    # Every answer is kept, as the fake does it.
    async with serving(folder, review=ReviewConfig(keep=100, random_share=1.0)) as made:
        yield Party(
            gallery=made.gallery,
            classifier=made.classifier,
            review=made.reviews,
            kept=made.keeper.flush,
            fake=False,
        )


async def _at_once() -> None:
    """The fake keeps answers before it gives them."""


async def fails(call: Any) -> tuple[str, str]:
    """Code and reason of a call that must fail; the reason is one that the contract names."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    reason = details(status_of(error.value))[0]
    assert f"ERROR_REASON_{reason}" in errors_pb2.ErrorReason.keys()  # noqa: SIM118 - no dict
    return error.value.code().name, reason
