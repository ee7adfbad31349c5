"""What goes wrong beside a reviewer: two windows, lost replies, names that are no text, others."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pagesight import (
    AbortedError,
    EnrolItem,
    EnrolOutcome,
    EnrolResult,
    InvalidImageError,
    UnavailableError,
)
from pagesight._review_page import pictures
from pagesight._review_page.batch import enrol_item
from pagesight._review_page.desk import Desk
from pagesight._review_page.model import Decided
from tests.integration.test_review_page import Visitor, until
from tests.support import WAIT_S
from tests.support.reviewing import (
    ACCOUNT,
    LOGIN,
    TICKETS,
    Page,
    StubServer,
    image_id,
    picture,
    reviewed,
    stub_server,
)


def tickets(folder: Path) -> list[Path]:
    """Pictures of a page that the gallery lacks, enough for a cluster."""
    paths = [folder / f"{number}.png" for number in range(30, 34)]
    for number, path in enumerate(paths, start=30):
        path.write_bytes(picture(TICKETS, number))
    return paths


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    with stub_server(tmp_path / "server") as made:
        made.enrol(LOGIN, ACCOUNT)
        yield made


@pytest.fixture
def page(server: StubServer, tmp_path: Path) -> Iterator[Page]:
    paths = [tmp_path / f"{number}.png" for number in (20, 21)]
    for number, path in enumerate(paths, start=20):
        path.write_bytes(picture(LOGIN, number))
    with reviewed(server, pictures=paths) as made:
        made.wait_until_fed()
        yield made


def decided(desk: Desk, label: str = TICKETS) -> Decided:
    """What is decided of the screenshot on top."""
    desk.go_on()
    cards = until(lambda: desk.deal(()).cards)
    return desk.decide(cards[0].key, label, teach=True)


def test_a_second_window_can_neither_turn_a_decision_nor_take_another_one_back(page: Page) -> None:
    visitor = Visitor(page)
    first = decided(page.review.desk)
    answer = visitor.post("/decide", key=first.waiting.key, label=ACCOUNT)
    assert (answer.status_code, answer.text) == (409, f"it is decided already, as: {TICKETS}")
    second = decided(page.review.desk)
    assert visitor.post("/undo", key=first.waiting.key).status_code == 409
    assert list(page.review.desk.decided) == [first, second]
    assert visitor.post("/undo", key=second.waiting.key).status_code == 204
    assert list(page.review.desk.decided) == [first]
    visitor.http.close()


def test_an_enrolment_whose_reply_was_lost_is_undone_whole(
    server: StubServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, batches = page.review.desk, page.review.batches
    one = decided(desk)
    enrol = desk.client.enrol

    def losing(*arguments: Any, **options: Any) -> EnrolResult:
        enrol(*arguments, **options)
        raise UnavailableError("the reply was lost")

    monkeypatch.setattr(desk.client, "enrol", losing)
    with pytest.raises(UnavailableError):
        batches.enrol([one.decision_id])
    monkeypatch.setattr(desk.client, "enrol", enrol)
    batch = batches.enrol([one.decision_id])
    assert (batch.revision_before, batch.revision) == (1, 2)
    batches.undo(batch.key)
    assert desk.client.get_gallery().images == 6


def test_batches_are_undone_one_after_the_other_but_not_over_what_others_did(
    server: StubServer, page: Page
) -> None:
    desk, batches = page.review.desk, page.review.batches
    first = batches.enrol([decided(desk).decision_id])
    second = batches.enrol([decided(desk).decision_id])
    batches.undo(second.key)
    again = batches.enrol([desk.decided[-1].decision_id])
    batches.undo(again.key)
    batches.undo(first.key)
    assert desk.client.get_gallery().images == 6
    assert not any(one.enrolled_revision for one in desk.decided)
    last = batches.enrol([one.decision_id for one in desk.decided])
    server.enrol(TICKETS)
    with pytest.raises(AbortedError):
        batches.undo(last.key)
    assert desk.client.get_gallery().images == 11
    assert all(one.enrolled_revision for one in desk.decided)


def test_a_picture_that_was_not_enrolled_still_waits_for_it(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, batches = page.review.desk, page.review.batches
    one = decided(desk)

    def refusing(*_arguments: Any, **_options: Any) -> EnrolResult:
        error = InvalidImageError("it cannot be read")
        outcome = EnrolOutcome(image_id=one.waiting.image_id, added=False, error=error)
        return EnrolResult(revision=1, outcomes=(outcome,))

    monkeypatch.setattr(desk.client, "enrol", refusing)
    batches.enrol([one.decision_id])
    assert batches.teachable() == [one]
    assert desk.undo() is one


def test_a_picture_that_is_gone_is_left_out_of_a_batch_and_said(
    page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 0)  # so that files are read again
    desk, batches = page.review.desk, page.review.batches
    first, second = decided(desk), decided(desk)
    gone, left = Path(first.waiting.path), Path(second.waiting.path)
    gone.unlink()
    visitor = Visitor(page)
    visitor.post("/batch/preview", decision=f"{second.decision_id}\n{first.decision_id}")
    shown = until(lambda: re.search("left out: .*", visitor.http.get("/batch/preview").text))
    assert shown[0].startswith(f"left out: {gone.name}: cannot read")
    batch = batches.enrol([first.decision_id, second.decision_id])
    assert batch.pictures == 1
    assert [problem.partition(": cannot read")[0] for problem in batch.problems] == [gone.name]
    assert (first.enrolled_revision, second.enrolled_revision) == (0, batch.revision)
    assert f"{gone.name}: cannot read" in visitor.http.get("/batch").text
    visitor.http.close()
    left.unlink()
    with pytest.raises(ValueError, match=f"{gone.name}: cannot read"):
        batches.enrol([first.decision_id])


def test_a_picture_of_a_cluster_that_is_gone_is_left_out_and_said(
    server: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 0)
    with reviewed(server, pictures=tickets(tmp_path)) as page:
        page.wait_until_fed()
        discoveries = page.review.discoveries
        discoveries.start()
        (cluster,) = until(lambda: discoveries.clusters)
        (tmp_path / "31.png").unlink()
        batch = discoveries.enrol(cluster.key, TICKETS)
        assert batch.pictures == 3
        assert "; left out: 31.png: cannot read" in discoveries.done[cluster.key]
        with server.client() as client:
            assert page.review.desk.outbox.wait_until_sent(WAIT_S) == 0
            decided_ids = {one.image_id for one in client.list_decisions()}
    assert decided_ids == set(cluster.image_ids) - {image_id(picture(TICKETS, 31))}


def test_a_picture_of_a_cluster_that_was_not_enrolled_is_not_decided_and_waits_on(
    server: StubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reviewed(server, pictures=tickets(tmp_path)) as page:
        page.wait_until_fed()
        desk, discoveries = page.review.desk, page.review.discoveries
        discoveries.start()
        (cluster,) = until(lambda: discoveries.clusters)
        enrol = desk.client.enrol

        def refusing_one(items: Sequence[EnrolItem], **options: Any) -> EnrolResult:
            made = enrol(items[1:], **options)
            error = InvalidImageError("it cannot be read")
            outcome = EnrolOutcome(image_id=cluster.image_ids[0], added=False, error=error)
            return EnrolResult(revision=made.revision, outcomes=(outcome, *made.outcomes))

        monkeypatch.setattr(desk.client, "enrol", refusing_one)
        batch = discoveries.enrol(cluster.key, TICKETS)
        assert batch.pictures == 3
        assert "left out: " in discoveries.done[cluster.key]
        assert [one.image_id for one in desk.rejected()] == [cluster.image_ids[0]]
        with server.client() as client:
            decided_ids = {one.image_id for one in page.decisions(client)}
        assert decided_ids == set(cluster.image_ids[1:])


def test_a_button_pressed_twice_enrols_once(
    server: StubServer, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, batches = page.review.desk, page.review.batches
    one = decided(desk)
    begun, again = threading.Event(), threading.Event()
    enrol = desk.client.enrol

    def slow(*arguments: Any, **options: Any) -> EnrolResult:
        begun.set()
        assert again.wait(WAIT_S)
        return enrol(*arguments, **options)

    monkeypatch.setattr(desk.client, "enrol", slow)
    with ThreadPoolExecutor(2) as presses:
        first = presses.submit(batches.enrol, [one.decision_id])
        assert begun.wait(WAIT_S)
        second = presses.submit(batches.enrol, [one.decision_id])
        again.set()
        assert first.result(WAIT_S) is second.result(WAIT_S)
    assert len(batches.made) == 1
    assert desk.client.get_gallery().revision == 2


def test_what_the_gallery_had_already_can_be_taken_back(page: Page) -> None:
    desk, batches = page.review.desk, page.review.batches
    first, second = decided(desk), decided(desk)
    desk.client.enrol([EnrolItem(image=picture(LOGIN, 20 + at), label=TICKETS) for at in (0, 1)])
    desk.client.remove([first.waiting.image_id])
    batch = batches.enrol([first.decision_id])
    same = batches.enrol([second.decision_id])
    assert (same.pictures, batch.undone) == (0, False)
    batches.undo(same.key)
    assert (first.enrolled_revision, second.enrolled_revision) == (batch.revision, 0)


def test_a_name_that_is_no_text_and_a_picture_that_is_gone_do_no_harm(
    server: StubServer, tmp_path: Path
) -> None:
    broken = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff<b>.png"))
    broken.write_bytes(b"no picture")
    with reviewed(server, pictures=[broken]) as page:
        page.wait_until_fed()
        visitor = Visitor(page)
        status = visitor.http.get("/status")
        assert status.status_code == 200
        assert "?&lt;b&gt;.png: " in status.text
        assert visitor.http.get(f"/gallery/{'0' * 64}").status_code == 404
        assert page.review.desk.reach.refusals == ()
        visitor.http.close()


def test_undoing_a_cluster_takes_its_decisions_back_and_has_its_pictures_wait(
    server: StubServer, tmp_path: Path
) -> None:
    with reviewed(server, pictures=tickets(tmp_path)) as page:
        page.wait_until_fed()
        desk, discoveries = page.review.desk, page.review.discoveries
        discoveries.start()
        (cluster,) = until(lambda: discoveries.clusters)
        batch = discoveries.enrol(cluster.key, TICKETS)
        with server.client() as client:
            until(lambda: len(list(client.list_decisions())) == 4)
            page.review.batches.undo(batch.key)
            until(lambda: not list(client.list_decisions()))
            labels = [image.label for image in client.list_images()]
        assert TICKETS not in labels
        waiting = {one.image_id for one in desk.rejected()}
        assert waiting == set(cluster.image_ids)


def test_what_is_enrolled_of_a_thumbnail_says_whose_it_is() -> None:
    data = picture(LOGIN, 1)
    whole = hashlib.sha256(data).hexdigest()
    assert enrol_item(whole, data, LOGIN).source == "review"
    assert enrol_item("ab" * 32, data, LOGIN).source == f"review, thumbnail of {'ab' * 32}"
