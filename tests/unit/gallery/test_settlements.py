"""What a person found to be well stays with the store, and goes with the pictures it is about."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesight_server.common.errors import InvalidRequestError, NotFoundError
from pagesight_server.gallery import Change, Gallery, Settled, Settlement, backup
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.schema import VERSION
from tests.support.stores import SINCE_SCHEMA_5, enrol, file_of, picture_id, sqlite

NOW_MS = 1_700_000_000_000
NOTE = "the note of the person who settled it"


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=lambda: NOW_MS)
    enrol(opened, {"one": "a", "two": "a", "three": "b"})
    yield opened
    opened.close()


def about(key: str, *pictures: str, label: str = "a") -> Settled:
    ids = tuple(map(picture_id, pictures))
    return Settled(key=key, kind="odd_picture", labels=(label,), image_ids=ids)


def test_a_settled_finding_is_there_when_the_store_is_opened_again(store: Gallery) -> None:
    store.settle("default", [about("k1", "one"), about("k2", label="b")], author="mei", note=NOTE)
    again = Gallery(store.location)
    expected = Settlement(author="mei", note=NOTE, settled_at_ms=NOW_MS)
    assert again.settlements("default") == {"k1": expected, "k2": expected}
    assert again.revisions() == {"default": 1}
    assert again.unsettle("default", ["k0", "k1", "k1"]) == ["k1"]
    again.close()
    assert store.settlements("default").keys() == {"k2"}
    assert backup.check(store) == []


def test_of_a_finding_settled_twice_the_last_word_counts(store: Gallery) -> None:
    store.settle("default", [about("k", "one")], author="mei", note=NOTE)
    store.settle("default", [about("k", "one")], author="li")
    assert store.settlements("default")["k"].author == "li"
    assert store.settlements("default")["k"].note == ""


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        pytest.param(about("k", "none"), "has no image", id="a picture that is not there"),
        pytest.param(about("k", label="c"), "has no label c", id="a label that is not there"),
    ],
)
def test_a_finding_about_what_the_gallery_lacks_settles_none(
    store: Gallery, wrong: Settled, error: str
) -> None:
    with pytest.raises(NotFoundError, match=error):
        store.settle("default", [about("right", "one"), wrong])
    with pytest.raises(InvalidRequestError, match="is no image id"):
        store.settle(
            "default", [Settled(key="k", kind="odd_picture", labels=("a",), image_ids=("7",))]
        )
    assert store.settlements("default") == {}


def test_a_rollback_and_a_removal_leave_alone_what_is_settled(store: Gallery) -> None:
    store.settle("default", [about("k", "one")])
    store.remove(Change(), [picture_id("one")])
    store.rollback(Change(), 1)
    assert store.settlements("default").keys() == {"k"}


def test_deleting_a_gallery_forgets_what_is_settled_in_it_alone(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery="second")
    for gallery in ("default", "second"):
        store.settle(gallery, [about("k", "one")])
    store.delete(Change(gallery="second"))
    enrol(store, {"one": "a"}, gallery="second")
    assert store.settlements("second") == {}
    assert store.settlements("default").keys() == {"k"}


def test_a_purge_takes_along_what_was_settled_about_the_picture_in_every_gallery(
    store: Gallery, tmp_path: Path
) -> None:
    enrol(store, {"one": "a"}, gallery="second")
    store.settle("default", [about("k1", "one", "two")], note=NOTE)
    store.settle("default", [about("k2", "two")], note="kept")
    store.settle("second", [about("k1", "one")], note=NOTE)
    store.purge([picture_id("one")], author="li")
    assert store.settlements("default").keys() == {"k2"}
    assert store.settlements("second") == {}
    assert backup.check(store) == []
    for file in tmp_path.rglob("*"):
        assert NOTE.encode() not in (file.read_bytes() if file.is_file() else b"")


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_backup_that_is_restored_has_what_was_settled_but_for_what_was_purged_since(
    store: Gallery, tmp_path: Path
) -> None:
    store.settle("default", [about("k1", "one"), about("k2", "two")])
    file = tmp_path / "backup.db"
    backup.backup(store, file)
    store.unsettle("default", ["k1", "k2"])
    store.purge([picture_id("one")], author="li")
    path = file_of(store)
    store.close()
    backup.restore(file, path, author="li", force=True)
    restored = Gallery(path)
    assert restored.settlements("default").keys() == {"k2"}
    restored.close()


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_store_of_the_fourth_schema_has_nothing_settled_and_can_be_settled(
    store: Gallery,
) -> None:
    path = file_of(store)
    store.close()
    db = sqlite3.connect(path)
    # Which are all that the fifth and later ones add.
    for table in ("settled_images", "settlements", *SINCE_SCHEMA_5):
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version = 4")
    db.commit()
    db.close()
    opened = Gallery(path)
    assert sqlite(opened).execute("PRAGMA user_version").fetchone()[0] == VERSION
    assert len(opened.snapshot().pictures) == 3
    assert opened.settlements("default") == {}
    opened.settle("default", [about("k", "one")])
    assert opened.settlements("default").keys() == {"k"}
    assert backup.check(opened) == []
    opened.close()
