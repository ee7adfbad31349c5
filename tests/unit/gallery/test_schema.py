"""Stores of earlier schemas are brought forward with everything they hold."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Applied, Change, Gallery, backup
from pagesight_server.gallery.schema import MIGRATIONS, VERSION
from pagesight_server.gallery.snapshot import LabelFacts, normal_form
from tests.support.parts import BUNDLES, reading, unit
from tests.support.stores import sqlite

FIRST = """
CREATE TABLE images (
    id BLOB PRIMARY KEY, width_px INTEGER NOT NULL, height_px INTEGER NOT NULL, bytes BLOB);
CREATE TABLE embeddings (
    image_id BLOB NOT NULL REFERENCES images(id), bundle TEXT NOT NULL, vector BLOB NOT NULL,
    PRIMARY KEY (image_id, bundle)) WITHOUT ROWID;
CREATE TABLE readings (
    image_id BLOB NOT NULL REFERENCES images(id), bundle TEXT NOT NULL, reading TEXT NOT NULL,
    PRIMARY KEY (image_id, bundle)) WITHOUT ROWID;
CREATE TABLE galleries (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision INTEGER NOT NULL,
    encoder_bundle TEXT NOT NULL, ocr_bundle TEXT NOT NULL);
CREATE TABLE revisions (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id), revision INTEGER NOT NULL,
    made_at_ms INTEGER NOT NULL, author TEXT NOT NULL, kind TEXT NOT NULL, summary TEXT NOT NULL,
    images INTEGER NOT NULL, PRIMARY KEY (gallery_id, revision)) WITHOUT ROWID;
CREATE TABLE memberships (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    image_id BLOB NOT NULL REFERENCES images(id), label TEXT NOT NULL, source TEXT NOT NULL,
    author TEXT NOT NULL, added_at_ms INTEGER NOT NULL, added_revision INTEGER NOT NULL,
    removed_revision INTEGER);
CREATE UNIQUE INDEX memberships_now
    ON memberships (gallery_id, image_id) WHERE removed_revision IS NULL;
CREATE INDEX memberships_by_revision ON memberships (gallery_id, added_revision);
CREATE TABLE facts (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id), label TEXT NOT NULL,
    brands TEXT NOT NULL, outputs TEXT NOT NULL, added_revision INTEGER NOT NULL,
    removed_revision INTEGER);
CREATE UNIQUE INDEX facts_now ON facts (gallery_id, label) WHERE removed_revision IS NULL;
CREATE TABLE answers (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id), request_id TEXT NOT NULL,
    kind TEXT NOT NULL, answer TEXT NOT NULL, PRIMARY KEY (gallery_id, request_id)) WITHOUT ROWID;
CREATE TABLE calibrations (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id), revision INTEGER NOT NULL,
    method TEXT NOT NULL, calibration TEXT NOT NULL,
    PRIMARY KEY (gallery_id, revision, method)) WITHOUT ROWID;
PRAGMA application_id = 1347635028;
PRAGMA user_version = 1;
"""
"""The schema as the first released code wrote it."""


def first_store(path: Path) -> dict[str, str]:
    """Writes a store of schema 1: one enrolled, one enrolled and removed; ids by name."""
    db = sqlite3.connect(path)
    db.executescript(FIRST)
    ids = {}
    for name, data in (("kept", b"kept"), ("removed", None)):
        key = hashlib.sha256(name.encode()).digest()
        ids[name] = key.hex()
        db.execute("INSERT INTO images VALUES (?, 108, 240, ?)", (key, data))
        vector = unit(1, 2, 2).astype("<f2").tobytes()
        db.execute("INSERT INTO embeddings VALUES (?, ?, ?)", (key, BUNDLES.encoder, vector))
        told = reading("额度").to_json()
        db.execute("INSERT INTO readings VALUES (?, ?, ?)", (key, BUNDLES.ocr, told))
    made_by = (BUNDLES.encoder, BUNDLES.ocr)
    db.execute("INSERT INTO galleries VALUES (1, 'default', 3, ?, ?)", made_by)
    db.executemany(
        "INSERT INTO revisions VALUES (1, ?, ?, 'mei', ?, ?, ?)",
        [
            (1, 1000, "enrol", "enrolled 2 of a", 2),
            (2, 1001, "remove", "removed 1 of a", 1),
            (3, 1002, "labels", "set labels a", 1),
        ],
    )
    for name, removed in (("kept", None), ("removed", 2)):
        db.execute(
            "INSERT INTO memberships VALUES (1, ?, 'a', ?, 'mei', 1000, 1, ?)",
            (bytes.fromhex(ids[name]), f"{name}.png", removed),
        )
    brands = json.dumps(["招商银行"], ensure_ascii=False)
    db.execute("INSERT INTO facts VALUES (1, 'a', ?, '[]', 3, NULL)", (brands,))
    answer = Applied(revision=2, counts={"removed": 1}).to_json()
    db.execute("INSERT INTO answers VALUES (1, 'r1', 'remove', ?)", (answer,))
    db.execute("INSERT INTO calibrations VALUES (1, 3, 'seed', 'stored')")
    db.commit()
    db.close()
    return ids


def test_a_store_of_the_first_schema_opens_with_everything_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    ids = first_store(path)
    for _ in range(2):  # once brought forward, then as it is
        store = Gallery(path)
        assert sqlite(store).execute("PRAGMA user_version").fetchone()[0] == VERSION
        (picture,) = store.snapshot().pictures
        assert (picture.image_id, picture.label, picture.source) == (ids["kept"], "a", "kept.png")
        assert picture.reading == reading("额度")
        assert dict(store.snapshot().facts) == {"a": LabelFacts(brands=("招商银行",))}
        assert len(store.snapshot(revision=1).pictures) == 2
        assert [made.summary for made in store.history("default")] == [
            "set labels a",
            "removed 1 of a",
            "enrolled 2 of a",
        ]
        assert store.image_bytes(ids["kept"]) == b"kept"
        assert store.image_bytes(ids["removed"]) is None
        assert store.calibration("default", 3, "seed") == "stored"
        told = store.answered(Change(request_id="r1"), "remove")
        assert told == Applied(revision=2, counts={"removed": 1})
        assert backup.check(store) == []
        store.close()
    store = Gallery(path)
    assert store.rollback(Change(), 1).counts == {"restored": 1, "removed": 0}
    store.close()


def test_two_spellings_of_a_name_become_one_when_a_store_is_brought_forward(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gallery.db"
    ids = first_store(path)
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    db = sqlite3.connect(path)
    db.execute("UPDATE memberships SET label = ? WHERE removed_revision IS NULL", (nfd,))
    db.execute("UPDATE memberships SET label = ? WHERE removed_revision IS NOT NULL", (nfc,))
    db.execute("DELETE FROM facts")
    for label, brand in ((nfc, "A"), (nfd, nfd)):
        brands = json.dumps([brand], ensure_ascii=False)
        db.execute("INSERT INTO facts VALUES (1, ?, ?, '[]', 3, NULL)", (label, brands))
    made_by = (BUNDLES.encoder, BUNDLES.ocr)
    for number, name in ((2, nfc), (3, nfd)):
        db.execute("INSERT INTO galleries VALUES (?, ?, 0, ?, ?)", (number, name, *made_by))
    db.commit()
    db.close()
    store = Gallery(path)
    assert store.labels("default")[1] == {nfc: 1}
    assert set(store.snapshot().facts[nfc].brands) == {"A", nfc}
    assert store.calibration("default", 3, "seed") is None
    assert store.rollback(Change(), 1).counts == {"restored": 1, "removed": 0}
    assert {p.image_id: p.label for p in store.snapshot().pictures} == dict.fromkeys(
        ids.values(), nfc
    )
    assert sorted(store.revisions()) == [nfc, f"{nfc} (2)", "default"]
    store.close()


def test_what_is_derived_has_a_digest_once_a_store_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    ids = first_store(path)
    store = Gallery(path)
    key = bytes.fromhex(ids["kept"])
    vector = unit(1, 2, 2).astype("<f2").tobytes()
    told = reading("额度").to_json().encode()
    rows = (
        sqlite(store)
        .execute(
            "SELECT e.sha256, r.sha256 FROM embeddings e JOIN readings r USING (image_id) "
            "WHERE image_id = ?",
            (key,),
        )
        .fetchall()
    )
    assert [tuple(row) for row in rows] == [
        (
            hashlib.sha256(f"{ids['kept']} {BUNDLES.encoder}\n".encode() + vector).digest(),
            hashlib.sha256(f"{ids['kept']} {BUNDLES.ocr}\n".encode() + told).digest(),
        )
    ]
    (calibration,) = sqlite(store).execute("SELECT sha256 FROM calibrations").fetchone()
    assert calibration == hashlib.sha256(b"3 seed\nstored").digest()
    store.close()


def test_backups_keep_their_order_when_a_store_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    first_store(path)
    db = sqlite3.connect(path)
    db.create_function("nfc", 1, normal_form)
    for statement in [s for step in MIGRATIONS[1:3] for s in step.split(";\n") if s.strip()]:
        db.execute(statement)
    db.executemany("INSERT INTO backups VALUES (?, ?)", [("/b.db", 1), ("/a.db", 3), ("/c.db", 2)])
    db.execute("PRAGMA user_version = 3")
    db.commit()
    db.close()
    store = Gallery(path)
    assert backup.managed(store) == [Path("/b.db"), Path("/c.db"), Path("/a.db")]
    store.close()


def test_bringing_a_store_forward_is_done_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    first_store(path)
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE backups (in_the_way)")
    db.close()
    with pytest.raises(SetupError, match="table backups already exists"):
        Gallery(path)
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'kept'").fetchone() == (0,)
    db.close()


def test_a_store_of_a_newer_schema_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    Gallery(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(SetupError) as refused:
        Gallery(path)
    assert str(refused.value) == (
        f"{path} was written by a newer pagesight (schema {VERSION + 1}, this one reads {VERSION}):"
        " upgrade pagesight"
    )
