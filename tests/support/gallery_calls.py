"""Calls of GalleryService as they stand on the wire, and the refusals of a real server."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as pb
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving import Serving, details, status_of


def id_of(data: bytes) -> str:
    """The id of a picture."""
    return hashlib.sha256(data).hexdigest()


RED_ID, GREEN_ID, BLUE_ID = (id_of(solid(colour)) for colour in (RED, GREEN, BLUE))


def header(**change: Any) -> pb.EnrolRequest:
    """The first message of an enrolment."""
    return pb.EnrolRequest(header=pb.Change(**change))


def item(data: bytes, label: str, source: str = "") -> pb.EnrolRequest:
    """A picture of an enrolment."""
    return pb.EnrolRequest(item=pb.EnrolItem(image=data, label=label, source=source))


async def fails(call: Any) -> tuple[str, str, str]:
    """Code, reason and message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    status = status_of(error.value)
    assert status.code == error.value.code().value[0]
    return error.value.code().name, details(status)[0], status.message


async def pages(served: Serving, **request: Any) -> AsyncIterator[pb.ListImagesResponse]:
    """The pages of a listing of images, one after the other."""
    token = ""
    while True:
        page = await served.gallery.ListImages(
            pb.ListImagesRequest(page_token=token, **request), timeout=WAIT_S
        )
        yield page
        token = page.next_page_token
        if not token:
            return


def remove(served: Serving, *ids: str, **change: Any) -> Any:
    """Begins to remove pictures."""
    request = pb.RemoveRequest(change=pb.Change(**change), image_ids=ids)
    return served.gallery.Remove(request, timeout=WAIT_S)


def relabel(served: Serving, label: str, *ids: str, **change: Any) -> Any:
    """Begins to give pictures another label."""
    request = pb.RelabelRequest(change=pb.Change(**change), label=label, image_ids=ids)
    return served.gallery.Relabel(request, timeout=WAIT_S)


def rollback(served: Serving, to: int, **change: Any) -> Any:
    """Begins to go back to a revision."""
    request = pb.RollbackRequest(change=pb.Change(**change), to_revision=to)
    return served.gallery.Rollback(request, timeout=WAIT_S)
