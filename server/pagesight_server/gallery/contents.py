"""What pictures are: bytes, embedding and text, once per SHA-256, whatever galleries hold them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable

from pagesight_server.common.errors import (
    InvalidRequestError,
    NotFoundError,
    PurgedError,
)
from pagesight_server.gallery.digests import digest as content_digest
from pagesight_server.gallery.model import Content, Form
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.gallery.transaction import image_key

_RANK = {"expired": 0, "none": 0, "thumbnail": 1, "original": 2}
"""What is better kept replaces what is worse, and not the other way round."""

SOUND = (
    "e.sha256 IS digest(e.image_id, e.bundle, CAST(e.vector AS BLOB)) "
    "AND r.sha256 IS digest(r.image_id, r.bundle, CAST(r.reading AS BLOB))"
)
"""SQL: true of an embedding `e` and a text `r` that are as they were stored."""

IDS = (
    "SELECT id FROM images UNION SELECT image_id FROM kept_answers "
    "UNION SELECT image_id FROM decisions"
)
"""SQL: the `id` of every picture that the store knows anything of."""

FULL_ID = 64
"""Hexadecimal digits of a SHA-256."""

SHORT_ID = 12
"""Digits that the commands print; fewer are too easily another picture's."""


def check_not_purged(db: sqlite3.Connection, key: bytes) -> None:
    """Refuses a picture that was purged.

    Raises:
        PurgedError: a purge is final.
    """
    if db.execute("SELECT 1 FROM purged WHERE image_id = ?", (key,)).fetchone():
        raise PurgedError(f"the picture {key.hex()} was purged from this store, which is final")


def has(db: sqlite3.Connection, image_id: str, bundles: Bundles) -> bool:
    """Whether embedding and text are stored for these bundles; raises PurgedError."""
    key = image_key(image_id)
    check_not_purged(db, key)
    sql = f"""SELECT 1 FROM embeddings e JOIN readings r USING (image_id)
              WHERE image_id = ? AND e.bundle = ? AND r.bundle = ? AND {SOUND}"""
    return db.execute(sql, (key, bundles.encoder, bundles.ocr)).fetchone() is not None


def put(db: sqlite3.Connection, content: Content, bundles: Bundles, now_ms: int) -> None:
    """Stores what a picture is; raises PurgedError."""
    key = image_key(content.image_id)
    check_not_purged(db, key)
    db.execute(
        "INSERT INTO images (id, width_px, height_px, bytes) VALUES (?, ?, ?, NULL) "
        "ON CONFLICT DO NOTHING",
        (key, content.width_px, content.height_px),
    )
    kept = db.execute("SELECT form FROM kept WHERE image_id = ?", (key,)).fetchone()
    if kept is None or kept["form"] == "expired" or _RANK[content.form] > _RANK[kept["form"]]:
        data = content.data
        digest = hashlib.sha256(data).digest() if data and content.form == "thumbnail" else None
        db.execute("UPDATE images SET bytes = ? WHERE id = ?", (data, key))
        db.execute(
            "INSERT OR REPLACE INTO kept "
            "(image_id, form, size_bytes, thumbnail_sha256, stored_at_ms) VALUES (?, ?, ?, ?, ?)",
            (key, content.form, len(data or b""), digest, now_ms),
        )
    vector, reading = content.embedding.astype("<f2").tobytes(), content.reading.to_json()
    db.execute(
        "INSERT OR REPLACE INTO embeddings (image_id, bundle, vector, sha256) VALUES (?, ?, ?, ?)",
        (key, bundles.encoder, vector, content_digest(key, bundles.encoder, vector)),
    )
    db.execute(
        "INSERT OR REPLACE INTO readings (image_id, bundle, reading, sha256) VALUES (?, ?, ?, ?)",
        (key, bundles.ocr, reading, content_digest(key, bundles.ocr, reading.encode())),
    )


def full_id(db: sqlite3.Connection, beginning: str) -> str:
    """The id of the one picture, held or purged, whose id begins so.

    Raises:
        NotFoundError: there is none.
        InvalidRequestError: there are several, or it is no beginning of an id.
    """
    digits = beginning.lower()
    if len(digits) == FULL_ID or not SHORT_ID <= len(digits) < FULL_ID:
        return image_key(beginning).hex()
    try:
        least = bytes.fromhex(digits.ljust(FULL_ID, "0"))
        most = bytes.fromhex(digits.ljust(FULL_ID, "f"))
    except ValueError:
        return image_key(beginning).hex()
    rows = db.execute(
        f"SELECT id FROM ({IDS} UNION SELECT image_id FROM purged) i "
        "WHERE id BETWEEN :least AND :most LIMIT 5",
        {"least": least, "most": most},
    ).fetchall()
    if not rows:
        raise NotFoundError(f"the store has no picture whose id begins with {digits}")
    if len(rows) > 1:
        listed = ", ".join(row[0].hex() for row in rows)
        raise InvalidRequestError(f"{digits} is short for several pictures: {listed}")
    return str(rows[0][0].hex())


def kept_bytes(db: sqlite3.Connection, image_id: str) -> bytes | None:
    """The bytes that are kept of a picture; raises NotFoundError."""
    row = db.execute(
        "SELECT CAST(bytes AS BLOB) AS bytes FROM images WHERE id = ?", (image_key(image_id),)
    ).fetchone()
    if row is None:
        raise NotFoundError(f"no image {image_id}")
    data: bytes | None = row["bytes"]
    return data


def without(
    db: sqlite3.Connection, gallery_id: int, bundles: Bundles, *, now_only: bool
) -> list[tuple[str, Form]]:
    """Pictures of a gallery without sound content of these bundles: id, and its form.

    Content that has changed on the disk is as if it were missing.
    """
    now = "AND m.removed_revision IS NULL" if now_only else ""
    rows = db.execute(
        f"""SELECT DISTINCT m.image_id, k.form FROM memberships m
            JOIN kept k USING (image_id)
            LEFT JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = ?
            LEFT JOIN readings r ON r.image_id = m.image_id AND r.bundle = ?
            WHERE m.gallery_id = ? {now} AND (e.bundle IS NULL OR r.bundle IS NULL OR NOT ({SOUND}))
            ORDER BY m.image_id""",
        (bundles.encoder, bundles.ocr, gallery_id),
    )
    return [(row["image_id"].hex(), row["form"]) for row in rows]


def forget(db: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Deletes bytes, embeddings and texts; the row that memberships refer to stays."""
    for key in keys:
        db.execute("DELETE FROM embeddings WHERE image_id = ?", (key,))
        db.execute("DELETE FROM readings WHERE image_id = ?", (key,))
        db.execute("UPDATE images SET bytes = NULL WHERE id = ?", (key,))
        db.execute(
            "UPDATE kept SET form = 'expired', size_bytes = 0, thumbnail_sha256 = NULL "
            "WHERE image_id = ?",
            (key,),
        )


def delete(db: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Deletes pictures that no membership refers to, and all that is known of them."""
    for key in keys:
        for table in ("embeddings", "readings", "kept"):
            db.execute(f"DELETE FROM {table} WHERE image_id = ?", (key,))
        db.execute("DELETE FROM images WHERE id = ?", (key,))


def delete_unused(db: sqlite3.Connection, image_ids: Iterable[str]) -> None:
    """Deletes those of these pictures that were never in a gallery."""
    sql = "SELECT 1 FROM memberships WHERE image_id = ?"
    keys = map(image_key, image_ids)
    delete(db, [key for key in keys if db.execute(sql, (key,)).fetchone() is None])
