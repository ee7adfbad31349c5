"""Which answers a stream owes, and in which order they are told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import pagesight
from pagesight._ledger import END_GRACE_S, Ledger, split

ANSWER = pagesight.Classification(label="a", closest_label="a", score=1.0, threshold=0.5)
FAILURE = pagesight.InvalidImageError("broken")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("pagesight._ledger.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def keys(results: object) -> list[object]:
    assert hasattr(results, "__iter__")
    return [result.key for result in results]


def test_answers_are_told_as_they_come() -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first, second = ledger.admit("a"), ledger.admit("b")
    assert keys(ledger.settle(second, FAILURE)) == ["b"]
    ledger.seal()
    assert not ledger.is_done()
    assert keys(ledger.settle(first, ANSWER)) == ["a"]
    assert ledger.is_done()


def test_in_order_an_answer_waits_for_those_before_it() -> None:
    ledger: Ledger[str] = Ledger(ordered=True, timeout_s=60)
    ids = [ledger.admit(key) for key in "abcd"]
    assert keys(ledger.settle(ids[2], ANSWER)) == []
    assert keys(ledger.settle(ids[0], FAILURE)) == ["a"]
    assert keys(ledger.settle(ids[1], ANSWER)) == ["b", "c"]
    assert keys(ledger.settle(ids[3], ANSWER)) == ["d"]


def test_keys_need_not_be_unique() -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first, second = ledger.admit("same"), ledger.admit("same")
    assert first != second


def test_an_answer_that_nobody_asked_for_is_a_bug_of_the_server() -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    for key in "abcdefghijk":
        ledger.keep(ledger.admit(key), "a message")
    nobodys = ("11", "x", "abc", "", "-1", "+1", " 1", "1\n", "01", "1_0", "1.0", "１", "9" * 5000)
    for unknown in nobodys:
        assert ledger.message(unknown) is None
        with pytest.raises(pagesight.InternalError, match="which nobody asked"):
            list(ledger.settle(unknown, ANSWER))


def test_what_was_told_once_is_not_told_again() -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first = ledger.admit("a")
    assert keys(ledger.settle(first, FAILURE)) == ["a"]
    assert keys(ledger.settle(first, ANSWER)) == []


def test_what_is_owed_is_overdue_when_the_server_was_silent_for_long(clock: list[float]) -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first = ledger.admit("a")
    clock[0] += 59
    second = ledger.admit("b")
    assert ledger.overdue() == []
    clock[0] += 1
    assert ledger.overdue() == [first]
    assert ledger.patience_s() == 0
    clock[0] += 59
    assert ledger.overdue() == [first, second]


def test_a_busy_server_may_take_long_for_one_screenshot(clock: list[float]) -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first = ledger.admit("a")
    for _ in range(10):
        clock[0] += 59.75
        assert ledger.overdue() == []
        assert ledger.patience_s() == 0.25
        ledger.hear()
    clock[0] += 60
    assert ledger.overdue() == [first]


def test_a_server_that_owes_nothing_has_a_while_to_end_the_stream(
    clock: list[float],
) -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    first = ledger.admit("a")
    ledger.seal()
    clock[0] += 30
    assert not ledger.is_abandoned()  # it owes an answer
    list(ledger.settle(first, ANSWER))
    clock[0] += END_GRACE_S / 2
    assert not ledger.is_abandoned()
    assert ledger.patience_s() == END_GRACE_S / 2
    clock[0] += END_GRACE_S / 2
    assert ledger.is_abandoned()
    assert ledger.patience_s() == 0


def test_what_has_no_answer_is_kept() -> None:
    ledger: Ledger[str] = Ledger(ordered=False, timeout_s=60)
    ids = [ledger.admit(key) for key in "abcd"]
    for request_id in reversed(ids[:3]):
        ledger.keep(request_id, f"message {request_id}")
    list(ledger.settle(ids[1], ANSWER))
    assert ledger.message(ids[3]) is None  # It was never read: there is nothing to send of it yet.
    assert (ledger.message(ids[0]), ledger.message(ids[1])) == ("message 0", None)
    ledger.keep(ids[1], "too late")
    assert ledger.message(ids[1]) is None


def test_inputs_without_a_key_are_known_by_path_or_position() -> None:
    assert split(("key", b"x"), 7) == ("key", b"x")
    assert split("a.png", 7) == ("a.png", "a.png")
    assert split(Path("a.png"), 7) == (Path("a.png"), Path("a.png"))
    assert split(b"x", 7) == (7, b"x")
