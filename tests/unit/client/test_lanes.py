"""The books of a stream's lanes: who may take what, and what becomes of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from pagesight import RetryPolicy, UnauthenticatedError, UnavailableError
from pagesight._lanes import Lane, Lanes, Step
from pagesight._retry import Retries
from pagesight._spread import Places

READY = grpc.ChannelConnectivity.READY
FAILING = grpc.ChannelConnectivity.TRANSIENT_FAILURE
CONNECTING = grpc.ChannelConnectivity.CONNECTING
SHUTTING_DOWN = UnavailableError("the server is shutting down", reason="SHUTTING_DOWN")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [100.0]
    for module in ("_lanes", "_retry"):
        time = SimpleNamespace(monotonic=lambda: now_s[0])
        monkeypatch.setattr(f"pagesight.{module}.time", time)
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    return now_s


class Books:
    """Lanes over so many connections that are READY, with a call of each, and its pictures."""

    def __init__(
        self, connections: int, *, max_in_flight: int = 6, retry_for_s: float = 60
    ) -> None:
        self.places = Places(connections)
        for place in range(connections):
            self.places.note(place, READY)
        self.messages: dict[str, str] = {}
        policy = RetryPolicy(first_delay_s=1, longest_delay_s=4)
        self.lanes = Lanes(
            self.places,
            Retries(policy, retry_for_s),
            max_in_flight=max_in_flight,
            message=self.messages.get,
        )
        self.each = self.lanes.due()
        for lane in self.each:
            self.lanes.open(lane)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.messages[str(number)] = f"picture {number}"
            self.lanes.put(str(number))

    def take(self, lane: Lane) -> Any:
        return self.lanes.take(lane, lane.connection)

    def take_all(self, lane: Lane) -> list[Any]:
        taken = []
        while not isinstance(step := self.take(lane), Step):
            taken.append(step)
        return taken

    def answer(self, lane: Lane, number: int) -> None:
        del self.messages[str(number)]
        self.lanes.settled(str(number), lane)


def pictures(*numbers: int) -> list[str]:
    return [f"picture {number}" for number in numbers]


def test_a_lane_takes_its_share_and_more_when_it_has_answered() -> None:
    books = Books(3)
    first, second, third = books.each
    books.put(*range(6))
    assert books.take_all(first) == pictures(0, 1)
    assert books.take_all(second) == pictures(2, 3)
    books.answer(first, 1)
    assert books.take_all(first) == pictures(4)
    assert books.take_all(third) == pictures(5)
    assert books.take(third) is Step.WAIT


def test_a_lane_whose_server_does_not_serve_takes_nothing_and_leaves_its_share_to_others() -> None:
    books = Books(3)
    first, second, third = books.each
    books.put(*range(6))
    assert books.take(third) == "picture 0"
    books.places.note(2, FAILING)
    assert books.take(third) is Step.WAIT  # It owes an answer.
    assert books.take_all(first) == pictures(1, 2, 3)
    assert books.take_all(second) == pictures(4, 5)
    books.answer(third, 0)
    assert books.take(third) is Step.END


def test_a_lane_that_is_being_connected_waits_for_its_first_picture() -> None:
    books = Books(2)
    books.places.note(0, CONNECTING)
    books.put(0)
    assert books.take(books.each[0]) is Step.WAIT
    books.places.note(0, READY)
    assert books.take(books.each[0]) == "picture 0"


def test_the_only_connection_is_not_asked_whether_it_is_ready() -> None:
    books = Books(1)
    books.places.note(0, FAILING)
    books.put(0)
    assert books.take(books.each[0]) == "picture 0"


def test_what_a_lane_owes_when_it_ends_goes_to_others_first_and_what_it_answered_does_not() -> None:
    books = Books(2, max_in_flight=4)
    first, second = books.each
    books.put(0, 1)
    assert books.take_all(first) == pictures(0, 1)
    books.put(2, 3)
    books.answer(first, 1)
    number = first.connection
    books.lanes.ended(first, UnavailableError("gone"))
    assert books.take_all(second) == pictures(0, 2, 3)
    assert books.lanes.take(first, number) is Step.END  # What is left of the call sends nothing.


@pytest.mark.parametrize("error", [None, SHUTTING_DOWN])
def test_a_call_that_ended_in_good_order_is_made_anew_at_once(
    error: Exception | None, clock: list[float]
) -> None:
    books = Books(2, retry_for_s=0)
    first, _ = books.each
    books.put(0, 1)
    assert books.take_all(first) == pictures(0, 1)
    books.answer(first, 0)
    books.lanes.ended(first, error)
    assert books.lanes.due() == [first]
    books.lanes.open(first)
    # It has sent nothing since: that is no failure either, but no reason for haste.
    books.lanes.ended(first, error)
    assert books.lanes.due() == []
    clock[0] += 1
    assert books.lanes.due() == [first]


@pytest.mark.parametrize("error", [None, SHUTTING_DOWN, UnavailableError("gone")])
def test_a_call_that_ends_without_an_answer_is_made_anew_after_a_wait_that_doubles(
    error: Exception | None, clock: list[float]
) -> None:
    books = Books(1)
    (lane,) = books.each
    for wait_s in (1, 2, 3, 3):  # At the longest, from half of it to the whole.
        books.put(0)
        books.take(lane)
        books.lanes.ended(lane, error)
        clock[0] += wait_s - 0.5
        assert books.lanes.due() == []
        assert books.lanes.wait_s(60.0) == 0.5
        clock[0] += 0.5
        assert books.lanes.due() == [lane]
        books.lanes.open(lane)


def test_a_lane_is_tried_without_end_while_others_may_be(clock: list[float]) -> None:
    books = Books(2, retry_for_s=10)
    first, second = books.each
    for _ in range(20):
        books.lanes.ended(first, UnavailableError("gone"))
        clock[0] += 4
        assert books.lanes.due() == [first]
        books.lanes.open(first)
    books.lanes.ended(second, UnavailableError("gone, too"))
    clock[0] += 4
    # The first has been away for long, but the second has time left.
    books.lanes.ended(first, UnavailableError("gone"))
    clock[0] += 8
    books.lanes.open(second)
    with pytest.raises(UnavailableError, match="gone, too; tried 2 times in 12 s"):
        books.lanes.ended(second, UnavailableError("gone, too"))


def test_an_answer_gives_a_lane_its_time_anew(clock: list[float]) -> None:
    books = Books(1, retry_for_s=10)
    (lane,) = books.each
    for number in range(5):
        books.lanes.ended(lane, UnavailableError("gone"))
        clock[0] += 8
        books.lanes.open(lane)
        books.put(number)
        assert books.take(lane) == f"picture {number}"
        books.answer(lane, number)
    books.lanes.ended(lane, UnavailableError("gone"))


def test_an_error_that_no_other_server_would_mend_ends_the_stream() -> None:
    books = Books(2)
    with pytest.raises(UnauthenticatedError):
        books.lanes.ended(books.each[0], UnauthenticatedError("who are you?"))
    with pytest.raises(LookupError):
        books.lanes.ended(books.each[0], LookupError("a bug"))


def test_a_server_with_the_wrong_certificate_is_no_matter_while_others_answer() -> None:
    books = Books(2)
    mistake = UnavailableError("the certificate is not trusted", reason="TLS_FAILED")
    mistake.is_final = True
    books.lanes.ended(books.each[0], mistake)
    with pytest.raises(UnavailableError, match="not trusted"):
        books.lanes.ended(books.each[1], mistake)


def test_a_lane_is_due_when_its_connection_becomes_ready() -> None:
    books = Books(2)
    first, _ = books.each
    books.places.note(0, FAILING)
    books.lanes.ended(first, UnavailableError("gone"))
    books.lanes.places_changed()
    assert books.lanes.due() == []
    books.places.note(0, READY)
    books.lanes.places_changed()
    assert books.lanes.due() == [first]


def test_there_are_no_more_lanes_over_one_connection_than_may_be_in_flight() -> None:
    books = Books(1, max_in_flight=2)
    books.lanes.grow(5)
    assert len(books.lanes.due()) == 1  # beside the one that is open


def test_when_all_is_answered_the_lanes_end_and_none_is_made_anew() -> None:
    books = Books(2)
    first, second = books.each
    books.put(0)
    assert books.take(first) == "picture 0"
    books.answer(first, 0)
    books.lanes.finish()
    assert books.take(first) is Step.END
    assert books.take(second) is Step.END
    assert not books.lanes.is_over()  # The first ends in good order.
    first.is_open = False
    assert books.lanes.is_over()
    assert books.lanes.due() == []


def test_calls_take_turns_at_the_places_that_are_ready() -> None:
    places = Places(3)
    assert not places.is_settled()
    for place, state in enumerate((READY, CONNECTING, READY)):
        places.note(place, state)
    assert places.is_settled()
    assert [places.turn("unary_unary") for _ in range(6)] == [0, 2] * 3
    for place in range(3):
        places.note(place, FAILING)
    assert places.state() is FAILING
    assert places.is_settled()
    assert [places.turn("unary_unary") for _ in range(3)] == [0, 1, 2]
    places.note(1, CONNECTING)
    assert not places.is_settled()


def test_a_server_that_is_away_is_told_of_only_when_no_other_may_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    books = Books(2)
    away, other = books.each
    books.places.note(away.place, FAILING)
    books.places.note(other.place, CONNECTING)
    books.lanes.ended(away, UnavailableError("no server answers at a:1"))
    assert caplog.messages == []
    books.places.note(other.place, FAILING)
    books.lanes.open(away)
    books.lanes.ended(away, UnavailableError("no server answers at a:1"))
    assert caplog.messages == ["no server answers at a:1; trying again for 60 s"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        pytest.param(FAILING, True, id="nor could the other"),
        pytest.param(READY, False, id="the other serves"),
        pytest.param(CONNECTING, False, id="the other is still being connected"),
    ],
)
def test_what_ended_a_lane_is_told_once_no_other_connection_can_be_had(
    state: grpc.ChannelConnectivity, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    books = Books(2)
    for place in (0, 1):
        books.places.note(place, CONNECTING)
    books.lanes.ended(books.each[0], UnavailableError("no server answers"))
    assert caplog.messages == []
    for place, now in ((0, FAILING), (1, state)):
        books.places.note(place, now)
        books.lanes.places_changed()
    books.lanes.places_changed()
    assert [message.partition(";")[0] for message in caplog.messages] == (
        ["no server answers"] if told else []
    )
