"""GalleryService over real sockets: every call, what it refuses, and that queries see changes."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

import pagesight
from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.config_sections import ServerConfig
from pagesight_server.curation.diagnostics import diagnose
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service import classifier, convert_curation, galleries
from pagesight_server.service.paging import page_token
from tests.support import WAIT_S
from tests.support.parts import OTHER_BUNDLES
from tests.support.pictures import BLUE, GREEN, RED, shade, solid
from tests.support.serving import Serving, details, result_of, serving, status_of, until
from tests.support.stores import enrol, put, sqlite


def id_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


ONCE = pagesight.RetryPolicy(attempts=1)
RED_ID, GREEN_ID, BLUE_ID = (id_of(solid(colour)) for colour in (RED, GREEN, BLUE))


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


def header(**change: Any) -> pb.EnrolRequest:
    return pb.EnrolRequest(header=pb.Change(**change))


def item(data: bytes, label: str, source: str = "") -> pb.EnrolRequest:
    return pb.EnrolRequest(item=pb.EnrolItem(image=data, label=label, source=source))


async def fails(call: Any) -> tuple[str, str, str]:
    """Code, reason and message of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    status = status_of(error.value)
    assert status.code == error.value.code().value[0]
    return error.value.code().name, details(status)[0], status.message


# --- enrol ------------------------------------------------------------------------------


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


async def test_only_so_many_enrolments_are_at_work_beside_the_screenshots(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_active=2, max_enrolments=2)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(BLUE)))
        pictures = [shade(i) for i in range(1, 13)]
        served.models.hold(*pictures)
        # Six calls of two pictures each.
        calls = [
            asyncio.create_task(
                served.enrol(*((f"l{i}", solid(pictures[i])) for i in (first, first + 1)))
            )
            for first in range(0, 12, 2)
        ]
        await served.models.until_active(2)
        # It is answered after the server had its turn, and does not wait for them.
        assert (await served.classify(solid(BLUE))).label == "a"
        assert served.models.active == 2
        await served.models.release()
        assert {(await call).outcomes[1].added for call in calls} == {True}
        assert served.models.most_active <= 3


async def test_an_enrolment_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_enrolments=1, max_waiting_enrolments=1)
    async with serving(tmp_path, config=config) as served:
        served.models.hold(RED)
        first = asyncio.create_task(served.enrol(("a", solid(RED))))
        await served.models.until_active(1)
        # The client's: gRPC's own Enrol may hide what it was told under an error of a write.
        async with pagesight.AsyncClient(served.address, retry=ONCE) as client:
            others = {
                asyncio.create_task(client.enrol([pagesight.EnrolItem(image=data, label=label)]))
                for label, data in {"b": solid(GREEN), "c": solid(BLUE)}.items()
            }
            (refused,), (waiting,) = await asyncio.wait(others, return_when="FIRST_COMPLETED")
            with pytest.raises(
                pagesight.OverloadedError, match="1 enrolments are waiting"
            ) as error:
                await refused
            assert error.value.retry_after_s is not None
            await served.models.release()
            assert {(await first).revision, (await waiting).revision} == {1, 2}


async def test_an_enrolment_that_falls_silent_loses_its_place(tmp_path: Path) -> None:
    config = ServerConfig(port=0, enrol_silence_seconds=0.05)
    async with serving(tmp_path, config=config) as served:

        async def silent() -> AsyncIterator[pb.EnrolRequest]:
            yield header()
            await asyncio.Event().wait()

        # An iterator: a write of ours could come when the call is over already.
        call = served.gallery.Enrol(silent(), timeout=WAIT_S)
        code, reason, message = await fails(result_of(call))
        assert (code, reason) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")
        assert message.startswith("nothing came for 0.05 s")
        assert served.store.revisions() == {}


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


@pytest.mark.parametrize("asked", ["Diagnose", "SuggestBrands", "GetImage"])
async def test_only_so_many_examinations_are_at_work_and_screenshots_do_not_wait_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    done = threading.Event()
    begun: list[str] = []

    def slowly(true: Callable[..., Any]) -> Callable[..., Any]:
        def work(*arguments: Any, **options: Any) -> Any:
            begun.append(asked)
            assert done.wait(WAIT_S)
            return true(*arguments, **options)

        return work

    monkeypatch.setattr(galleries, "diagnose", slowly(diagnose))
    for name in ("suggestions", "picture"):
        monkeypatch.setattr(convert_curation, name, slowly(getattr(convert_curation, name)))
    config = ServerConfig(port=0, max_examinations=1, max_waiting_examinations=1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))

        def call() -> Any:
            messages: dict[str, Any] = {
                "Diagnose": pb.DiagnoseRequest(),
                "SuggestBrands": pb.SuggestBrandsRequest(),
                "GetImage": pb.GetImageRequest(image_id=RED_ID, max_side_px=8),
            }
            return getattr(served.gallery, asked)(messages[asked], timeout=2 * WAIT_S)

        async def ask() -> Any:
            return await (call() if asked == "GetImage" else result_of(call()))

        first = call()
        await until(lambda: bool(begun))
        others = {asyncio.create_task(ask()), asyncio.create_task(ask())}
        (refused,), (waiting,) = await asyncio.wait(others, return_when="FIRST_COMPLETED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.value.details() == "1 examinations are waiting already: retry later"
        reason, retry_s = details(status_of(error.value))
        assert reason == "OVERLOADED"
        assert retry_s is not None
        # Its place is not free before its thread is.
        first.cancel()
        assert (await served.classify(solid(RED))).label == "a"
        assert len(begun) == 1
        done.set()
        await waiting
        assert len(begun) == 2


# --- remove, relabel, rollback, labels ----------------------------------------------------


def remove(served: Serving, *ids: str, **change: Any) -> Any:
    request = pb.RemoveRequest(change=pb.Change(**change), image_ids=ids)
    return served.gallery.Remove(request, timeout=WAIT_S)


def relabel(served: Serving, label: str, *ids: str, **change: Any) -> Any:
    request = pb.RelabelRequest(change=pb.Change(**change), label=label, image_ids=ids)
    return served.gallery.Relabel(request, timeout=WAIT_S)


def rollback(served: Serving, to: int, **change: Any) -> Any:
    request = pb.RollbackRequest(change=pb.Change(**change), to_revision=to)
    return served.gallery.Rollback(request, timeout=WAIT_S)


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


# --- lists ------------------------------------------------------------------------------


async def pages(served: Serving, **request: Any) -> AsyncIterator[pb.ListImagesResponse]:
    token = ""
    while True:
        page = await served.gallery.ListImages(
            pb.ListImagesRequest(page_token=token, **request), timeout=WAIT_S
        )
        yield page
        token = page.next_page_token
        if not token:
            return


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


async def test_a_change_by_another_process_is_seen_by_the_next_refresh(
    served: Serving, tmp_path: Path
) -> None:
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"})
    other.close()
    await served.enrol(("ours", solid(RED)))
    known = await served.gallery.GetLabels(pb.GetLabelsRequest())
    assert [label.label for label in known.labels] == ["ours", "theirs"]
    assert (await served.classify(solid(RED))).revision == 2


async def test_a_query_waits_for_a_revision_that_another_process_makes(
    served: Serving, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)))
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"})
    # The store has it, this server has not looked: it looks at once.
    found = await served.classify(solid(RED), min_revision=2)
    assert found.revision == 2
    waiting = asyncio.create_task(served.classify(solid(RED), min_revision=3))
    enrol(other, {"two": "theirs"})
    other.close()
    async with asyncio.timeout(WAIT_S):
        while not waiting.done():
            await served.registry.refresh()
    assert (await waiting).revision == 3


async def test_a_query_waits_for_a_gallery_that_another_process_makes(
    served: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Gallery(tmp_path / "gallery.db")
    enrol(other, {"one": "theirs"}, gallery="new")
    other.close()
    assert (await served.classify(solid(RED), gallery="new", min_revision=1)).revision == 1
    code, reason, message = await fails(
        served.classify(solid(RED), gallery="none", min_revision=1, deadline_ms=20)
    )
    assert (code, reason) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")
    assert "'none' is not at revision 1 here yet, within the 20 ms" in message
    monkeypatch.setattr(classifier, "BEHIND_S", 0.02)
    told = await fails(served.classify(solid(RED), gallery="none", min_revision=1))
    assert told[:2] == ("NOT_FOUND", "NOT_FOUND")


async def test_only_so_many_screenshots_wait_for_a_revision(tmp_path: Path) -> None:
    config = ServerConfig(port=0, max_waiting=1)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        both = {
            asyncio.create_task(served.classify(solid(RED), min_revision=2, deadline_ms=60_000))
            for _ in range(2)
        }
        (refused,), (waiting,) = await asyncio.wait(both, return_when="FIRST_COMPLETED")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await refused
        assert details(status_of(error.value))[0] == "OVERLOADED"
        # Whoever waits keeps nobody from a place.
        assert (await served.classify(solid(RED))).label == "a"
        await served.enrol(("b", solid(GREEN)))
        assert (await waiting).revision == 2


async def test_a_gallery_that_another_process_deletes_is_forgotten_by_the_next_refresh(
    served: Serving, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)))
    other = Gallery(tmp_path / "gallery.db")
    other.delete(Change())
    await served.registry.refresh()
    assert (await fails(served.classify(solid(RED))))[:2] == ("NOT_FOUND", "NOT_FOUND")
    enrol(other, {"one": "theirs"})
    other.close()
    await served.registry.refresh()
    assert (await served.classify(solid(RED))).revision == 3


async def test_a_negative_revision_cannot_be_asked_for(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    told = await fails(served.classify(solid(RED), min_revision=-1))
    assert told[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")


# --- care -------------------------------------------------------------------------------


async def test_pictures_that_were_almost_there_are_told_when_they_are_enrolled(
    served: Serving,
) -> None:
    served.models.texts = {RED: ("我的额度",)}
    copy = solid(RED, width=30)
    await served.enrol(("a", solid(RED)), ("b", solid(BLUE)))
    applied = await served.enrol(
        ("b", copy), ("b", solid(GREEN)), ("a", solid(RED)), request_id="once"
    )
    assert [outcome.added for outcome in applied.outcomes] == [True, True, False]
    near, unlike, known = applied.outcomes
    [duplicate] = near.near_duplicates
    assert (duplicate.image_id, duplicate.label) == (RED_ID, "a")
    assert duplicate.visual > 0.99
    assert not unlike.near_duplicates
    assert not known.near_duplicates
    again = await served.enrol(("b", copy), request_id="once")
    assert again == applied


async def test_a_wrong_label_is_found_with_the_pictures_that_speak_against_it(
    served: Serving,
) -> None:
    reds = [solid(RED, width=width) for width in (24, 25, 26)]
    greens = [solid(GREEN, width=width) for width in (24, 25, 26)]
    served.models.texts = {RED: ("loan", "limit"), GREEN: ("alarm", "clock")}
    pictures = [("red", data) for data in reds] + [("green", data) for data in greens]
    wrong = solid(GREEN, width=27)
    await served.enrol(*pictures, ("red", wrong))
    found = await result_of(served.gallery.Diagnose(pb.DiagnoseRequest()))
    assert (found.revision, found.images, found.examined) == (1, 7, 7)
    first = found.suspects[0]
    assert (first.image_id, first.label, first.suggested_label) == (id_of(wrong), "red", "green")
    assert first.suggested_image_id in {id_of(data) for data in greens}
    assert first.own_image_id in {id_of(data) for data in reds}
    assert first.likely
    assert (first.neighbours, first.foreign_neighbours) == (3, 3)
    groups = [[image.label for image in group.images] for group in found.duplicates]
    assert groups == [["green", "green", "green", "red"], ["red", "red", "red"]]
    # The copy of a green picture counts as a red one of its own; the three reds are one.
    health = {label.label: (label.images, label.distinct_images) for label in found.labels}
    assert health == {"green": (3, 1), "red": (4, 2)}
    # The green picture under red is the one that would be rejected or answered with green, and
    # that no other red one looks like.
    red = next(label for label in found.labels if label.label == "red")
    assert red.left_out_images == 4
    assert list(red.unlike_image_ids) == [id_of(wrong)]
    assert found.left_out_images == 7
    part = await result_of(served.gallery.Diagnose(pb.DiagnoseRequest(max_images=2)))
    assert (part.images, part.examined) == (7, 2)


async def test_brands_are_suggested_and_none_is_set(served: Serving) -> None:
    served.models.texts = {
        RED: ("有钱花", "可用额度", "由有钱花提供"),
        GREEN: ("闪电", "可用额度"),
    }
    await served.enrol(("dx_amount", solid(RED)), ("zs_amount", solid(GREEN)))
    known = pb.Label(label="dx_amount", brands=["度小满"], outputs=["dx"])
    await served.gallery.SetLabels(pb.SetLabelsRequest(labels=[known]))
    found = await result_of(served.gallery.SuggestBrands(pb.SuggestBrandsRequest()))
    assert found.revision == 2
    first, second = found.labels
    assert (first.label, list(first.known.brands)) == ("dx_amount", ["度小满"])
    assert [(s.text, s.images) for s in first.suggestions] == [("有钱花", 1)]
    assert (second.label, list(second.suggestions)) == ("zs_amount", [])
    labels = await served.gallery.GetLabels(pb.GetLabelsRequest())
    assert [list(label.brands) for label in labels.labels] == [["度小满"], []]


async def test_a_picture_is_read_back_as_received_or_smaller(served: Serving) -> None:
    data = solid(RED, width=120, height=240)
    await served.enrol(("a", data))

    async def image(**request: Any) -> bytes:
        asked = pb.GetImageRequest(image_id=id_of(data), **request)
        found: bytes = (await served.gallery.GetImage(asked)).image
        return found

    assert await image() == data
    assert await image(max_side_px=240) == data
    small = decode(await image(max_side_px=60), ImageLimits())
    assert small.shape == (60, 30, 3)


async def test_pictures_of_another_gallery_and_those_not_kept_are_not_read(
    served: Serving,
) -> None:
    await served.enrol(("a", solid(RED)))
    await served.enrol(("a", solid(GREEN)), gallery="theirs")
    # As with gallery.keep_images = none.
    sqlite(served.store).execute(
        "UPDATE images SET bytes = NULL WHERE id = ?", (bytes.fromhex(RED_ID),)
    )
    for image_id, said in [(GREEN_ID, "has no image"), (RED_ID, "keep_images")]:
        call = served.gallery.GetImage(pb.GetImageRequest(image_id=image_id))
        code, reason, message = await fails(call)
        assert (code, reason) == ("NOT_FOUND", "NOT_FOUND")
        assert said in message


async def test_what_care_cannot_be_asked_is_refused(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    calls = [
        result_of(served.gallery.Diagnose(pb.DiagnoseRequest(max_images=-1))),
        served.gallery.GetImage(pb.GetImageRequest(image_id=RED_ID, max_side_px=-1)),
        served.gallery.GetImage(pb.GetImageRequest(image_id=RED_ID, max_side_px=5000)),
        served.gallery.GetImage(pb.GetImageRequest(image_id="red")),
    ]
    for call in calls:
        assert (await fails(call))[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    for call in (
        result_of(served.gallery.Diagnose(pb.DiagnoseRequest(gallery="none"))),
        result_of(served.gallery.SuggestBrands(pb.SuggestBrandsRequest(gallery="none"))),
    ):
        assert (await fails(call))[:2] == ("NOT_FOUND", "NOT_FOUND")
