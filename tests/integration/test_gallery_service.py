"""GalleryService over real sockets: changes, what is refused, and that queries see them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Change, Entry, Gallery
from tests.support import WAIT_S
from tests.support.gallery_calls import (
    BLUE_ID,
    RED_ID,
    fails,
    header,
    item,
    relabel,
    remove,
    rollback,
)
from tests.support.parts import OTHER_BUNDLES
from tests.support.pictures import BLUE, GREEN, RED, shade, solid
from tests.support.serving import Serving, details, serving
from tests.support.stores import put, sqlite


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


async def test_an_enrolled_page_is_found_by_the_next_query(served: Serving) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await served.classify(solid(RED))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    for revision, (label, colour) in enumerate([("a", RED), ("b", GREEN), ("c", BLUE)], start=1):
        applied = await served.enrol((label, solid(colour)), author="mei")
        assert applied.revision == revision
        found = await served.classify(solid(colour))
        assert (found.label, found.revision) == (label, revision)


async def test_each_item_has_its_outcome(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    applied = await served.enrol(
        ("a", solid(RED)),
        ("b", solid(RED)),
        ("b", solid(GREEN)),
        ("b", b"no picture"),
        ("a/b", solid(BLUE)),
        ("other_ads", solid(BLUE)),
    )
    assert applied.revision == 2
    assert [outcome.added for outcome in applied.outcomes] == [
        False,
        False,
        True,
        False,
        False,
        True,
    ]
    codes = [grpc.StatusCode.ALREADY_EXISTS.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert [outcome.error.code for outcome in applied.outcomes] == [
        0,
        codes[0],
        0,
        codes[1],
        codes[1],
        0,
    ]
    assert [details(outcome.error)[0] for outcome in applied.outcomes] == [
        "",
        "OTHER_LABEL",
        "",
        "IMAGE_UNUSABLE",
        "REQUEST_INVALID",
        "",
    ]
    assert applied.outcomes[0].image_id == RED_ID
    # Examples of unknown pages are in the gallery, and are no answer.
    assert (await served.classify(solid(BLUE))).label == "other"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="nothing"),
        pytest.param([item(solid(RED), "a")], id="an item first"),
        pytest.param([header(), header()], id="two headers"),
        pytest.param([header(), item(solid(RED), "a"), header()], id="a header last"),
        pytest.param([pb.EnrolRequest()], id="neither"),
        pytest.param([header(), pb.EnrolRequest()], id="neither, later"),
        pytest.param([header(expected_revision=-1)], id="a negative revision"),
        pytest.param([header(gallery="a/b"), item(solid(RED), "a")], id="no gallery name"),
    ],
)
async def test_a_mistake_in_the_call_enrols_nothing(
    served: Serving, messages: list[pb.EnrolRequest]
) -> None:
    code, reason, _ = await fails(served.send(messages))
    assert (code, reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    assert served.store.revisions() == {}


async def test_a_call_enrols_so_many_pictures_and_no_more(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_enrol_items=2, max_enrol_bytes=10_000)
    async with serving(tmp_path, config=config) as served:
        pictures = [("a", solid(shade(i))) for i in range(3)]
        code, reason, message = await fails(served.enrol(*pictures))
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "LIMIT_REACHED")
        assert "at most 2 pictures and 10,000 bytes: use several calls" in message
        assert (await fails(served.enrol(("a", b"x" * 10_001))))[1] == "LIMIT_REACHED"
        long = [header(), item(solid(RED), "a", source="x" * 10_000)]
        assert (await fails(served.send(long)))[1] == "LIMIT_REACHED"
        assert served.store.revisions() == {}
        assert (await served.enrol(*pictures[:2])).revision == 1


async def test_a_repeated_enrolment_is_told_the_first_answer(served: Serving) -> None:
    pictures = [("a", solid(RED)), ("a", b"no picture")]
    first = await served.enrol(*pictures, request_id="r1")
    encoded = served.models.encoded
    assert await served.enrol(*pictures, request_id="r1") == first
    assert served.models.encoded == encoded
    assert (await fails(remove(served, RED_ID, request_id="r1")))[1] == "REQUEST_INVALID"
    assert served.store.revisions() == {"default": 1}


async def test_a_sender_that_vanishes_enrols_nothing(served: Serving) -> None:
    call = served.gallery.Enrol(timeout=WAIT_S)
    await call.write(header())
    await call.write(item(solid(RED), "a"))
    call.cancel()
    await served.enrol(("b", solid(GREEN)))
    assert served.store.snapshot().labels == ("b",)


async def test_pictures_enrolled_by_many_at_once_are_all_there(served: Serving) -> None:
    await asyncio.gather(*(served.enrol((f"l{i}", solid(shade(i)))) for i in range(1, 11)))
    assert served.store.snapshot().revision == 10
    assert len(served.store.snapshot().labels) == 10


async def test_a_gallery_of_other_bundles_is_neither_asked_nor_changed(
    tmp_path: Path, served: Serving
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    entry = Entry(image_id=put(store, "one", OTHER_BUNDLES), label="a")
    store.enrol(Change(gallery="foreign"), [entry], OTHER_BUNDLES)
    store.close()
    await served.registry.refresh()
    told = ("FAILED_PRECONDITION", "OTHER_BUNDLES")
    assert (await fails(served.enrol(("b", solid(RED)), gallery="foreign")))[:2] == told
    assert (await fails(served.classify(solid(RED), gallery="foreign")))[:2] == told


async def test_a_removed_page_is_no_answer_any_more_and_rolling_back_brings_it_back(
    served: Serving,
) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
    removed = await remove(served, RED_ID)
    assert removed == pb.RemoveResponse(revision=2, removed=1)
    assert (await served.classify(solid(RED))).closest_label == "b"
    back = await rollback(served, 1)
    assert back == pb.RollbackResponse(revision=3, restored=1, removed=0)
    found = await served.classify(solid(RED))
    assert (found.label, found.revision) == ("a", 3)
    assert await rollback(served, 0) == pb.RollbackResponse(revision=4, restored=0, removed=2)
    assert (await served.classify(solid(RED))).label == "other"


async def test_a_relabelled_page_answers_with_its_new_label(served: Serving) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
    assert await relabel(served, "c", RED_ID) == pb.RelabelResponse(revision=2, relabelled=1)
    assert (await served.classify(solid(RED))).label == "c"
    assert await relabel(served, "c", RED_ID) == pb.RelabelResponse(revision=2, relabelled=0)


async def test_labels_have_outputs_from_the_next_query_on(served: Serving) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
    label = pb.Label(label="a", brands=["招商银行"], outputs=["zsyh", "amount"], images=99)
    request = pb.SetLabelsRequest(change=pb.Change(), labels=[label])
    assert await served.gallery.SetLabels(request) == pb.SetLabelsResponse(revision=2)
    assert await served.gallery.SetLabels(request) == pb.SetLabelsResponse(revision=2)
    assert list((await served.classify(solid(RED))).outputs) == ["zsyh", "amount"]
    known = await served.gallery.GetLabels(pb.GetLabelsRequest())
    label.images = 1
    assert known == pb.GetLabelsResponse(revision=2, labels=[label, pb.Label(label="b", images=1)])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda s: remove(s), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: remove(s, "ab"), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: remove(s, RED_ID, BLUE_ID), ("NOT_FOUND", "NOT_FOUND")),
        (lambda s: remove(s, RED_ID, gallery="none"), ("NOT_FOUND", "NOT_FOUND")),
        (lambda s: remove(s, RED_ID, expected_revision=9), ("ABORTED", "REVISION_MOVED")),
        (lambda s: remove(s, RED_ID, author="x" * 300), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: relabel(s, "x"), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: relabel(s, "", RED_ID), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: relabel(s, "页" * 1_000_000, RED_ID), ("INVALID_ARGUMENT", "REQUEST_INVALID")),
        (lambda s: relabel(s, "x", RED_ID, expected_revision=9), ("ABORTED", "REVISION_MOVED")),
        (lambda s: rollback(s, 9), ("NOT_FOUND", "NOT_FOUND")),
        (lambda s: rollback(s, -1), ("NOT_FOUND", "NOT_FOUND")),
        (lambda s: rollback(s, 0, expected_revision=9), ("ABORTED", "REVISION_MOVED")),
        (
            lambda s: s.gallery.SetLabels(pb.SetLabelsRequest(labels=[pb.Label(label="x")])),
            ("NOT_FOUND", "NOT_FOUND"),
        ),
        (
            lambda s: s.gallery.SetLabels(pb.SetLabelsRequest(labels=[pb.Label(label="a")] * 2)),
            ("INVALID_ARGUMENT", "REQUEST_INVALID"),
        ),
        (
            lambda s: s.gallery.GetLabels(pb.GetLabelsRequest(gallery="none")),
            ("NOT_FOUND", "NOT_FOUND"),
        ),
        (
            lambda s: s.gallery.ListImages(pb.ListImagesRequest(gallery="none")),
            ("NOT_FOUND", "NOT_FOUND"),
        ),
        (
            lambda s: s.gallery.ListHistory(pb.ListHistoryRequest(gallery="none")),
            ("NOT_FOUND", "NOT_FOUND"),
        ),
    ],
)
async def test_what_cannot_be_done_is_told_and_changes_nothing(
    served: Serving, call: Any, told: tuple[str, str]
) -> None:
    await served.enrol(("a", solid(RED)))
    assert (await fails(call(served)))[:2] == told
    assert served.store.revisions() == {"default": 1}
    assert (await served.classify(solid(RED))).label == "a"


@pytest.mark.parametrize(
    "call",
    [
        lambda s: remove(s, RED_ID, request_id="r1", expected_revision=1),
        lambda s: relabel(s, "c", RED_ID, request_id="r1", expected_revision=1),
        lambda s: rollback(s, 0, request_id="r1", expected_revision=1),
        lambda s: s.gallery.SetLabels(
            pb.SetLabelsRequest(
                change=pb.Change(request_id="r1", expected_revision=1),
                labels=[pb.Label(label="a", brands=["A"])],
            )
        ),
    ],
)
async def test_a_repeated_change_is_told_the_first_answer(served: Serving, call: Any) -> None:
    await served.enrol(("a", solid(RED)))
    first = await call(served)
    assert first.revision == 2
    assert await call(served) == first
    assert served.store.revisions() == {"default": 2}


async def test_a_full_disk_is_told_and_what_is_known_goes_on_answering(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    database = sqlite(served.store)
    pages_now = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count = {pages_now}")
    many = [(f"l{i}", solid(shade(i), width=200, height=200)) for i in range(1, 200)]
    code, reason, message = await fails(served.enrol(*many))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "STORAGE_FULL")
    assert "unchanged" in message
    found = await served.classify(solid(RED))
    assert (found.label, found.revision) == ("a", 1)
    database.execute("PRAGMA max_page_count = 1000000")
    assert (await served.enrol(("b", solid(GREEN)))).revision == 2
