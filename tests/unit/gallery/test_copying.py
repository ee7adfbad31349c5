"""Stores copied into others: all of it, whatever the database, killed or changed on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Change, Gallery, KeepLimits, backup
from pagesight_server.gallery.copying import copy
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.tables import NO_CONTENT, TABLES
from tests.support.busy_store import fill
from tests.support.parts import BUNDLES
from tests.support.postgres import PostgresServer
from tests.support.stores import answered, enrol, file_of, picture_id, sqlite

OWN_COLUMNS = {
    # Numbers are each store's own: names stand for them.
    "galleries": {"id"},
    "answers": {"number"},
    "kept_answers": {"number"},
    "decisions": {"number"},
    "settlements": {"id"},
    "purged": {"scrubbed"},
}


def opened(location: StoreLocation) -> Gallery:
    return Gallery(location, incomplete=True)


@pytest.fixture(params=["sqlite to sqlite", "sqlite to postgresql", "postgresql to sqlite",
                        "postgresql to postgresql"])  # fmt: skip
def places(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, StoreLocation]:
    """Where a store is, and where it may be copied to."""
    source, target = request.param.split(" to ")

    def place(kind: str, file: str) -> StoreLocation:
        if kind == "sqlite":
            return tmp_path / file
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.new_store()

    return {"source": place(source, "from.db"), "target": place(target, "to.db")}


@pytest.fixture
def source(places: dict[str, StoreLocation]) -> StoreLocation:
    """A store with something in every table."""
    store = Gallery(places["source"])
    fill(store)
    store.close()
    return store.location


@pytest.fixture
def target(places: dict[str, StoreLocation]) -> StoreLocation:
    """Where nothing is yet."""
    return places["target"]


def test_every_column_of_the_schema_is_copied_or_said_to_be_none_of_the_content(
    tmp_path: Path,
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    db = sqlite(store)
    names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    tables = {table.name: table for table in TABLES}
    assert names == tables.keys() | NO_CONTENT
    for name, table in tables.items():
        columns = {row[1] for row in db.execute(f"PRAGMA table_info({name})")}
        stood_for = {"gallery": "gallery_id"}
        if name == "settled_images":
            stood_for = {"gallery": "settlement_id", "finding_key": "settlement_id"}
        told = {stood_for.get(column, column) for column in table.whole}
        assert told | OWN_COLUMNS.get(name, set()) == columns, name
    store.close()


def test_a_store_that_is_used_has_a_row_in_every_table(source: StoreLocation) -> None:
    with_rows = Gallery(source)
    assert not [name for name, table in with_rows.fingerprint().tables.items() if not table.rows]
    with_rows.close()


def test_a_copy_holds_all_that_the_store_holds(
    source: StoreLocation, target: StoreLocation
) -> None:
    told: list[tuple[str, int, int]] = []
    copied = copy(source, target, opened, progress=lambda *step: told.append(step))
    old, new = Gallery(source), Gallery(target)
    assert new.fingerprint() == old.fingerprint() == copied.fingerprint
    assert backup.check(new) == []
    assert new.revisions() == old.revisions() == {"default": 7, "二": 1}
    assert new.last_revisions() == old.last_revisions()
    assert new.history("default") == old.history("default")
    assert new.snapshot("default", 2).pictures == old.snapshot("default", 2).pictures
    assert new.settlements("default") == old.settlements("default")
    assert [one.answer for one in new.kept("default")] == [
        one.answer for one in old.kept("default")
    ]
    assert new.kept_features("default", BUNDLES)[0].reading is None
    assert [one.decision for one in new.decisions("default")] == [
        one.decision for one in old.decisions("default")
    ]
    assert [one.image_id for one in new.dismissed("default", BUNDLES)] == [
        one.image_id for one in old.dismissed("default", BUNDLES)
    ]
    assert new.purged() == [picture_id("gone")]
    assert new.replicas() == []
    # It goes on as the store would have: the next revision, and repeats that are answered.
    change = Change(request_id="r-0")
    assert new.remove(change, [picture_id("three")]).revision == 5
    assert enrol(new, {"five": "a"}).revision == 8
    new.rollback(Change(), 7)
    # Rows that are compared and rows that are verified, of both stores, are told to the last.
    rows = sum(table.rows for table in copied.fingerprint.tables.values())
    assert (told[0], told[-1]) == (("copying", 0, rows), ("verifying", 2 * rows, 2 * rows))
    assert ("copying", rows, rows) in told
    old.close()
    new.close()


def test_the_digest_follows_whatever_is_changed(source: StoreLocation) -> None:
    store = Gallery(source)
    seen = {store.fingerprint().sha256}
    changes: list[Callable[[], object]] = [
        lambda: store.put_calibration("default", 2, "pagesight 0.05 v1", '{"threshold": 0.6}'),
        lambda: store.unsettle("default", ["k1"]),
        lambda: store.remove(Change(), [picture_id("one")]),
        lambda: store.drop_unused([picture_id("never enrolled")]),
        lambda: store.keep([answered("next shot")], KeepLimits(answers=5)),
        lambda: store.withdraw_decisions("default", ["d1"]),
    ]
    for change in changes:
        change()
        seen.add(store.fingerprint().sha256)
    assert len(seen) == len(changes) + 1
    with store.database.writing() as db:
        db.execute("UPDATE images SET bytes = :bytes WHERE id = :id",
                   {"bytes": b"on3", "id": bytes.fromhex(picture_id("one"))})  # fmt: skip
    assert store.fingerprint().sha256 not in seen
    store.close()


class Killed(BaseException):
    """The copy ends here."""


def test_a_copy_that_is_killed_anywhere_goes_on_and_nobody_opens_it_meanwhile(
    source: StoreLocation, target: StoreLocation
) -> None:
    store = Gallery(source)
    whole = store.fingerprint()
    rows = sum(table.rows for table in whole.tables.values())
    store.close()
    # Each time a few rows further than the last, and at last in the middle of verifying.
    for stop in range(1, rows + 10, 7):
        count = 0

        def killed(_phase: str, _done: int, _of: int, stop: int = stop) -> None:
            nonlocal count
            count += 1
            if count > stop:
                raise Killed

        with pytest.raises(Killed):
            copy(source, target, opened, progress=killed)
        with pytest.raises(SetupError) as refused:
            Gallery(target)
        assert str(refused.value) == (
            f"{target} is a copy of {source} that is not complete: run `pagesight-server gallery "
            f"copy {source} {target}` again"
        )
    copied = copy(source, target, opened)
    assert copied.fingerprint == whole
    assert copied.put < rows  # what was put before is not put again
    Gallery(target).close()


def test_what_the_source_changed_since_a_copy_was_killed_is_changed_in_the_copy(
    source: StoreLocation, target: StoreLocation
) -> None:

    def killed(phase: str, _done: int, _of: int) -> None:
        if phase == "verifying":
            raise Killed

    with pytest.raises(Killed):
        copy(source, target, opened, progress=killed)
    store = Gallery(source)
    store.relabel(Change(), [picture_id("one")], "d")
    store.unsettle("default", ["k1"])
    store.purge([picture_id("two"), picture_id("a shot")], author="mei")
    store.keep([answered("next shot")], KeepLimits(answers=5))
    enrol(store, {"six": "a"})
    copied = copy(source, target, opened)
    assert copied.deleted > 0
    copy_of = Gallery(target)
    assert copy_of.fingerprint() == store.fingerprint()
    store.close()
    copy_of.close()
    if isinstance(target, Path):
        assert b"two" not in target.read_bytes()  # its bytes, and the name of its file
        assert b"a shot" not in target.read_bytes()


def test_a_source_that_changes_while_it_is_read_is_read_again(
    source: StoreLocation, target: StoreLocation
) -> None:
    store = Gallery(source)
    names = iter(("seven", "eight", "nine"))

    def changes(phase: str, done: int, _of: int) -> None:
        if phase == "verifying" and not done and (name := next(names, None)):
            enrol(store, {name: "a"})

    with pytest.raises(SetupError, match="was changed each time that it was read"):
        copy(source, target, opened, progress=changes)
    names = iter(("ten",))
    copied = copy(source, target, opened, progress=changes)
    assert copied.fingerprint == store.fingerprint()
    store.close()


def test_a_store_that_holds_something_else_is_refused_in_one_line(
    source: StoreLocation, target: StoreLocation, tmp_path: Path
) -> None:
    store = Gallery(target)
    enrol(store, {"one": "a"})
    before = store.fingerprint()
    with pytest.raises(SetupError, match=f"^{re.escape(str(target))} holds something already: n"):
        copy(source, target, opened)
    assert store.fingerprint() == before
    store.close()
    with pytest.raises(SetupError, match="cannot be copied into itself"):
        copy(source, source, opened)
    served = Gallery(tmp_path / "served.db")
    served.beat("1", "a:50051", {})
    with pytest.raises(SetupError, match="is served by a:50051"):
        copy(source, file_of(served), opened)
    served.close()
    other = tmp_path / "other.db"
    enrol(store := Gallery(other), {"one": "a"})
    store.close()

    def killed(*_: object) -> None:
        raise Killed

    half = tmp_path / "half.db"
    with pytest.raises(Killed):
        copy(other, half, opened, progress=killed)
    with pytest.raises(SetupError, match=r"is a copy of .*other\.db that is not complete"):
        copy(source, half, opened)
    with pytest.raises(SetupError, match=r"is a copy of .*other\.db that is not complete"):
        copy(half, tmp_path / "third.db", opened)
    copy(other, half, opened)
