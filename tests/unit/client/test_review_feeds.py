"""What the feeds of the review page hear of others' decisions, and how much they read for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest

from pagesight import Decision, KeptAnswer, UnavailableError
from pagesight._client import Client
from pagesight._review_page.feeds import FIRST_PAGE, WHOLE_EVERY, DecisionsFeed, KeptFeed
from pagesight._review_page.model import Waiting
from pagesight._review_page.reach import Reach


def decision(number: int, *, known_label: str = "") -> Decision:
    return Decision(
        decision_id=f"d{number}",
        image_id=f"{number:064x}",
        label="login",
        shown_label="login",
        reviewer="token/bob",
        known_label=known_label,
    )


class FakeDecisions:
    """Lists decisions as the client does, page by page, and counts the pages."""

    def __init__(self, made: Sequence[Decision] = ()) -> None:
        self.made = list(made)
        """The oldest first."""
        self.pages = 0

    def list_decisions(self, *, gallery: str) -> Iterator[Decision]:
        """Yields them, the newest first."""
        assert gallery == "default"
        newest = self.made[::-1]
        for start in range(0, len(newest) or 1, FIRST_PAGE):
            self.pages += 1
            yield from newest[start : start + FIRST_PAGE]


class FakeDesk:
    """Notes which decisions there are."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def note_decision(self, image_id: str, reviewer: str, decision_id: str) -> None:
        """Notes one."""
        assert (image_id, reviewer) == (f"{int(decision_id[1:]):064x}", "token/bob")
        self.ids.add(decision_id)

    def forget_decision(self, image_id: str, decision_id: str) -> None:
        """Forgets one, which there must have been."""
        assert image_id == f"{int(decision_id[1:]):064x}"
        self.ids.remove(decision_id)


def feed_of(server: FakeDecisions, desk: FakeDesk) -> DecisionsFeed:
    return DecisionsFeed(cast(Client, server), "default", cast(Any, desk), Reach())


def test_a_decision_that_is_taken_back_is_forgotten_with_the_next_round() -> None:
    server, desk = FakeDecisions([decision(1), decision(2), decision(3)]), FakeDesk()
    feed = feed_of(server, desk)
    feed.round()
    assert desk.ids == {"d1", "d2", "d3"}
    server.made = [decision(1), decision(3), decision(4)]
    feed.round()
    assert desk.ids == {"d1", "d3", "d4"}
    server.made = []
    feed.round()
    assert desk.ids == set()


def test_what_is_said_of_known_items_is_nothing_that_leaves_a_queue() -> None:
    desk = FakeDesk()
    feed_of(FakeDecisions([decision(1, known_label="login")]), desk).round()
    assert desk.ids == set()


def test_one_page_is_read_again_and_again_and_all_of_them_now_and_then() -> None:
    made = [decision(number) for number in range(2 * FIRST_PAGE + 10)]
    server, desk = FakeDecisions(made), FakeDesk()
    feed = feed_of(server, desk)
    feed.round()
    assert (len(desk.ids), server.pages) == (len(made), 3)
    # An old one and one of the newest page are taken back, and one is made.
    del server.made[-5], server.made[3]
    server.made.append(decision(9_999))
    feed.round()
    # The first page holds one that is new, so the second is read; the last one is not.
    assert server.pages == 5
    assert desk.ids == {one.decision_id for one in server.made} | {"d3"}
    for _ in range(2, WHOLE_EVERY):
        feed.round()
    assert server.pages == 5 + WHOLE_EVERY - 2
    assert "d3" in desk.ids
    feed.round()
    assert desk.ids == {one.decision_id for one in server.made}


def test_what_was_kept_is_read_once_it_is_known_what_is_decided() -> None:
    done: list[str] = []

    class FakeEvent:
        def wait(self) -> None:
            done.append("decisions read")

    class FakeKept:
        def list_kept(self, **_options: str) -> Iterator[Any]:
            done.append("kept listed")
            return iter(())

    desk = cast(Any, type("Desk", (), {"reviewer": "ann"}))
    kept = cast(Client, FakeKept())
    KeptFeed(kept, "default", desk, Reach(), cast(threading.Event, FakeEvent())).round()
    assert done == ["decisions read", "kept listed"]


def kept_answer(number: int) -> KeptAnswer:
    return KeptAnswer(
        image_id=f"{number:064x}",
        gallery="default",
        revision=1,
        label="login",
        closest_label="login",
        score=0.5,
        threshold=0.5,
        doubt=0.5,
        review_reasons=(),
        kept_reason="random",
        kept_at=None,
        decisions=0,
        reviewers=(),
    )


def test_what_was_kept_is_listed_to_its_end_though_the_server_goes_away_in_its_midst() -> None:
    added: list[str] = []
    lengths: list[int] = []

    class FakeKept:
        """Goes away after the first page of the first listing."""

        def list_kept(self, **_options: str) -> Iterator[KeptAnswer]:
            lengths.append(0)
            for number in range(2 * FIRST_PAGE + 10):
                if len(lengths) == 1 and number == FIRST_PAGE:
                    raise UnavailableError("away")
                lengths[-1] += 1
                yield kept_answer(number)

    class FakeAdding:
        reviewer = "ann"

        def add(self, waiting: Waiting) -> None:
            added.append(waiting.image_id)

    read = threading.Event()
    read.set()
    feed = KeptFeed(cast(Client, FakeKept()), "default", cast(Any, FakeAdding()), Reach(), read)
    with pytest.raises(UnavailableError):
        feed.round()
    feed.round()
    assert added == [f"{number:064x}" for number in range(2 * FIRST_PAGE + 10)]
    feed.round()
    assert lengths == [FIRST_PAGE, 2 * FIRST_PAGE + 10, FIRST_PAGE]
