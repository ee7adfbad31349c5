"""Single calls of both clients against a server on a real socket."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest

import pagesight
from pagesight import AsyncClient, Client, EnrolItem, LabelInfo
from pagesight.v1 import classifier_pb2
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer


def image_id(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    with Client(server.address, timeout_s=WAIT_S, retry_for_s=0) as connected:
        yield connected


@pytest.fixture
async def aclient(server: FakeServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address, timeout_s=WAIT_S, retry_for_s=0) as connected:
        yield connected


# --- classifying ---


def test_a_picture_is_classified_with_its_evidence(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(b"login")
    answer = client.classify(file, top_k=1, explain=True)
    assert (answer.label, answer.score, answer.threshold) == ("login", 0.875, 0.625)
    assert answer.reasons == ("brand 度小满: visible",)
    assert answer.candidates[0].matching_lines[0].query_text == "个人信息"
    assert answer.stage_ms == {"decode": 2.5, "total": 40.0}


def test_other_is_an_answer_not_an_error(client: Client) -> None:
    answer = client.classify(b"other")
    assert answer.is_other
    assert answer.label == pagesight.OTHER
    assert answer.closest_label == "dxm_user_info"
    assert answer.score < answer.threshold


def test_options_reach_the_server(client: Client, server: FakeServer) -> None:
    client.classify(
        b"login",
        gallery="apps",
        ocr=False,
        deadline_ms=900,
        priority="low",
        traceparent="00-a-b-01",
    )
    [query] = server.classifier.queries
    assert (query.gallery, query.deadline_ms, query.traceparent) == ("apps", 900, "00-a-b-01")
    assert query.priority == classifier_pb2.PRIORITY_LOW
    assert query.options.ocr == classifier_pb2.OCR_MODE_OFF


def test_a_refusal_is_a_typed_error_with_its_details(client: Client) -> None:
    with pytest.raises(pagesight.InvalidImageError, match="neither JPEG") as bad:
        client.classify(b"bad")
    assert (bad.value.code, bad.value.reason) == ("INVALID_ARGUMENT", "IMAGE_UNUSABLE")
    with pytest.raises(pagesight.OverloadedError) as busy:
        client.classify(b"busy")
    assert busy.value.retry_after_s == 0.25
    with pytest.raises(pagesight.NotFoundError, match='no gallery "nowhere"'):
        client.classify(b"login", gallery="nowhere")


async def test_refusals_are_the_same_for_event_loops(aclient: AsyncClient) -> None:
    with pytest.raises(pagesight.InvalidImageError, match="neither JPEG"):
        await aclient.classify(b"bad")
    with pytest.raises(pagesight.OverloadedError) as busy:
        await aclient.classify(b"busy")
    assert busy.value.retry_after_s == 0.25
    assert (await aclient.classify(b"login", top_k=2)).candidates[1].label == "zsyh_user_info"


def test_an_answer_is_waited_for_as_long_as_the_budget_and_no_longer(client: Client) -> None:
    with pytest.raises(pagesight.DeadlineExceededError, match="in time"):
        client.classify(b"mute", deadline_ms=1)


def test_no_server_is_one_error_that_names_the_address() -> None:
    with (
        Client("127.0.0.1:1", retry_for_s=0) as client,
        pytest.raises(pagesight.UnavailableError, match=r"no server answers at 127\.0\.0\.1:1"),
    ):
        client.classify(b"login")


def test_a_server_of_another_kind_is_recognised() -> None:
    class OtherServer(FakeServer):
        def __init__(self) -> None:
            super().__init__()
            self._server = grpc.server(self._pool)
            self.port = self._server.add_insecure_port("127.0.0.1:0")

    with (
        OtherServer() as server,
        Client(server.address) as client,
        pytest.raises(pagesight.InternalError, match="is it a pagesight server"),
    ):
        client.classify(b"login")


@pytest.mark.parametrize(
    ("address", "timeout_s", "says"),
    [("", 1.0, "host:port"), ("127.0.0.1:1", 0.0, "above 0"), ("127.0.0.1:1", -1.0, "above 0")],
)
def test_settings_that_cannot_be_say_what_to_write(
    address: str, timeout_s: float, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Client(address, timeout_s=timeout_s)


def test_channel_options_of_the_caller_win(server: FakeServer) -> None:
    options = [("grpc.max_send_message_length", 100)]
    with (
        Client(server.address, channel_options=options) as client,
        pytest.raises(pagesight.ResourceExhaustedError, match="larger than max"),
    ):
        client.classify(bytes(200))


# --- the gallery ---


def test_a_gallery_is_taught_listed_corrected_and_gone_back_on(
    client: Client, server: FakeServer, tmp_path: Path
) -> None:
    items = [
        EnrolItem(image=b"a1", label="a", source="phone"),
        EnrolItem(image=b"bad", label="a"),
        EnrolItem(image=tmp_path / "gone.png", label="a"),
        EnrolItem(image=b"b1", label="b"),
        EnrolItem(image=b"b2", label="b"),
    ]
    told: list[pagesight.Progress] = []
    enrolled = client.enrol(iter(items), author="mei", request_id="r1", progress=told.append)
    assert told == [pagesight.Progress(done=done, total=4) for done in range(5)]
    assert enrolled.revision == 1
    assert [outcome.added for outcome in enrolled.outcomes] == [True, False, False, True, True]
    assert [type(outcome.error) for outcome in enrolled.outcomes if outcome.error] == [
        pagesight.InvalidImageError,
        pagesight.UnreadableFileError,
    ]
    assert enrolled.outcomes[0].image_id == image_id(b"a1")
    [change] = server.gallery.changes
    assert (change.author, change.request_id) == ("mei", "r1")
    assert not change.HasField("expected_revision")
    assert server.gallery.sources == ["phone", "", ""]

    assert [image.label for image in client.list_images()] == ["a", "b", "b"]
    assert [image.label for image in client.list_images(label="b", page_size=1)] == ["b", "b"]
    assert client.relabel([image_id(b"b1")], "a") == pagesight.RelabelResult(
        revision=2, relabelled=1
    )
    assert client.remove([image_id(b"b2")]) == pagesight.RemoveResult(revision=3, removed=1)
    known = LabelInfo(label="a", brands=("度小满",), outputs=("dxm", "info"))
    assert client.set_labels([known]).revision == 4
    assert client.get_labels() == pagesight.Labels(
        revision=4,
        labels=(LabelInfo(label="a", brands=("度小满",), outputs=("dxm", "info"), images=2),),
    )
    assert client.set_labels([LabelInfo(label="a", brands=("有钱花",))]).revision == 5
    assert client.set_labels([LabelInfo(label="a")], fields=["outputs"]).revision == 6
    [row] = client.get_labels().labels
    assert (row.brands, row.outputs) == (("有钱花",), ())
    kinds = ["set_labels"] * 3 + ["remove", "relabel", "enrol"]
    assert [made.kind for made in client.history()] == kinds
    assert client.rollback(0, expected_revision=6) == pagesight.RollbackResult(
        revision=7, restored=0, removed=2
    )


async def test_a_gallery_is_the_same_from_an_event_loop(
    aclient: AsyncClient, tmp_path: Path
) -> None:
    async def items() -> AsyncIterator[EnrolItem]:
        yield EnrolItem(image=b"a1", label="a")
        yield EnrolItem(image=tmp_path / "gone.png", label="a")
        yield EnrolItem(image=b"a2", label="a")
        yield EnrolItem(image=b"a3", label="a")

    told: list[pagesight.Progress] = []
    enrolled = await aclient.enrol(items(), progress=told.append)
    assert told[-1] == pagesight.Progress(done=3, total=3)
    assert [outcome.added for outcome in enrolled.outcomes] == [True, False, True, True]
    assert [image.label async for image in aclient.list_images()] == ["a", "a", "a"]
    assert (await aclient.relabel([image_id(b"a1")], "b")).relabelled == 1
    assert (await aclient.remove([image_id(b"a2")])).removed == 1
    assert (await aclient.set_labels([LabelInfo(label="b", brands=("x",))])).revision == 4
    assert [known.brands for known in (await aclient.get_labels()).labels] == [(), ("x",)]
    assert [made.revision async for made in aclient.history()] == [4, 3, 2, 1]
    assert (await aclient.rollback(0)).removed == 2
    assert (await aclient.enrol([])).outcomes == ()


async def test_what_a_person_should_look_at_is_the_same_from_both_clients(
    client: Client, aclient: AsyncClient
) -> None:
    client.enrol([EnrolItem(image=b"a1", label="a"), EnrolItem(image=b"b1", label="b")])
    told: list[pagesight.Progress] = []
    found = client.diagnose(max_images=1, progress=told.append)
    assert told == [pagesight.Progress(done=done, total=1) for done in (0, 1)]
    assert (found.revision, found.images, found.examined) == (1, 2, 1)
    first, last = sorted([image_id(b"a1"), image_id(b"b1")])
    [suspect] = found.suspects
    assert (suspect.image_id, suspect.suggested_image_id, suspect.likely) == (first, last, True)
    assert [[image.image_id for image in group] for group in found.duplicates] == [[first, last]]
    assert [(health.label, health.few) for health in found.labels] == [("a", True), ("b", True)]
    assert await aclient.diagnose(max_images=1, progress=told.append) == found
    assert len(told) == 4

    suggested = client.suggest_brands(progress=told.append)
    assert told[4:] == [pagesight.Progress(done=done, total=1) for done in (0, 1)]
    assert [row.known.label for row in suggested] == ["a", "b"]
    assert [row.suggestions[0].text for row in suggested] == ["度小满", "度小满"]
    assert await aclient.suggest_brands() == suggested

    assert client.get_image(first, max_side_px=64) == f"{first} at 64".encode()
    assert await aclient.get_image(first) == f"{first} at 0".encode()
    with pytest.raises(pagesight.NotFoundError):
        client.get_image("f" * 64)


def test_a_gallery_that_moved_on_refuses_the_change(client: Client) -> None:
    client.enrol([EnrolItem(image=b"a1", label="a")])
    with pytest.raises(pagesight.AbortedError, match="at revision 1") as moved:
        client.remove([image_id(b"a1")], expected_revision=7)
    assert moved.value.reason == "REVISION_MOVED"
    with pytest.raises(pagesight.NotFoundError, match="no image"):
        client.remove(["0" * 64])
    with pytest.raises(pagesight.AbortedError):
        client.enrol([EnrolItem(image=b"a2", label="a")], expected_revision=0)
    with pytest.raises(pagesight.AbortedError):
        client.enrol([EnrolItem(image=b"a2", label="a")], expected_revision=7)


async def test_galleries_are_listed_shown_and_deleted_by_both_clients(
    client: Client, aclient: AsyncClient
) -> None:
    for name in ("c", "a", "b"):
        client.enrol([EnrolItem(image=b"1", label="x")], gallery=name, expected_revision=0)
    assert [info.name for info in client.list_galleries()] == ["a", "b", "c"]
    assert [info.name async for info in aclient.list_galleries(page_size=1)] == ["a", "b", "c"]
    shown = client.get_gallery(gallery="a")
    assert (shown.name, shown.revision, shown.images, shown.labels) == ("a", 1, 1, 1)
    assert shown.calibration is not None
    assert (shown.calibration.threshold_with_text, shown.calibration.source) == (0.625, "gallery")
    assert shown.calibration.rejected_with_text == 0.25
    assert shown.calibration.rejected_without_text == 0.5
    assert await aclient.get_gallery(gallery="a") == shown
    assert client.delete_gallery("a", author="mei") == pagesight.DeleteResult(revision=2, removed=1)
    deleted = await aclient.delete_gallery("b", expected_revision=1)
    assert deleted == pagesight.DeleteResult(revision=2, removed=1)
    assert [info.name for info in client.list_galleries()] == ["c"]
    for name in ("a", "never"):
        with pytest.raises(pagesight.NotFoundError, match="no gallery"):
            client.get_gallery(gallery=name)


async def test_an_answer_at_a_revision_that_the_server_lacks_is_an_error_of_its_own(
    client: Client, aclient: AsyncClient
) -> None:
    revision = client.enrol([EnrolItem(image=b"1", label="x")]).revision
    assert client.classify(b"login", min_revision=revision).revision == 1
    async with AsyncClient(
        client._endpoint.address, retry=pagesight.RetryPolicy(attempts=1)
    ) as impatient:
        with pytest.raises(pagesight.RevisionBehindError, match="not at revision 2") as behind:
            await impatient.classify(b"login", min_revision=2)
        assert behind.value.retry_after_s == 0.02
        [result] = [r async for r in impatient.classify_stream([b"login"], min_revision=2)]
        assert isinstance(result.error, pagesight.RevisionBehindError)
    with pytest.raises(pagesight.DeadlineExceededError, match="not at revision 2"):
        await aclient.classify(b"login", min_revision=2, deadline_ms=1000)


def broken_items() -> Iterator[EnrolItem]:
    yield EnrolItem(image=b"a1", label="a")
    raise LookupError("the list is broken")


def test_items_that_break_enrol_nothing(client: Client, server: FakeServer) -> None:
    server.gallery.expects_to_be_left = True
    with pytest.raises(LookupError, match="the list is broken"):
        client.enrol(broken_items())
    server.gallery.enrol_ended.wait(2 * WAIT_S)
    assert server.gallery.images == {}


async def test_items_that_break_enrol_nothing_from_an_event_loop(
    aclient: AsyncClient, server: FakeServer
) -> None:
    server.gallery.expects_to_be_left = True
    with pytest.raises(LookupError, match="the list is broken"):
        await aclient.enrol(broken_items())
    await asyncio.to_thread(server.gallery.enrol_ended.wait, 2 * WAIT_S)
    assert server.gallery.images == {}


async def test_enrolment_fails_as_the_server_says_from_an_event_loop(aclient: AsyncClient) -> None:
    with pytest.raises(pagesight.AbortedError):
        await aclient.enrol([EnrolItem(image=b"a", label="a")], expected_revision=7)


def more_than_the_server_takes() -> Iterator[EnrolItem]:
    yield EnrolItem(image=b"too many", label="a")
    for number in range(200):
        yield EnrolItem(image=f"{number}".encode().ljust(50_000), label="a")


def test_a_refusal_in_the_middle_of_an_enrolment_is_heard(client: Client) -> None:
    with pytest.raises(pagesight.ResourceExhaustedError, match="too many") as refused:
        client.enrol(more_than_the_server_takes())
    assert refused.value.reason == "LIMIT_REACHED"


async def test_a_refusal_in_the_middle_is_heard_from_an_event_loop(aclient: AsyncClient) -> None:
    for _ in range(20):  # grpc.aio loses the server's status now and then
        with pytest.raises(pagesight.ResourceExhaustedError, match="too many") as refused:
            await aclient.enrol(more_than_the_server_takes())
        assert refused.value.reason == "LIMIT_REACHED"
