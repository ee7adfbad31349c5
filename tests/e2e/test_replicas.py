"""Callers of three servers that share a store, while the servers are stopped, killed and halted.

    two streams, one in order, one of many after another ─┐
    enrolment, and a call for what was enrolled ──────────┴─> three servers ── one store
                                                           ^── SIGTERM, SIGKILL, SIGSTOP

However a server ends, each picture has one answer, from a revision that was asked for or a later
one, and no caller sees an error. The models are fakes: they answer by colour.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeAlias

import pytest

from pagesight import AsyncClient, Client, EnrolItem, StreamResult
from pagesight_server.gallery.location import PostgresUrl
from tests.support.pictures import GREEN, RED, solid
from tests.support.postgres import PostgresServer
from tests.support.replicas import LONGEST_S, Replica, replicas, start_together, until

pytestmark = pytest.mark.heavy

ENCODE_MS = 5.0
PACE_S = 0.03
"""Between two pictures of a stream: a third of what the servers can answer on two busy cores."""
KEEPALIVE_S = 1.0
"""A server that stands still is given up after this and five seconds more."""
LEISURE_S = 0.1
"""Between two pictures where their times are compared. Streams that the servers can hardly follow
wait in a queue, which makes much of any moment in which there is less CPU."""
LEAST_S = 0.03
"""No quiet p99 counts as less. Three times as much is below a tenth of a second, a quarter of what
a picture takes with real models (docs/benchmarks.md); with these it may take 20 ms."""
RESTARTS = 3
"""Of three servers each, so that nine stops are compared."""
SETTINGS = {
    "PAGESIGHT_SERVER__MIN_PING_INTERVAL_SECONDS": "0.2",
    "PAGESIGHT_SERVER__LAME_DUCK_SECONDS": "0.5",
}


Period: TypeAlias = tuple[float, float]
"""When something began and when it ended, by `time.monotonic`."""


class Callers:
    """Two streams and an enrolment, each in a thread, until they are told to end.

    Args:
        addresses: The servers.
        at_least: Pictures of each stream.
        pace_s: How long each stream waits between two.
    """

    def __init__(self, addresses: Sequence[str], at_least: int, pace_s: float) -> None:
        self._addresses = addresses
        self._at_least = at_least
        self._pace_s = pace_s
        self._ending = threading.Event()
        self._pause = threading.Event()
        self.failures: list[BaseException] = []
        self.revision = 0
        """The newest that an enrolment was told."""
        self.answered = [0, 0]
        """Pictures of each stream that have their answer."""
        self._times_s: list[tuple[float, float]] = []
        """Of each of them when it was given to the client, by `time.monotonic`, and how long its
        answer took from then."""
        self.enrolled = 0
        self._threads = [
            threading.Thread(target=self._run, args=(work,))
            for work in (self._stream_in_order, self._stream_by_parts, self._enrol)
        ]

    def start(self) -> None:
        """Enrols the pages, and begins."""
        with self._client() as client:
            pages = [
                EnrolItem(image=solid(RED), label="red"),
                EnrolItem(image=solid(GREEN), label="green"),
            ]
            self.revision = client.enrol(pages).revision
        for thread in self._threads:
            thread.start()

    def took_s(self, *periods: Period) -> list[float]:
        """Returns how long pictures took that either client was given in these periods."""
        return [
            took_s
            for asked_s, took_s in self._times_s
            if any(began_s <= asked_s < ended_s for began_s, ended_s in periods)
        ]

    def end(self) -> None:
        """Lets all come to their end, and raises what any of them met."""
        self._ending.set()
        for thread in self._threads:
            thread.join(LONGEST_S)
        for failure in self.failures:
            raise failure
        assert not any(thread.is_alive() for thread in self._threads)

    def are_well(self) -> bool:
        """Tells whether none has met an error."""
        return not self.failures

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            self.failures.append(failure)

    def _client(self) -> Client:
        return Client(self._addresses, keepalive_s=KEEPALIVE_S)

    def _goes_on(self, number: int) -> bool:
        return self.are_well() and not (self._ending.is_set() and number >= self._at_least)

    def _note(
        self, stream: int, result: StreamResult[tuple[int, float]], label: str, revision: int
    ) -> int:
        """Checks an answer; returns the number of its picture."""
        number, asked_s = result.key
        answer = result.unwrap()
        assert answer.closest_label == label
        assert answer.revision >= revision
        self._times_s.append((asked_s, time.monotonic() - asked_s))
        self.answered[stream] += 1
        return number

    def _stream_in_order(self) -> None:
        revision = self.revision

        def pictures() -> Iterator[tuple[tuple[int, float], bytes]]:
            number = 0
            while self._goes_on(number):
                self._pause.wait(self._pace_s)
                image = solid((200, number // 100 % 100, number % 100))
                yield (number, time.monotonic()), image
                number += 1

        with self._client() as client:
            results = client.classify_stream(pictures(), ordered=True, min_revision=revision)
            for expected, result in enumerate(results):
                assert self._note(0, result, "red", revision) == expected

    def _stream_by_parts(self) -> None:
        async def pictures(first: int) -> AsyncIterator[tuple[tuple[int, float], bytes]]:
            for number in range(first, first + 50):
                await asyncio.sleep(self._pace_s)
                image = solid((number // 100 % 100, 200, number % 100))
                yield (number, time.monotonic()), image

        async def streams() -> None:
            number = 0
            async with AsyncClient(self._addresses, keepalive_s=KEEPALIVE_S) as client:
                while self._goes_on(number):
                    revision = self.revision
                    results = client.classify_stream(pictures(number), min_revision=revision)
                    seen = [self._note(1, result, "green", revision) async for result in results]
                    assert sorted(seen) == list(range(number, number + 50))
                    number += 50

        asyncio.run(streams())

    def _enrol(self) -> None:
        number = 0
        with self._client() as client:
            while self._goes_on(self._at_least):
                image = solid((number // 100 % 100, number % 100, 200))
                change = client.enrol([EnrolItem(image=image, label="blue")])
                # It is made once, however often it was sent, and whoever made it.
                assert change.revision == self.revision + 1
                self.revision = change.revision
                answer = client.classify(image, min_revision=change.revision)
                assert answer.closest_label == "blue"
                assert answer.revision >= change.revision
                self.enrolled += 1
                number += 1
                self._pause.wait(10 * self._pace_s)


@contextmanager
def calling(servers: Sequence[Replica], at_least: int, pace_s: float = PACE_S) -> Iterator[Callers]:
    """Has callers at work for the time of the block; raises what they met."""
    callers = Callers([server.address for server in servers], at_least, pace_s)
    callers.start()
    try:
        until_both(callers, 40)
        yield callers
    finally:
        callers.end()


def until_both(callers: Callers, more: int) -> None:
    """Waits until each stream has so many more answers."""
    enough = [answered + more for answered in callers.answered]
    until(
        lambda: all(now >= then for now, then in zip(callers.answered, enough, strict=True)),
        f"{more} more answers of each stream",
        working=callers.are_well,
    )


def until_enrolled(callers: Callers, more: int = 3) -> None:
    """Waits until so many more pictures are enrolled."""
    enough = callers.enrolled + more
    until(
        lambda: callers.enrolled >= enough,
        f"{more} more pictures that are enrolled",
        working=callers.are_well,
    )


def until_used(server: Replica, callers: Callers, more: int = 10) -> None:
    """Waits until a server has been sent so many more pictures."""
    enough = server.pictures() + more
    until(
        lambda: server.pictures() >= enough,
        f"{more} more pictures at {server.address}",
        working=callers.are_well,
    )


def period(work: Callable[[], object]) -> Period:
    """Does something, and returns when."""
    began_s = time.monotonic()
    work()
    return began_s, time.monotonic()


def until_over(earlier: Period, callers: Callers) -> None:
    """Waits as long as something earlier took."""
    began_s, ended_s = earlier
    over_s = time.monotonic() + ended_s - began_s
    until(lambda: time.monotonic() >= over_s, "time passes", working=callers.are_well)


def stop(server: Replica) -> None:
    """Has a server end in good order."""
    server.signal(signal.SIGTERM)
    assert server.ended() == 0, server.log.read_text("utf-8")


def stop_and_start(server: Replica, callers: Callers) -> None:
    """Has a server end in good order, and start again."""
    stop(server)
    server.start()
    until_used(server, callers)


def kill_and_start(server: Replica, callers: Callers) -> None:
    """Kills a server and starts it again."""
    server.signal(signal.SIGKILL)
    assert server.ended() == -signal.SIGKILL
    until_both(callers, 20)
    server.start()
    until_used(server, callers)


def halt(server: Replica, callers: Callers) -> None:
    """Has a server stand still until all that it held has its answer elsewhere, and go on."""
    server.signal(signal.SIGSTOP)
    until_both(callers, 40)  # More than may be in flight: nothing waits for the one that stands.
    server.signal(signal.SIGCONT)
    until_used(server, callers)


FAULTS = (stop_and_start, kill_and_start, halt)


def check_logs(servers: Sequence[Replica]) -> None:
    """No server has met an error of its own."""
    for server in servers:
        assert "Traceback" not in server.log.read_text("utf-8")


def test_callers_do_not_notice_how_servers_end(tmp_path: Path) -> None:
    store = str(tmp_path / "gallery.db")
    with replicas(3, tmp_path, store=store, encode_ms=ENCODE_MS, variables=SETTINGS) as servers:
        with calling(servers, at_least=100) as callers:
            for server in servers:
                until_used(server, callers)  # All have a part.
            for fault, server in zip(FAULTS, servers, strict=True):
                fault(server, callers)
        check_logs(servers)
    assert callers.enrolled


@pytest.mark.slow
def test_callers_do_not_notice_any_end_of_any_server(tmp_path: Path) -> None:
    store = str(tmp_path / "gallery.db")
    with replicas(3, tmp_path, store=store, encode_ms=ENCODE_MS, variables=SETTINGS) as servers:
        with calling(servers, at_least=2_000) as callers:
            for fault in FAULTS:
                for server in servers:
                    fault(server, callers)
        check_logs(servers)
    assert min(callers.answered) >= 2_000


@pytest.mark.slow
def test_a_rolling_restart_slows_nobody_where_new_servers_serve_before_old_ones_stop(
    tmp_path: Path,
) -> None:
    """As Kubernetes does it with `maxSurge` above 0 and `maxUnavailable: 0`.

    Starting takes CPU seconds, here of the cores that all share, so it is over before anything is
    compared: what is left is what a drain and the move of the streams cost. Others may use the
    cores too. So each stop is compared with a time just as long that follows it, in which nothing
    happens, and the median of all counts: a load that comes and goes slows some of either.
    """
    store = str(tmp_path / "gallery.db")
    with replicas(6, tmp_path, store=store, encode_ms=ENCODE_MS, variables=SETTINGS) as servers:
        old, new = servers[:3], servers[3:]
        with calling(servers, at_least=100, pace_s=LEISURE_S) as callers:
            ratios = []
            for _ in range(RESTARTS):
                absent = [server for server in new if not server.runs()]
                starting = period(partial(start_together, absent))
                for server in (*old, *new):
                    until_used(server, callers)  # It has its part of the streams.
                stops, steady = [], []
                for server in old:
                    until_both(callers, 10)  # What came before is over.
                    stops.append(period(partial(stop, server)))
                    until_both(callers, 10)
                    steady.append(period(partial(until_over, stops[-1], callers)))
                until_both(callers, 40)  # More than may be in flight.
                for stopping, quiet in zip(stops, steady, strict=True):
                    quiet_s = max(LEAST_S, p99(callers.took_s(quiet)))
                    ratios.append(p99(callers.took_s(stopping)) / quiet_s)
                report(callers, starts=[starting], stops=stops, steady=steady)
                old, new = new, old
            print(f"ratios of p99: {sorted(round(ratio, 2) for ratio in ratios)}")  # noqa: T201
            assert median(ratios) <= 3.0
        check_logs(servers)


@pytest.mark.slow
def test_callers_do_not_notice_a_restart_of_the_database_either(
    tmp_path: Path, postgres: PostgresServer, postgres_url: PostgresUrl
) -> None:
    with replicas(
        3, tmp_path, store=postgres_url, encode_ms=ENCODE_MS, variables=SETTINGS
    ) as servers:
        with calling(servers, at_least=2_000) as callers:
            for fault, server in zip(FAULTS, servers, strict=True):
                fault(server, callers)
            for fault, server in zip(FAULTS[::-1], servers, strict=True):
                postgres.kill()
                until_both(callers, 20)  # Screenshots need no store.
                postgres.restart()
                until_enrolled(callers)
                fault(server, callers)
        check_logs(servers)


@pytest.mark.slow
def test_callers_do_not_notice_the_ends_of_servers_of_several_processes(tmp_path: Path) -> None:
    store = str(tmp_path / "gallery.db")
    with replicas(
        2, tmp_path, store=store, encode_ms=ENCODE_MS, processes=2, variables=SETTINGS
    ) as servers:
        with calling(servers, at_least=100) as callers:
            for server in (*servers, *servers):
                stop_and_start(server, callers)
        check_logs(servers)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(values)[int(0.99 * (len(values) - 1))]


def report(callers: Callers, **phases: Sequence[Period]) -> None:
    """Prints how long pictures took in each phase, and how busy the machine is."""
    told = []
    for name, periods in phases.items():
        if took_s := callers.took_s(*periods):
            told.append(f"{name} {1000 * p99(took_s):.0f} ms of {len(took_s)}")
    print(f"p99: {', '.join(told)}; load {os.getloadavg()[0]:.0f}")  # noqa: T201
