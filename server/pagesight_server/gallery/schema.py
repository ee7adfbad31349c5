"""The tables of the store, as text: `store.py` and `edit.py` speak to SQLite.

    galleries ──< revisions            append-only history; the newest is what counts
        │    ──< memberships >── images ──< embeddings (per bundle)
        │    ──< facts                         └──< readings (per bundle)
        │    ──< answers               what a repeated request_id is told
        └────< calibrations            derived, per revision and method

What a picture *is* (bytes, embedding, text) follows from its bytes alone and is
kept once per SHA-256. Where it *belongs* is a membership with the revision that
added it and the revision that removed it, so every revision can be read back and
rolling back is a change like any other.
"""

from __future__ import annotations

VERSION = 1
"""`PRAGMA user_version` of a store that this code reads and writes."""

TABLES = """
CREATE TABLE images (
    id BLOB PRIMARY KEY,                  -- SHA-256 of the bytes as received
    width_px INTEGER NOT NULL,
    height_px INTEGER NOT NULL,
    bytes BLOB                            -- NULL where pictures are not kept
);
CREATE TABLE embeddings (
    image_id BLOB NOT NULL REFERENCES images(id),
    bundle TEXT NOT NULL,
    vector BLOB NOT NULL,                 -- little-endian fp16
    PRIMARY KEY (image_id, bundle)
) WITHOUT ROWID;
CREATE TABLE readings (
    image_id BLOB NOT NULL REFERENCES images(id),
    bundle TEXT NOT NULL,
    reading TEXT NOT NULL,                -- JSON, text.Reading
    PRIMARY KEY (image_id, bundle)
) WITHOUT ROWID;
CREATE TABLE galleries (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    revision INTEGER NOT NULL,            -- 0: nothing has happened yet
    encoder_bundle TEXT NOT NULL,
    ocr_bundle TEXT NOT NULL
);
CREATE TABLE revisions (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    revision INTEGER NOT NULL,
    made_at_ms INTEGER NOT NULL,          -- Unix time, UTC
    author TEXT NOT NULL,
    kind TEXT NOT NULL,                   -- enrol, remove, relabel, rollback, labels
    summary TEXT NOT NULL,
    images INTEGER NOT NULL,              -- how many the gallery holds afterwards
    PRIMARY KEY (gallery_id, revision)
) WITHOUT ROWID;
CREATE TABLE memberships (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    image_id BLOB NOT NULL REFERENCES images(id),
    label TEXT NOT NULL,
    source TEXT NOT NULL,
    author TEXT NOT NULL,
    added_at_ms INTEGER NOT NULL,
    added_revision INTEGER NOT NULL,
    removed_revision INTEGER              -- NULL while it is a member
);
CREATE UNIQUE INDEX memberships_now
    ON memberships (gallery_id, image_id) WHERE removed_revision IS NULL;
CREATE INDEX memberships_by_revision ON memberships (gallery_id, added_revision);
CREATE TABLE facts (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    label TEXT NOT NULL,
    brands TEXT NOT NULL,                 -- JSON list
    outputs TEXT NOT NULL,                -- JSON list
    added_revision INTEGER NOT NULL,
    removed_revision INTEGER
);
CREATE UNIQUE INDEX facts_now ON facts (gallery_id, label) WHERE removed_revision IS NULL;
CREATE TABLE answers (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    request_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    answer TEXT NOT NULL,                 -- JSON
    PRIMARY KEY (gallery_id, request_id)
) WITHOUT ROWID;
CREATE TABLE calibrations (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    revision INTEGER NOT NULL,
    method TEXT NOT NULL,
    calibration TEXT NOT NULL,            -- JSON
    PRIMARY KEY (gallery_id, revision, method)
) WITHOUT ROWID;
"""
