"""Decisions on their way to a server that may be away."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, cast

from pagesight import (
    Client,
    Decision,
    FailedPreconditionError,
    InvalidArgumentError,
    PagesightError,
    ResourceExhaustedError,
    UnavailableError,
)
from pagesight._review_page import outbox as module
from pagesight._review_page.outbox import Outbox
from pagesight._review_page.reach import Reach
from tests.support import WAIT_S


class FakeServer:
    """Takes what is sent, once it is there."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.failures: list[PagesightError] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def record_decisions(self, decisions: Iterable[Decision], *, gallery: str) -> int:
        decisions = list(decisions)
        if any(one.label == "purged" for one in decisions):
            assert self.may_answer.wait(WAIT_S)
            raise FailedPreconditionError("the picture was purged")
        return self._take([one.label for one in decisions])

    def withdraw_decisions(self, ids: Iterable[str], *, gallery: str) -> int:
        return self._take([f"not {one}" for one in ids])

    def _take(self, what: list[str]) -> int:
        assert self.may_answer.wait(WAIT_S)
        if self.failures:
            raise self.failures.pop(0)
        self.calls.append(what)
        return len(what)


def outbox_of(server: FakeServer) -> tuple[Outbox, Reach]:
    reach = Reach()
    return Outbox(cast(Client, cast(Any, server)), "default", reach), reach


def decision(label: str) -> Decision:
    return Decision(image_id="ab" * 32, label=label, decision_id=label)


def test_what_is_decided_is_sent_in_order_alike_together() -> None:
    server = FakeServer()
    server.may_answer.clear()
    outbox, _ = outbox_of(server)
    outbox.record(decision("first"))
    for label in ("a", "b", "c"):
        outbox.record(decision(label))
    outbox.withdraw("b")
    outbox.record(decision("d"))
    server.may_answer.set()
    assert outbox.close(WAIT_S) == 0
    assert [one for call in server.calls for one in call] == ["first", "a", "b", "c", "not b", "d"]
    # At most as many calls as there are runs of one kind, and one for what was sent at once.
    assert len(server.calls) <= 4


def test_a_server_that_is_away_is_waited_for_and_noted(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    server = FakeServer()
    server.failures = [UnavailableError("away"), UnavailableError("away")]
    outbox, reach = outbox_of(server)
    outbox.record(decision("a"))
    assert outbox.close(WAIT_S) == 0
    assert server.calls == [["a"]]
    assert reach.away == ""


def test_what_is_refused_for_good_holds_nothing_up_and_is_told() -> None:
    server = FakeServer()
    server.failures = [InvalidArgumentError("such a label cannot be")]
    outbox, reach = outbox_of(server)
    outbox.record(decision("wrong"))
    outbox.withdraw("x")
    assert outbox.close(WAIT_S) == 0
    assert server.calls == [["not x"]]
    assert reach.refusals == ("such a label cannot be",)


def test_one_that_is_refused_takes_no_other_with_it() -> None:
    server = FakeServer()
    server.may_answer.clear()
    outbox, reach = outbox_of(server)
    outbox.record(decision("first"))
    for label in ("a", "purged", "b"):
        outbox.record(decision(label))
    server.may_answer.set()
    assert outbox.close(WAIT_S) == 0
    assert [one for call in server.calls for one in call] == ["first", "a", "b"]
    assert outbox.refused == 1
    assert reach.refusals == ("the picture was purged",)


def test_a_full_disk_is_no_reason_to_lose_a_decision(monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    server = FakeServer()
    server.failures = [ResourceExhaustedError("the disk is full")]
    outbox, reach = outbox_of(server)
    outbox.record(decision("a"))
    assert outbox.close(WAIT_S) == 0
    assert server.calls == [["a"]]
    assert outbox.refused == 0
    assert reach.refusals == ("the disk is full",)
