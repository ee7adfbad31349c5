"""The tables of the store, as text for SQLite; schema_postgres.py has them for PostgreSQL.

    galleries ──< revisions            append-only history; the newest is what counts
        │    ──< memberships >── images ──  kept (in what form, since when)
        │    ──< facts                  ├──< embeddings (per bundle)
        │    ──< answers                └──< readings (per bundle)
        ├────< calibrations            derived, per revision and method
        ├────< settlements ──< settled_images   what a person looked at and found to be well
        ├────< kept_answers            a ring of answers with their pictures, for a person
        ├────< decisions               what persons decided of screenshots
        ├────< dismissed               what was seen and read of clusters of no interest
        └────< purged_memberships >── purged       all that is left of a purged picture
    backups                            copies that a purge must reach too
    replicas                           who serves the store, and what each has loaded
    copying                            a copy into this store that is not complete

A gallery that was deleted keeps its row, without members: its history stays, and enrolling
under its name goes on from its last revision.

What a picture *is* (bytes, embedding, text) follows from its bytes alone and is
kept once per SHA-256. Where it *belongs* is a membership with the revision that
added it and the revision that removed it, so every revision can be read back and
rolling back is a change like any other.

A store of an earlier version is brought forward when it is opened: a step is never
edited once released, the next one is added below it, in both lists.
"""

from __future__ import annotations

from pagesight_server.gallery.schema_postgres import POSTGRES_MIGRATIONS, POSTGRES_SINCE

_FIRST = """
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

# `kept` stands beside `images` because SQLite reads a row up to the wanted column, and a
# picture's bytes would stand before it. Answers are numbered so that the oldest can go.
_SECOND = """
CREATE TABLE kept (
    image_id BLOB PRIMARY KEY REFERENCES images(id),
    form TEXT NOT NULL,                   -- original, thumbnail, none, or expired: all of it went
    size_bytes INTEGER NOT NULL,          -- of images.bytes
    thumbnail_sha256 BLOB,                -- of images.bytes where these are not the original
    stored_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO kept
    SELECT id, iif(bytes IS NULL, 'none', 'original'), coalesce(length(bytes), 0), NULL, 0
    FROM images;
CREATE INDEX memberships_by_image ON memberships (image_id);
CREATE TABLE purged (
    image_id BLOB PRIMARY KEY,
    purged_at_ms INTEGER NOT NULL,
    author TEXT NOT NULL,
    scrubbed INTEGER NOT NULL             -- 0 until the file was rewritten without it
) WITHOUT ROWID;
CREATE TABLE purged_memberships (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    image_id BLOB NOT NULL REFERENCES purged(image_id),
    author TEXT NOT NULL,
    added_at_ms INTEGER NOT NULL,
    added_revision INTEGER NOT NULL,
    removed_revision INTEGER NOT NULL
);
CREATE TABLE backups (
    path TEXT PRIMARY KEY,                -- absolute
    made_at_ms INTEGER NOT NULL
) WITHOUT ROWID;
ALTER TABLE answers RENAME TO answers_without_number;
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,           -- rises: the oldest go first
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    request_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    answer TEXT NOT NULL,                 -- JSON
    UNIQUE (gallery_id, request_id)
);
INSERT INTO answers (gallery_id, request_id, kind, answer)
    SELECT gallery_id, request_id, kind, answer FROM answers_without_number;
DROP TABLE answers_without_number;
CREATE INDEX answers_by_age ON answers (gallery_id, number);
"""

# `nfc` is Unicode normal form C (sqlite_file.py). Earlier versions kept names as they came, and
# macOS spells folders in another form: two spellings of one label become one. Of two galleries
# whose names were two spellings of one, the second gets a name of its own. Of a label whose two
# spellings both had brands or outputs, it has those of both. What was calibrated with two labels
# in place of one is calibrated anew.
_THIRD = """
ALTER TABLE galleries ADD COLUMN deleted INTEGER NOT NULL DEFAULT 0;
DELETE FROM calibrations WHERE gallery_id IN
    (SELECT gallery_id FROM memberships WHERE label <> nfc(label));
UPDATE memberships SET label = nfc(label) WHERE label <> nfc(label);
UPDATE facts SET brands = nfc(brands), outputs = nfc(outputs);
UPDATE facts SET
    brands = (SELECT json_group_array(DISTINCT b.value) FROM facts o, json_each(o.brands) b
              WHERE o.gallery_id = facts.gallery_id AND nfc(o.label) = facts.label
                AND o.removed_revision IS NULL),
    outputs = (SELECT json_group_array(DISTINCT b.value) FROM facts o, json_each(o.outputs) b
               WHERE o.gallery_id = facts.gallery_id AND nfc(o.label) = facts.label
                 AND o.removed_revision IS NULL)
    WHERE removed_revision IS NULL AND label = nfc(label) AND EXISTS
        (SELECT 1 FROM facts o WHERE o.gallery_id = facts.gallery_id AND o.label <> facts.label
           AND nfc(o.label) = facts.label AND o.removed_revision IS NULL);
UPDATE OR IGNORE facts SET label = nfc(label) WHERE label <> nfc(label);
DELETE FROM facts WHERE label <> nfc(label);
UPDATE galleries SET name = nfc(name) || iif(
    EXISTS (SELECT 1 FROM galleries o WHERE o.name = nfc(galleries.name)), ' (2)', '')
    WHERE name <> nfc(name);
"""

# `digest` is that of digests.py. What is derived had none: a flipped bit changed scores unseen.
# Backups are ordered as they were made, whatever the clock said, and one that is being made is
# told from one that was.
_FOURTH = """
ALTER TABLE embeddings ADD COLUMN sha256 BLOB;
UPDATE embeddings SET sha256 = digest(image_id, bundle, CAST(vector AS BLOB));
ALTER TABLE readings ADD COLUMN sha256 BLOB;
UPDATE readings SET sha256 = digest(image_id, bundle, CAST(reading AS BLOB));
ALTER TABLE calibrations ADD COLUMN sha256 BLOB;
UPDATE calibrations SET sha256 = digest(revision, method, CAST(calibration AS BLOB));
ALTER TABLE backups RENAME TO backups_by_clock;
CREATE TABLE backups (
    number INTEGER PRIMARY KEY,           -- rises: the oldest go first
    path TEXT NOT NULL UNIQUE,            -- absolute
    made_at_ms INTEGER NOT NULL,
    complete INTEGER NOT NULL             -- 0 while it is being made
);
INSERT INTO backups (path, made_at_ms, complete)
    SELECT path, made_at_ms, 1 FROM backups_by_clock ORDER BY made_at_ms, path;
DROP TABLE backups_by_clock;
"""

# A settled finding is about pictures, not about a revision. Its labels are not kept: the key says
# which it is, and a purge has no label to look for.
_FIFTH = """
CREATE TABLE settlements (
    id INTEGER PRIMARY KEY,
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    finding_key TEXT NOT NULL,            -- curation/findings.py
    kind TEXT NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    settled_at_ms INTEGER NOT NULL,       -- Unix time, UTC
    UNIQUE (gallery_id, finding_key)
);
CREATE TABLE settled_images (
    settlement_id INTEGER NOT NULL REFERENCES settlements(id) ON DELETE CASCADE,
    image_id BLOB NOT NULL REFERENCES images(id),
    PRIMARY KEY (settlement_id, image_id)
) WITHOUT ROWID;
CREATE INDEX settled_images_by_image ON settled_images (image_id);
"""

# Pictures of kept answers are callers' screenshots, so neither table refers to `images`. The
# picture stands last: SQLite reads a row up to the wanted column.
_SIXTH = """
CREATE TABLE kept_answers (
    number INTEGER PRIMARY KEY,           -- rises: the oldest go first
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    image_id BLOB NOT NULL,               -- SHA-256 of the bytes as received
    revision INTEGER NOT NULL,
    label TEXT NOT NULL,
    closest_label TEXT NOT NULL,
    score DOUBLE PRECISION NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    doubt DOUBLE PRECISION NOT NULL,
    review_reasons TEXT NOT NULL,         -- JSON list
    kept_reason TEXT NOT NULL,            -- doubtful, rejected, random
    kept_at_ms BIGINT NOT NULL,           -- Unix time, UTC
    size_bytes BIGINT NOT NULL,           -- of image
    encoder_bundle TEXT NOT NULL,
    vector BLOB NOT NULL,                 -- little-endian fp16
    vector_sha256 BLOB NOT NULL,          -- digests.py
    ocr_bundle TEXT NOT NULL,
    reading TEXT,                         -- JSON, text.Reading; NULL where text was not read
    reading_sha256 BLOB,
    image_sha256 BLOB NOT NULL,           -- of image: image_id, unless it is a smaller copy
    image BLOB NOT NULL,
    UNIQUE (image_id, gallery_id)
);
CREATE INDEX kept_answers_by_age ON kept_answers (gallery_id, number, size_bytes);
CREATE INDEX kept_answers_by_time ON kept_answers (kept_at_ms);
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,           -- rises
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    decision_id TEXT NOT NULL,            -- chosen by the caller
    image_id BLOB NOT NULL,
    label TEXT NOT NULL,                  -- empty: the person could not tell
    shown_label TEXT NOT NULL,
    shown_closest_label TEXT NOT NULL,
    shown_doubt DOUBLE PRECISION NOT NULL,
    revision INTEGER NOT NULL,
    reviewer TEXT NOT NULL,
    decided_at_ms BIGINT NOT NULL,        -- Unix time, UTC
    known_label TEXT NOT NULL,            -- of a hidden known item
    seconds DOUBLE PRECISION NOT NULL,
    UNIQUE (gallery_id, decision_id)
);
CREATE INDEX decisions_by_image ON decisions (image_id, gallery_id);
CREATE INDEX decisions_by_age ON decisions (gallery_id, number);
"""

# A dismissed picture is a caller's screenshot, too, of which no bytes are kept.
_SEVENTH = """
CREATE TABLE dismissed (
    gallery_id INTEGER NOT NULL REFERENCES galleries(id),
    image_id BLOB NOT NULL,               -- SHA-256 of the bytes as received
    cluster_key TEXT NOT NULL,            -- curation/discovery.py
    author TEXT NOT NULL,
    dismissed_at_ms BIGINT NOT NULL,      -- Unix time, UTC
    encoder_bundle TEXT NOT NULL,
    vector BLOB NOT NULL,                 -- little-endian fp16
    vector_sha256 BLOB NOT NULL,          -- digests.py
    ocr_bundle TEXT NOT NULL,
    reading TEXT NOT NULL,                -- JSON, text.Reading
    reading_sha256 BLOB NOT NULL,
    PRIMARY KEY (gallery_id, image_id)
);
CREATE INDEX dismissed_by_image ON dismissed (image_id);
"""

# What serves the store, and whether it is one at all yet: neither is content, so neither is copied.
_EIGHTH = """
CREATE TABLE replicas (
    id TEXT PRIMARY KEY,                  -- of one process
    name TEXT NOT NULL,                   -- host and port
    seen_at_ms INTEGER NOT NULL,          -- Unix time by the clock of the store
    revisions TEXT NOT NULL               -- JSON: what it has loaded of each gallery
) WITHOUT ROWID;
CREATE TABLE copying (
    source TEXT PRIMARY KEY,              -- what is copied into this store, not all of it yet
    begun_at_ms INTEGER NOT NULL          -- Unix time, UTC
) WITHOUT ROWID;
"""

MIGRATIONS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH)
"""SQLite: step i makes version i + 1 of version i; an empty file has version 0."""

VERSION = len(MIGRATIONS)
"""The version of a store that this code reads and writes, on either database."""


def statements(version: int) -> list[str]:
    """What makes the present version of a SQLite store of `version`."""
    return _split(MIGRATIONS[version:])


def postgres_statements(version: int) -> list[str]:
    """What makes the present version of a PostgreSQL store of `version`; 0: of nothing."""
    return _split(POSTGRES_MIGRATIONS[version - POSTGRES_SINCE + 1 if version else 0 :])


def _split(steps: tuple[str, ...]) -> list[str]:
    return [statement for statement in "".join(steps).split(";\n") if statement.strip()]
