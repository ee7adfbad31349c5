"""Several writers of one PostgreSQL database at once, and what is left when it is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace

import pytest

from pagesight_server.common.errors import (
    PurgedError,
    StoreAwayError,
)
from pagesight_server.gallery import Applied, Change, Entry, Gallery, backup
from pagesight_server.gallery.location import PostgresUrl
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.postgres import WRITERS, PostgresServer, at_once
from tests.support.stores import content, enrol, picture_id, put


@pytest.fixture
def store(postgres_url: PostgresUrl) -> Iterator[Gallery]:
    opened = Gallery(postgres_url)
    yield opened
    opened.close()


# --- several writers --------------------------------------------------------------------


def test_the_order_of_revisions_is_the_order_of_commits(store: Gallery) -> None:
    enrol(store, {"first": "a"})
    done = threading.Event()
    seen: list[list[int]] = []

    def watch() -> None:
        with closing(Gallery(store.location)) as watching:
            while not done.is_set():
                seen.append([made.revision for made in watching.history("default", limit=1000)])

    def write(mine: Gallery, number: int) -> list[int]:
        return [enrol(mine, {f"p{number} {i}": "a"}).revision for i in range(10)]

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert isinstance(store.location, PostgresUrl)
    told = at_once(store.location, write)
    done.set()
    watcher.join(WAIT_S)
    # Had a later revision been committed first, somebody could have seen it without the earlier.
    assert seen
    assert all(revisions == list(range(len(revisions), 0, -1)) for revisions in seen)
    revisions = sorted(revision for mine in told for revision in mine)  # type: ignore[attr-defined]
    assert revisions == list(range(2, 10 * WRITERS + 2))
    assert [made.images for made in store.history("default", limit=1000)] == list(
        range(10 * WRITERS + 1, 0, -1)
    )
    assert backup.check(store) == []


@pytest.mark.parametrize("before", [None, "dead"])
def test_of_many_who_claim_a_calibration_at_once_one_has_it(
    store: Gallery, before: str | None
) -> None:
    enrol(store, {"one": "a"})
    if before is not None:
        store.beat(before, before, {})
        assert store.claim_calibration("default", 1, "m", before)
        store.leave(before)

    def claim(mine: Gallery, number: int) -> bool:
        return mine.claim_calibration("default", 1, "m", str(number))

    for number in range(WRITERS):
        store.beat(str(number), str(number), {})
    assert isinstance(store.location, PostgresUrl)
    assert at_once(store.location, claim).count(True) == 1


def test_of_many_who_make_a_gallery_at_once_one_makes_it(store: Gallery) -> None:
    for i in range(WRITERS):
        put(store, f"p{i}")

    def make(mine: Gallery, number: int) -> int:
        entries = [Entry(image_id=picture_id(f"p{number}"), label="a")]
        return mine.enrol(Change(), entries, BUNDLES).revision

    assert isinstance(store.location, PostgresUrl)
    assert set(at_once(store.location, make)) == set(range(1, WRITERS + 1))
    assert len(store.snapshot().pictures) == WRITERS


def test_a_request_that_many_make_at_once_is_made_once(store: Gallery) -> None:
    put(store, "one")
    change = Change(request_id="r1", expected_revision=0)

    def repeat(mine: Gallery, number: int) -> Applied:
        return mine.enrol(change, [Entry(image_id=picture_id("one"), label="a")], BUNDLES)

    assert isinstance(store.location, PostgresUrl)
    answers = at_once(store.location, repeat)
    assert answers == [answers[0]] * WRITERS
    assert store.revisions() == {"default": 1}


def test_many_that_store_one_picture_keep_its_better_form(store: Gallery) -> None:
    original = content("one")
    forms = [original, content("one"), *[None] * 6]

    def keep(mine: Gallery, number: int) -> None:
        form = forms[number]
        mine.put_content(form or replace(original, data=b"small", is_thumbnail=True), BUNDLES)

    assert isinstance(store.location, PostgresUrl)
    at_once(store.location, keep)
    assert store.image_bytes(original.image_id) == b"one"
    assert backup.check(store) == []


def test_a_purge_among_enrolments_of_the_same_picture_is_final(store: Gallery) -> None:
    enrol(store, {"secret": "a"})
    secret = picture_id("secret")

    def work(mine: Gallery, number: int) -> None:
        if number == 0:
            mine.purge([secret], author="li")
            return
        for i in range(5):
            with suppress(PurgedError):
                put(mine, "secret")
            entries = [Entry(image_id=secret, label="b")]
            mine.enrol(Change(gallery=f"g{number} {i}"), entries, BUNDLES)
            mine.drop_unused([secret])

    assert isinstance(store.location, PostgresUrl)
    at_once(store.location, work)
    assert backup.check(store) == []
    for name in store.revisions():
        assert store.snapshot(name).pictures == ()
    with pytest.raises(PurgedError):
        store.has_content(secret, BUNDLES)


def test_of_many_who_open_an_empty_database_one_makes_the_tables(
    postgres_url: PostgresUrl,
) -> None:
    at_once(postgres_url, lambda mine, number: enrol(mine, {f"p{number}": "a"}))
    with closing(Gallery(postgres_url)) as opened:
        assert len(opened.snapshot().pictures) == WRITERS


def enrol_for_ever(store: Gallery, name: str, acknowledged: dict[str, int]) -> None:
    """Enrols until something fails, and notes what was acknowledged."""
    for i in range(100_000):
        applied = enrol(store, {f"{name} {i}": "a"})
        acknowledged[picture_id(f"{name} {i}")] = applied.revision


def killed_servers(rounds: int) -> None:
    """Kills the database again and again; what it acknowledged must be there."""
    server = PostgresServer()
    acknowledged: dict[str, int] = {}
    untold = 0
    try:
        with closing(Gallery(server.new_store())) as store:
            for number in range(rounds):
                stop = threading.Timer(0.2, server.kill)
                stop.start()
                with pytest.raises(StoreAwayError) as told:
                    enrol_for_ever(store, f"r{number}", acknowledged)
                assert "\n" not in str(told.value)
                stop.join()
                untold += 1
                server.restart()
                added = {p.image_id: p.added_revision for p in store.snapshot().pictures}
                assert acknowledged.items() <= added.items()
                assert len(added) - len(acknowledged) <= untold
                history = store.history("default", limit=100_000)
                assert [made.revision for made in history] == list(range(len(history), 0, -1))
                assert backup.check(store) == []
        assert len(acknowledged) > rounds
    finally:
        server.close()


def test_a_killed_database_loses_nothing_that_was_acknowledged(postgres: PostgresServer) -> None:
    killed_servers(2)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_database_killed_fifty_times_loses_nothing_that_was_acknowledged(
    postgres: PostgresServer,
) -> None:
    killed_servers(50)
