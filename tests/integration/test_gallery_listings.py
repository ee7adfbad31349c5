"""Images and history of a gallery, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.service.paging import page_token
from tests.support.gallery_calls import BLUE_ID, RED_ID, fails, header, id_of, item, pages
from tests.support.pictures import BLUE, GREEN, RED, shade, solid
from tests.support.serving import Serving, serving


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


async def test_images_are_listed_page_by_page_at_one_revision(served: Serving) -> None:
    served.models.texts[shade(1)] = ("额度", "首页")
    pictures = {id_of(solid(shade(i))): "ab"[i % 2] for i in range(1, 6)}
    messages = [item(solid(shade(i)), "ab"[i % 2], source=f"{i}.png") for i in range(1, 6)]
    await served.send([header(author="mei"), *messages])
    listed: list[pb.Image] = []
    async for page in pages(served, page_size=2):
        assert page.revision == 1
        assert len(page.images) <= 2
        listed += page.images
        # What changes in the midst belongs to another revision.
        await served.enrol((f"new{len(listed)}", solid(shade(100 + len(listed)))))
    assert [(image.label, image.image_id) for image in listed] == sorted(
        (label, image_id) for image_id, label in pictures.items()
    )
    first = next(image for image in listed if image.image_id == id_of(solid(shade(1))))
    assert (first.source, first.author, first.added_revision) == ("1.png", "mei", 1)
    assert (first.width_px, first.height_px, first.text_lines) == (24, 32, 2)
    assert first.added_at.seconds > 0


async def test_images_of_one_label_are_listed(served: Serving) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)), ("a", solid(BLUE)))
    listed = [
        image.image_id
        async for page in pages(served, label="a", page_size=1)
        for image in page.images
    ]
    assert listed == sorted([RED_ID, BLUE_ID])
    assert [len(page.images) async for page in pages(served, label="none")] == [0]


async def test_a_full_last_page_has_no_next(served: Serving) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
    assert [len(page.images) async for page in pages(served, page_size=2)] == [2]


async def test_the_history_is_listed_newest_first_page_by_page(served: Serving) -> None:
    for i in range(1, 6):
        await served.enrol((f"l{i}", solid(shade(i))), author=f"author {i}")
    made: list[pb.Revision] = []
    token = ""
    while True:
        page = await served.gallery.ListHistory(
            pb.ListHistoryRequest(page_size=2, page_token=token)
        )
        made += page.revisions
        token = page.next_page_token
        if not token:
            break
    assert [revision.revision for revision in made] == [5, 4, 3, 2, 1]
    newest = made[0]
    assert (newest.author, newest.images) == ("author 5", 5)
    assert newest.kind == pb.REVISION_KIND_ENROL
    assert newest.summary == "enrolled 1 of l5"


BAD_TOKENS = [
    "no token",
    "页",
    page_token("a", 1),
    page_token(1, "a", "no hexadecimal"),
    page_token(2**70, "a", "00"),
    page_token(1, "\ud800", "00" * 32),
    page_token(2**70),
]


@pytest.mark.parametrize("token", BAD_TOKENS)
async def test_a_token_that_was_not_given_out_is_refused(served: Serving, token: str) -> None:
    await served.enrol(("a", solid(RED)))
    for call in (
        served.gallery.ListImages(pb.ListImagesRequest(page_token=token)),
        served.gallery.ListHistory(pb.ListHistoryRequest(page_token=token)),
    ):
        assert (await fails(call))[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")


async def test_a_negative_page_size_is_refused(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    for call in (
        served.gallery.ListImages(pb.ListImagesRequest(page_size=-1)),
        served.gallery.ListHistory(pb.ListHistoryRequest(page_size=-1)),
    ):
        assert (await fails(call))[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")
