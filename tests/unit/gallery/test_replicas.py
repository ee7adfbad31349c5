"""What replicas note in the store, and what a purge learns of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery import Change, Gallery, backup
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.replicas import DROPPED_MS, SILENT_MS, Replica
from tests.support.stores import enrol, picture_id


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location)
    yield opened
    opened.close()


def silence(store: Gallery, name: str, ms: int) -> None:
    """Sets the clock of a replica's last note back."""
    with store.database.writing() as db:
        db.execute(
            "UPDATE replicas SET seen_at_ms = seen_at_ms - :ms WHERE name = :name",
            {"ms": ms, "name": name},
        )


def names(replicas: tuple[Replica, ...]) -> list[str]:
    return [replica.name for replica in replicas]


def test_a_replica_is_known_by_its_last_note_until_it_leaves(store: Gallery) -> None:
    store.beat("1", "a:50051", {"default": 1})
    store.beat("1", "a:50051", {"default": 2, "其他": 1})
    (replica,) = store.replicas()
    assert (replica.name, replica.revisions) == ("a:50051", {"default": 2, "其他": 1})
    assert 0 <= replica.silent_ms < SILENT_MS
    store.leave("1")
    assert store.replicas() == []


def test_one_replica_claims_a_calibration_while_it_is_there_and_does_not_take_it_back(
    store: Gallery,
) -> None:
    enrol(store, {"one": "a"})

    def claims(replica: str, *, revision: int = 1, method: str = "m") -> bool:
        return store.claim_calibration("default", revision, method, replica)

    for replica in ("1", "2"):
        store.beat(replica, f"replica {replica}", {})
    assert claims("1")
    assert claims("1")
    assert not claims("2")
    assert claims("2", revision=2)
    assert claims("2", method="other")
    store.drop_claim("default", "m", "2")  # that of revision 2
    assert not claims("2")
    store.drop_claim("default", "m", "1")
    assert claims("2")
    silence(store, "replica 2", SILENT_MS + 1_000)
    assert claims("1")
    assert not claims("2")
    store.beat("1 again", "replica 1", {})  # it was killed, and is there again within a second
    assert claims("1 again")
    store.leave("1 again")
    store.beat("2", "replica 2", {})
    assert claims("2")
    # A claim is no calibration, and no damage.
    assert store.calibration("default", 1, "m") is None
    assert backup.check(store) == []
    with pytest.raises(NotFoundError):
        store.claim_calibration("none", 1, "m", "1")


def test_a_purge_is_forgotten_by_who_has_loaded_its_revision(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})
    enrol(store, {"one": "a"}, gallery="second")
    enrol(store, {"three": "a"}, gallery="third")
    store.purge([picture_id("one")], author="mei")  # revision 2 of the two galleries that had it
    store.beat("1", "has both", {"default": 2, "second": 3})
    store.beat("2", "has one", {"default": 2, "second": 1, "third": 1})
    store.beat("3", "reads one", {"default": 2, "third": 1})
    store.beat("4", "was killed", {"default": 1, "second": 1})
    store.beat("5", "ended with it", {"default": 2, "second": 2})
    silence(store, "was killed", SILENT_MS + 1_000)
    silence(store, "ended with it", SILENT_MS + 1_000)
    found = store.forgetting([picture_id("one")])
    assert names(found.forgotten) == ["ended with it", "has both"]
    assert names(found.remembering) == ["has one", "reads one"]
    assert names(found.silent) == ["was killed"]
    assert not found.is_complete
    # Asked again of the same picture, and of one that is purged later.
    store.purge([picture_id("one")], author="mei")
    assert names(store.forgetting([picture_id("one")]).remembering) == ["has one", "reads one"]
    store.purge([picture_id("three")], author="mei")
    assert names(store.forgetting([picture_id("three")]).remembering) == [
        "has both", "has one", "reads one",
    ]  # fmt: skip


def test_of_a_deleted_gallery_a_replica_has_forgotten_what_it_no_longer_has(
    store: Gallery,
) -> None:
    enrol(store, {"one": "a"})
    store.delete(Change())
    store.purge([picture_id("one")], author="mei")
    store.beat("1", "dropped it", {})
    store.beat("2", "has it", {"default": 1})
    found = store.forgetting([picture_id("one")])
    assert (names(found.forgotten), names(found.remembering)) == (["dropped it"], ["has it"])


def test_a_silent_replica_is_replaced_by_the_next_of_its_name_and_dropped_after_a_day(
    store: Gallery,
) -> None:
    store.beat("1", "a:50051", {})
    store.beat("2", "a:50051", {})
    assert names(tuple(store.replicas())) == ["a:50051", "a:50051"]  # both are heard of
    silence(store, "a:50051", SILENT_MS + 1_000)
    store.beat("3", "a:50051", {})
    store.beat("4", "b:50051", {})
    assert names(tuple(store.replicas())) == ["a:50051", "b:50051"]
    silence(store, "b:50051", DROPPED_MS + 1_000)
    store.beat("3", "a:50051", {})
    assert names(tuple(store.replicas())) == ["a:50051"]
