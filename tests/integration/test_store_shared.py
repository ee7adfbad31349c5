"""Replicas of one store on PostgreSQL: hints lost, connections cut, the database stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest

from pagesight_server.common.errors import StoreAwayError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import PostgresUrl
from pagesight_server.workflows.heartbeat import Heartbeat
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.postgres import PostgresServer, server_or_reason
from tests.support.serving import until
from tests.support.stores import enrol, picture_id

OFTEN_S = 0.02
SELDOM_S = 10 * WAIT_S
"""Polling so seldom finds nothing within a test: what is found was told."""

CUT = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE pid <> pg_backend_pid() AND application_name = 'pagesight'"
)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that this test may stop."""
    made = server_or_reason()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    made.close()


@asynccontextmanager
async def replica(url: PostgresUrl, interval_s: float) -> AsyncIterator[tuple[Gallery, Registry]]:
    """What a serving process knows of a store, and follows."""
    with closing(Gallery(url)) as store:
        registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
        await registry.load()
        following = asyncio.create_task(registry.follow(interval_s))
        try:
            yield store, registry
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            await registry.close()


async def reaches(registry: Registry, revision: int) -> None:
    """Waits until a revision is answered from, without asking the store for it."""
    async with asyncio.timeout(WAIT_S):
        await registry._table.wait_for_revision("default", revision)


async def test_a_change_is_told_to_replicas_that_do_not_look_for_it(
    postgres_url: PostgresUrl,
) -> None:
    async with (
        replica(postgres_url, SELDOM_S) as (store, first),
        replica(postgres_url, SELDOM_S) as (_, second),
    ):
        await asyncio.to_thread(enrol, store, {"one": "a"})
        await asyncio.gather(reaches(first, 1), reaches(second, 1))


async def test_a_hint_that_is_lost_is_made_up_for_by_looking(
    postgres_url: PostgresUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replica(postgres_url, OFTEN_S) as (store, registry):
        monkeypatch.setattr(store.database, "announce", lambda _db: None)
        await asyncio.to_thread(enrol, store, {"one": "a"})
        await reaches(registry, 1)


async def test_connections_that_are_cut_are_made_again_and_nothing_is_missed(
    server: PostgresServer,
) -> None:
    async with replica(server.new_store(), OFTEN_S) as (store, registry):
        for number in range(1, 4):
            server.execute(CUT)
            # Whoever changes something finds its connection dead before it has sent anything.
            await asyncio.to_thread(enrol, store, {f"picture {number}": "a"})
            await reaches(registry, number)
        await until(lambda: not registry.watch.is_away)


async def test_a_database_that_stops_is_outlived_and_caught_up_with(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pagesight_server")
    url = server.new_store()
    async with replica(url, OFTEN_S) as (store, registry):
        await asyncio.to_thread(enrol, store, {"one": "a", "two": "b"})
        await reaches(registry, 1)
        heartbeat = Heartbeat(store, "a:50051", registry.revisions)
        server.kill()
        await until(lambda: registry.watch.is_away)
        assert registry.get("default").snapshot.revision == 1
        with pytest.raises(StoreAwayError):
            registry.watch.check()
        with pytest.raises(StoreAwayError):
            await asyncio.to_thread(enrol, store, {"three": "a"})
        assert not await registry.wait_for_revision("default", 2, 0.01)
        await heartbeat.beat()  # an error of nobody's
        waiting = asyncio.create_task(registry.wait_for_revision("default", 2, WAIT_S))
        server.restart()
        # By another process, as soon as it can.
        with closing(Gallery(url)) as other:
            enrol(other, {"three": "a"})
            assert await waiting
            await heartbeat.beat()
            assert [replica.revisions for replica in other.replicas()] == [{"default": 2}]
            other.purge([picture_id("two")], author="mei")
            assert other.forgetting([picture_id("two")]).remembering
            await reaches(registry, 3)
            await heartbeat.beat()
            assert other.forgetting([picture_id("two")]).is_complete
    told = [record.getMessage() for record in caplog.records]
    assert len([line for line in told if line.startswith("the store is away: ")]) == 1
    assert len([line for line in told if line.startswith("the store is back after ")]) == 1
    assert len(told) == 2
