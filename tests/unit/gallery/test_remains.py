"""What is said of a database that may still hold what was purged."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import PostgresUrl
from tests.support.postgres import PostgresServer
from tests.support.stores import enrol, picture_id


def places(store: Gallery) -> list[str]:
    """What stands before the explanations."""
    return [line.partition(" (")[0].partition(":")[0] for line in store.remains()]


def test_after_a_purge_the_places_are_named_that_no_client_can_empty(
    postgres: PostgresServer, postgres_url: PostgresUrl
) -> None:
    with closing(Gallery(postgres_url)) as store:
        enrol(store, {"one": "a", "two": "a"})
        assert store.remains() == []
        store.purge([picture_id("one")], author="mei")
        at = postgres.execute("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')")[0][0]
        told = [line for line in store.remains() if not line.startswith("dead rows")]
        assert len(told) == 2
        assert told[0].startswith("write-ahead log: ")
        assert told[1].startswith("backups and dumps of the database, and snapshots of its disks")
        assert str(at) in told[0]
        assert str(at) in told[1]
        assert "max_wal_size = 1GB" in told[0]
        assert "CHECKPOINT" in told[0]
        postgres.execute("SELECT pg_create_physical_replication_slot('standby_1')")
        try:
            assert "replication slots" in places(store)
            (slots,) = (line for line in store.remains() if line.startswith("replication"))
            assert "(standby_1)" in slots
        finally:
            postgres.execute("SELECT pg_drop_replication_slot('standby_1')")


def test_of_a_file_nothing_remains_that_a_purge_does_not_reach(tmp_path: Path) -> None:
    with closing(Gallery(tmp_path / "gallery.db")) as store:
        enrol(store, {"one": "a"})
        store.purge([picture_id("one")], author="mei")
        assert store.remains() == []
