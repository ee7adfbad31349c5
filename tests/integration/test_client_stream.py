"""`classify_stream` of both clients: the same promises, kept with threads and with tasks.

Each test runs against both. `stream` makes the two look alike: it gives the
client's results as a list.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import pytest
from PIL import Image

import pagesight
from pagesight import AsyncClient, Client, RetryPolicy, StreamResult, _requests
from pagesight._ledger import END_GRACE_S
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer

Results = list[StreamResult[Any]]

QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, longest_delay_s=0.05)


class Streamer(Protocol):
    """Streams pictures and returns the results, or the first `take` of them."""

    def __call__(
        self,
        images: Iterable[Any],
        *,
        take: int | None = None,
        seen: Callable[[StreamResult[Any]], object] = ...,
        timeout_s: float = ...,
        **options: Any,
    ) -> Results: ...


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture(params=["threads", "event loop"])
def stream(request: pytest.FixtureRequest, server: FakeServer) -> Streamer:
    def with_threads(
        images: Iterable[Any],
        *,
        take: int | None = None,
        seen: Callable[[StreamResult[Any]], object] = id,
        timeout_s: float = WAIT_S,
        **options: Any,
    ) -> Results:
        results: Results = []
        with Client(server.address, timeout_s=timeout_s, retry=QUICK) as client:
            for result in client.classify_stream(images, **options):
                results.append(result)
                seen(result)
                if len(results) == take:
                    break
        return results

    def with_event_loop(
        images: Iterable[Any],
        *,
        take: int | None = None,
        seen: Callable[[StreamResult[Any]], object] = id,
        timeout_s: float = WAIT_S,
        **options: Any,
    ) -> Results:
        async def run() -> Results:
            results: Results = []
            async with (
                AsyncClient(server.address, timeout_s=timeout_s, retry=QUICK) as client,
                aclosing(client.classify_stream(images, **options)) as answers,
            ):
                async for result in answers:
                    results.append(result)
                    seen(result)
                    if len(results) == take:
                        break
            await no_task_is_left()
            return results

        return asyncio.run(run())

    return with_threads if request.param == "threads" else with_event_loop


async def no_task_is_left() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    # gRPC's own task for the status of a cancelled call takes one more turn of the loop.
    if left:
        _, pending = await asyncio.wait(left, timeout=WAIT_S)
        assert not pending


def keys(results: Results) -> list[Any]:
    return [result.key for result in results]


def test_every_input_has_one_result_under_its_key(stream: Streamer, tmp_path: Path) -> None:
    file = tmp_path / "b.png"
    file.write_bytes(b"b")
    results = stream([b"a", file, str(file), ("mine", b"c"), (("any", 1), b"other")])
    assert {result.key: result.unwrap().label for result in results} == {
        0: "a",
        file: "b",
        str(file): "b",
        "mine": "c",
        ("any", 1): "other",
    }
    assert len(results) == 5


def test_no_input_has_no_result(stream: Streamer) -> None:
    assert stream([]) == []


def test_answers_come_as_they_finish(stream: Streamer, server: FakeServer) -> None:
    def seen(result: StreamResult[Any]) -> None:
        if result.key == 3:
            server.classifier.release()

    results = stream([b"hold 0", b"hold 1", b"now 2", b"now 3"], seen=seen)
    # What the fake holds it answers when released, newest first.
    assert keys(results) == [2, 3, 1, 0]


def test_answers_come_in_order_on_request(stream: Streamer, server: FakeServer) -> None:
    server.classifier.release_after = 4
    results = stream([b"hold 0", b"now 1", "gone.png", b"bad 3", b"now 4"], ordered=True)
    assert keys(results) == [0, 1, "gone.png", 3, 4]


def test_one_bad_picture_fails_alone(stream: Streamer, tmp_path: Path) -> None:
    too_long = bytes(_requests.MAX_IMAGE_BYTES + 1)
    longest = b"bad".ljust(_requests.MAX_IMAGE_BYTES)
    closed = Image.new("RGB", (4, 3))
    closed.close()
    of_no_rows = Image.new("RGB", (4, 0))
    images = [
        *(b"a", tmp_path, "gone.png", b"bad", b"busy", too_long, longest, b"b"),
        *(closed, of_no_rows, b"c"),
    ]
    results = {str(result.key): result for result in stream(images)}
    reasons = {key: result.error.reason for key, result in results.items() if result.error}
    assert reasons == {
        str(tmp_path): "FILE_UNREADABLE",
        "gone.png": "FILE_UNREADABLE",
        "3": "IMAGE_UNUSABLE",
        "4": "OVERLOADED",
        "5": "IMAGE_TOO_LONG",
        "6": "IMAGE_UNUSABLE",
        "8": "IMAGE_UNUSABLE",
        "9": "IMAGE_UNUSABLE",
    }
    assert results["0"].unwrap().label == "a"
    assert results["7"].unwrap().label == "b"
    assert results["10"].unwrap().label == "c"
    with pytest.raises(pagesight.OverloadedError) as busy:
        results["4"].unwrap()
    assert busy.value.retry_after_s == 0.25


def test_no_more_is_in_flight_than_allowed(stream: Streamer, server: FakeServer) -> None:
    taken: list[int] = []
    results: Results = []

    def images() -> Iterator[bytes]:
        for number in range(40):
            taken.append(number)
            yield b"hold"

    def wait_for_more() -> None:
        server.classifier.wait_until_owed(4)
        stayed.append(server.classifier.owes_no_more_than(4, for_s=0.2))
        stayed.append(len(taken) == 4)
        server.classifier.release()

    def seen(result: StreamResult[Any]) -> None:
        results.append(result)
        # What the caller has not fetched yet counts: nothing piles up behind it.
        assert len(taken) <= len(results) + 4

    stayed: list[bool] = []
    watcher = threading.Thread(target=wait_for_more)
    watcher.start()
    stream(images(), max_in_flight=4, seen=seen)
    watcher.join()
    assert stayed == [True, True]
    assert sorted(keys(results)) == list(range(40))
    assert server.classifier.most_owed == 4


def test_options_go_with_every_picture(stream: Streamer, server: FakeServer) -> None:
    stream([b"a", b"b"], gallery="apps", top_k=2, priority="high")
    assert [query.gallery for query in server.classifier.queries] == ["apps", "apps"]
    assert [query.image for query in server.classifier.queries] == [b"a", b"b"]
    assert {query.options.top_k for query in server.classifier.queries} == {2}


def test_wrong_arguments_are_refused_before_anything_is_sent(server: FakeServer) -> None:
    with Client(server.address) as client:
        with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
            client.classify_stream([b"a"], max_in_flight=0)
        with pytest.raises(TypeError, match="no such option: galery"):
            client.classify_stream([b"a"], galery="x")  # type: ignore[call-overload]


def test_a_source_that_breaks_is_heard_after_the_answers_to_what_it_gave(
    stream: Streamer,
) -> None:
    def images() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise LookupError("the source is broken")

    results: Results = []
    with pytest.raises(LookupError, match="the source is broken"):
        stream(images(), seen=results.append)
    assert sorted(keys(results)) == [0, 1]


def test_what_is_no_picture_is_the_callers_mistake(stream: Streamer) -> None:
    with pytest.raises(TypeError, match="bytes or the path of a file, not float"):
        stream([b"a", 1.5])


def test_a_server_that_hangs_up_ends_the_stream_with_its_reason(stream: Streamer) -> None:
    for _ in range(20):  # grpc.aio loses the server's status now and then
        results: Results = []
        with pytest.raises(pagesight.UnavailableError, match="shutting down") as gone:
            stream([b"a", b"hang up", *[b"hold".ljust(50_000)] * 14], seen=results.append)
        assert gone.value.reason == "SHUTTING_DOWN"
        assert keys(results) == [0]


def test_a_server_that_leaves_without_a_word_is_noticed(stream: Streamer) -> None:
    with pytest.raises(pagesight.UnavailableError, match=r"answers still owed|ended the call"):
        stream([b"leave", b"hold"])


def test_an_answer_that_nobody_asked_for_is_a_bug_of_the_server(stream: Streamer) -> None:
    with pytest.raises(pagesight.InternalError, match="answered 'abc', which nobody asked"):
        stream([b"foreign"])


def test_a_broken_stream_goes_on_with_what_has_no_answer(
    stream: Streamer, server: FakeServer
) -> None:
    server.classifier.breaks = 2

    def seen(result: StreamResult[Any]) -> None:
        if result.key == 3:
            server.classifier.release()

    results = stream([b"a", b"hold 1", b"break 2", b"b"], seen=seen)
    assert sorted(keys(results)) == [0, 1, 2, 3]
    assert {result.key: result.unwrap().label for result in results}[2] == "break 2"
    ids = server.classifier.request_ids
    assert ids.count("0") == 1  # it was answered before
    # On each of the three connections, in their order and never twice.
    assert [request_id for request_id in ids if request_id in "12"] == ["1", "2"] * 3


def test_a_stream_may_break_as_often_as_it_makes_progress(
    stream: Streamer, server: FakeServer
) -> None:
    server.classifier.breaks = 1
    # Twelve times in all; three attempts in a row are made without an answer between.
    results = stream([b"break %d" % n if n % 2 else b"a" for n in range(24)], max_in_flight=1)
    assert keys(results) == list(range(24))
    assert all(result.error is None for result in results)


async def test_a_server_that_ends_calls_in_good_order_is_no_failure(server: FakeServer) -> None:
    server.classifier.breaks = 1
    pictures = [b"part %d" % n if n % 2 else b"a".ljust(50_000) for n in range(40)]
    async with AsyncClient(server.address, retry_for_s=0) as client:
        results = [result async for result in client.classify_stream(pictures)]
    assert sorted(keys(results)) == list(range(40))
    assert all(result.error is None for result in results)
    with Client(server.address, retry_for_s=0) as waiting:
        server.classifier._broken.clear()
        assert sorted(keys(list(waiting.classify_stream(pictures)))) == list(range(40))


def test_in_order_also_over_several_connections(stream: Streamer, server: FakeServer) -> None:
    server.classifier.breaks = 1
    results = stream([b"a", b"b", b"break", b"c", b"d"], ordered=True)
    assert keys(results) == [0, 1, 2, 3, 4]


def test_a_picture_without_a_place_is_sent_again_on_the_same_stream(
    stream: Streamer, server: FakeServer
) -> None:
    server.classifier.sheds = 2
    results = stream([b"shed", b"a"])
    assert {result.key: result.unwrap().label for result in results} == {0: "shed", 1: "a"}
    assert server.classifier.request_ids.count("0") == 3


def test_a_picture_that_cannot_be_used_is_sent_once(stream: Streamer, server: FakeServer) -> None:
    [result] = stream([b"bad"])
    assert isinstance(result.error, pagesight.InvalidImageError)
    assert server.classifier.request_ids == ["0"]


def test_a_picture_that_nobody_answers_fails_alone(
    stream: Streamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Time passes when a result was seen: else a busy machine would let the answered one expire.
    now_s = [100.0]
    monkeypatch.setattr("pagesight._ledger.time", SimpleNamespace(monotonic=lambda: now_s[0]))

    def seen(result: StreamResult[Any]) -> None:
        now_s[0] += 0.3 if result.key == 1 else END_GRACE_S

    results = stream([b"mute", b"a"], timeout_s=0.3, seen=seen)
    assert keys(results) == [1, 0]
    assert isinstance(results[1].error, pagesight.DeadlineExceededError)
    assert "for 0.3 s" in results[1].error.message


async def test_an_answer_that_came_while_the_event_loop_stood_still_is_heard(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("pagesight._ledger.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    monkeypatch.setattr("pagesight._aio_stream.STANDSTILL_GRACE_S", WAIT_S)
    async with AsyncClient(server.address, timeout_s=5.0, retry=QUICK) as client:
        results = client.classify_stream([b"hold", b"a"])
        assert (await anext(results)).key == 1
        server.classifier.release()  # What came by now, nobody has read: the loop did not turn.
        now_s[0] += 10.0
        assert (await anext(results)).unwrap().label == "hold"


def test_no_server_is_one_error(stream: Streamer, server: FakeServer) -> None:
    server.stop()
    with pytest.raises(pagesight.UnavailableError, match="no server answers at"):
        stream([b"a"] * 100)


def test_leaving_early_gives_the_stream_up(stream: Streamer, server: FakeServer) -> None:
    endless = (b"a" for _ in iter(int, 1))
    assert keys(stream(endless, take=3, max_in_flight=2)) == [0, 1, 2]
    assert server.classifier.stream_ended.wait(WAIT_S)


def test_a_slow_source_holds_back_no_answer(server: FakeServer) -> None:
    answered = threading.Event()
    labels = []

    def images() -> Iterator[bytes]:
        yield b"a"
        assert answered.wait(WAIT_S)
        yield b"b"

    with Client(server.address) as client:
        for result in client.classify_stream(images()):
            labels.append(result.unwrap().label)
            answered.set()
    assert labels == ["a", "b"]


async def test_a_slow_async_source_holds_back_no_answer(server: FakeServer) -> None:
    answered = asyncio.Event()

    async def images() -> AsyncIterator[tuple[str, bytes]]:
        yield "first", b"a"
        await asyncio.wait_for(answered.wait(), WAIT_S)
        yield "second", b"b"

    labels = {}
    async with AsyncClient(server.address) as client:
        async for result in client.classify_stream(images()):
            labels[result.key] = result.unwrap().label
            answered.set()
    assert labels == {"first": "a", "second": "b"}


async def test_cancelling_the_caller_gives_the_stream_up(server: FakeServer) -> None:
    async def consume(client: AsyncClient) -> None:
        async for _ in client.classify_stream([b"hold"]):
            raise AssertionError("nothing is released")

    async with AsyncClient(server.address) as client:
        task = asyncio.create_task(consume(client))
        await asyncio.to_thread(server.classifier.wait_until_owed, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.classifier.stream_ended.wait, WAIT_S)
        await no_task_is_left()


def test_many_threads_share_one_client(server: FakeServer) -> None:
    with Client(server.address) as client, ThreadPoolExecutor(4) as pool:
        images = [[f"{thread}-{at}".encode() for at in range(25)] for thread in range(4)]
        batches = list(pool.map(lambda batch: list(client.classify_stream(batch)), images))
    for batch, results in zip(images, batches, strict=True):
        labels = {result.key: result.unwrap().label.encode() for result in results}
        assert [labels[at] for at in range(25)] == batch
