"""Purging: nothing of a picture is left in any file of the store, and the rest is as it was."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import NotFoundError, PurgedError, StorageError
from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.gallery.location import StoreLocation
from tests.support.parts import BUNDLES, reading, unit
from tests.support.stores import content, enrol, file_of, picture_id, sqlite

RNG = np.random.default_rng(7)
SECRET = "secret" + RNG.bytes(5_000).hex()
"""The bytes of the purged picture: several pages of the file."""
TEXT = "余额一百二十三元四角五分"
VECTOR = unit(*RNG.normal(size=384))
LABEL, SOURCE = "label-of-the-secret", "source-of-the-secret.png"


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location)
    yield opened
    opened.close()


def enrol_secret(store: Gallery, gallery: str = "default", label: str = LABEL) -> str:
    made = replace(content(SECRET), embedding=VECTOR, reading=reading(TEXT))
    store.put_content(made, BUNDLES)
    entry = Entry(image_id=made.image_id, label=label, source=SOURCE)
    change = Change(gallery=gallery, author="mei", request_id=f"r {gallery}")
    store.enrol(change, [entry], BUNDLES)
    return made.image_id


def traces(folder: Path) -> dict[str, list[str]]:
    """What of the secret is found, by file, in every file below a folder."""
    marks = {
        "bytes": SECRET[1000:1040].encode(),
        "text": TEXT.encode(),
        "text as JSON": TEXT.encode("unicode_escape"),
        "embedding": VECTOR.astype("<f2").tobytes()[100:132],
        "embedding in full": VECTOR.astype("<f4").tobytes()[100:132],
        "label": LABEL.encode(),
        "source": SOURCE.encode(),
    }
    found = {}
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            names = [name for name, mark in marks.items() if mark in data]
            if names:
                found[file.name] = names
    return found


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_no_file_of_the_store_holds_anything_of_a_purged_picture(
    store: Gallery, tmp_path: Path
) -> None:
    secret = enrol_secret(store)
    enrol(store, {f"p{i}": "a" for i in range(20)})
    store.relabel(Change(), [secret], LABEL + "-2")
    store.remove(Change(), [secret])
    enrol_secret(store, "second")
    derived = store.database.derived_folder
    derived.mkdir()
    (derived / "default.ivf").write_bytes(VECTOR.tobytes())
    # The search finds what is there; the other reader keeps the log from being deleted.
    reader = sqlite3.connect(file_of(store))
    assert reader.execute("SELECT count(*) FROM images").fetchone() == (21,)
    assert {name for names in traces(tmp_path).values() for name in names} >= {
        "bytes", "text", "embedding", "embedding in full", "label", "source"
    }  # fmt: skip
    done = store.purge([secret], author="li")
    assert done.revisions == {"default": 5, "second": 2}
    assert traces(tmp_path) == {}
    assert backup.check(store) == []
    reader.close()


def test_the_history_keeps_revision_time_who_and_hash_of_a_purged_picture(store: Gallery) -> None:
    secret = enrol_secret(store)
    enrol(store, {"one": "a"})
    store.purge([secret], author="li")
    newest, second, first = store.history("default")
    assert (newest.kind, newest.author, newest.images) == ("purge", "li", 1)
    assert newest.summary == f"purged {secret}"
    assert (first.revision, first.kind, first.author, first.images) == (1, "enrol", "mei", 1)
    assert first.summary == "withheld: it named a picture that was purged"
    assert second.summary == "enrolled 1 of a"
    with store.database.reading() as db:
        rows = db.execute("SELECT * FROM purged_memberships").fetchall()
    assert [(row["image_id"].hex(), row["author"], row["added_revision"]) for row in rows] == [
        (secret, "mei", 1)
    ]
    assert store.purged() == [secret]


def test_a_rollback_past_a_purge_brings_back_all_others_and_lists_what_it_cannot(
    store: Gallery,
) -> None:
    secret = enrol_secret(store)
    enrol(store, {"one": "a"})
    store.remove(Change(), [picture_id("one")])
    store.purge([secret], author="li")
    applied = store.rollback(Change(), 2)
    assert applied.counts == {"restored": 1, "removed": 0}
    (lost,) = applied.outcomes
    assert lost.error is not None
    assert (lost.image_id, lost.error[1]) == (secret, "PURGED")
    assert {picture.label for picture in store.snapshot().pictures} == {"a"}
    assert store.history("default")[0].summary == f"rolled back to revision 2 without {secret}"


def test_a_purged_picture_cannot_come_back(store: Gallery) -> None:
    secret = enrol_secret(store)
    store.purge([secret], author="li")
    with pytest.raises(PurgedError, match="which is final"):
        store.has_content(secret, BUNDLES)
    with pytest.raises(PurgedError):
        store.put_content(content(SECRET), BUNDLES)
    (outcome,) = store.enrol(Change(), [Entry(image_id=secret, label="a")], BUNDLES).outcomes
    assert outcome.error is not None
    assert outcome.error[1] == "PURGED"


def test_purging_what_never_was_changes_nothing(store: Gallery) -> None:
    secret = enrol_secret(store)
    with pytest.raises(NotFoundError, match="nothing was purged"):
        store.purge([secret, "00" * 32], author="li")
    assert len(store.snapshot().pictures) == 1
    assert store.revisions() == {"default": 1}


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_purge_that_was_stopped_midway_is_ended_by_a_second(
    store: Gallery, tmp_path: Path
) -> None:
    secret = enrol_secret(store)
    reader = sqlite3.connect(file_of(store), isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM images").fetchone()
    sqlite(store).execute("PRAGMA busy_timeout = 50")
    with pytest.raises(StorageError, match="somebody reads it: run it again"):
        store.purge([secret], author="li")
    assert backup.check(store) == ["the purge of 1 pictures did not end: run `gallery purge` again"]
    reader.execute("COMMIT")
    reader.close()
    assert store.purge([secret], author="li").revisions == {}
    assert traces(tmp_path) == {}
    assert backup.check(store) == []


def test_a_picture_that_no_gallery_took_can_be_purged(store: Gallery, tmp_path: Path) -> None:
    made = replace(content(SECRET), embedding=VECTOR, reading=reading(TEXT))
    store.put_content(made, BUNDLES)
    assert store.purge([made.image_id], author="li").revisions == {}
    assert traces(tmp_path) == {}
    assert store.purged() == [made.image_id]
