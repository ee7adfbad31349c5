"""What pictures are: bytes, embedding and text, once per SHA-256, whatever galleries hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pagesight_server.common.errors import (
    InvalidRequestError,
    NotFoundError,
    PurgedError,
)
from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.digests import digest as content_digest
from pagesight_server.gallery.model import Content, Form
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.gallery.transaction import image_key

_RANK = {"expired": 0, "none": 0, "thumbnail": 1, "original": 2}
"""What is better kept replaces what is worse, and not the other way round."""

IDS = (
    "SELECT id FROM images UNION SELECT image_id AS id FROM kept_answers "
    "UNION SELECT image_id AS id FROM decisions UNION SELECT image_id AS id FROM dismissed"
)
"""SQL: the `id` of every picture that the store knows anything of."""

FULL_ID = 64
"""Hexadecimal digits of a SHA-256."""

SHORT_ID = 12
"""Digits that the commands print; fewer are too easily another picture's."""


def check_not_purged(db: Connection, key: bytes) -> None:
    """Refuses a picture that was purged.

    Raises:
        PurgedError: a purge is final.
    """
    if db.execute("SELECT 1 FROM purged WHERE image_id = :id", {"id": key}).fetchone():
        raise PurgedError(f"the picture {key.hex()} was purged from this store, which is final")


def has(db: Connection, image_id: str, bundles: Bundles) -> bool:
    """Whether embedding and text are stored for these bundles; raises PurgedError."""
    key = image_key(image_id)
    check_not_purged(db, key)
    return _is_sound(db, key, bundles)


def has_any(db: Connection, image_ids: Iterable[str], bundles: Bundles) -> bool:
    """Whether sound embedding and text of any of these pictures are stored for these bundles."""
    return any(_is_sound(db, image_key(image_id), bundles) for image_id in image_ids)


def _is_sound(db: Connection, key: bytes, bundles: Bundles) -> bool:
    sql = f"""SELECT 1 FROM embeddings e JOIN readings r USING (image_id)
              WHERE image_id = :id AND e.bundle = :encoder AND r.bundle = :ocr
                AND {db.dialect.sound()}"""
    values = {"id": key, "encoder": bundles.encoder, "ocr": bundles.ocr}
    return db.execute(sql, values).fetchone() is not None


def put(db: Connection, content: Content, bundles: Bundles, now_ms: int) -> None:
    """Stores what a picture is; raises PurgedError."""
    key = image_key(content.image_id)
    check_not_purged(db, key)
    db.execute(
        "INSERT INTO images (id, width_px, height_px, bytes) VALUES (:id, :width, :height, NULL) "
        "ON CONFLICT DO NOTHING",
        {"id": key, "width": content.width_px, "height": content.height_px},
    )
    # Two that store the same picture take turns, so that the better form stays.
    db.execute(f"SELECT 1 FROM images WHERE id = :id{db.dialect.locked}", {"id": key}).fetchall()
    kept = db.execute("SELECT form FROM kept WHERE image_id = :id", {"id": key}).fetchone()
    if kept is None or kept["form"] == "expired" or _RANK[content.form] > _RANK[kept["form"]]:
        data = content.data
        digest = hashlib.sha256(data).digest() if data and content.form == "thumbnail" else None
        db.execute("UPDATE images SET bytes = :data WHERE id = :id", {"data": data, "id": key})
        db.execute(
            "INSERT INTO kept (image_id, form, size_bytes, thumbnail_sha256, stored_at_ms) "
            "VALUES (:id, :form, :size, :digest, :now_ms) ON CONFLICT (image_id) DO UPDATE SET "
            "form = excluded.form, size_bytes = excluded.size_bytes, "
            "thumbnail_sha256 = excluded.thumbnail_sha256, stored_at_ms = excluded.stored_at_ms",
            {
                "id": key,
                "form": content.form,
                "size": len(data or b""),
                "digest": digest,
                "now_ms": now_ms,
            },
        )
    vector, reading = content.embedding.astype("<f2").tobytes(), content.reading.to_json()
    db.execute(
        "INSERT INTO embeddings (image_id, bundle, vector, sha256) "
        "VALUES (:id, :bundle, :vector, :sha256) ON CONFLICT (image_id, bundle) DO UPDATE SET "
        "vector = excluded.vector, sha256 = excluded.sha256",
        {
            "id": key,
            "bundle": bundles.encoder,
            "vector": vector,
            "sha256": content_digest(key, bundles.encoder, vector),
        },
    )
    db.execute(
        "INSERT INTO readings (image_id, bundle, reading, sha256) "
        "VALUES (:id, :bundle, :reading, :sha256) ON CONFLICT (image_id, bundle) DO UPDATE SET "
        "reading = excluded.reading, sha256 = excluded.sha256",
        {
            "id": key,
            "bundle": bundles.ocr,
            "reading": reading,
            "sha256": content_digest(key, bundles.ocr, reading.encode()),
        },
    )


def full_id(db: Connection, beginning: str) -> str:
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
        listed = ", ".join(row["id"].hex() for row in rows)
        raise InvalidRequestError(f"{digits} is short for several pictures: {listed}")
    return str(rows[0]["id"].hex())


def kept_bytes(db: Connection, image_id: str) -> bytes | None:
    """The bytes that are kept of a picture; raises NotFoundError."""
    data_column = db.dialect.binary.format("bytes")
    row = db.execute(
        f"SELECT {data_column} AS bytes FROM images WHERE id = :id", {"id": image_key(image_id)}
    ).fetchone()
    if row is None:
        raise NotFoundError(f"no image {image_id}")
    data: bytes | None = row["bytes"]
    return data


def without(
    db: Connection, gallery_id: int, bundles: Bundles, *, now_only: bool
) -> list[tuple[str, Form]]:
    """Pictures of a gallery without sound content of these bundles: id, and its form.

    Content that has changed on the disk is as if it were missing.
    """
    now = "AND m.removed_revision IS NULL" if now_only else ""
    rows = db.execute(
        f"""SELECT DISTINCT m.image_id, k.form FROM memberships m
            JOIN kept k USING (image_id)
            LEFT JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = :encoder
            LEFT JOIN readings r ON r.image_id = m.image_id AND r.bundle = :ocr
            WHERE m.gallery_id = :gallery {now}
              AND (e.bundle IS NULL OR r.bundle IS NULL OR NOT ({db.dialect.sound()}))
            ORDER BY m.image_id""",
        {"encoder": bundles.encoder, "ocr": bundles.ocr, "gallery": gallery_id},
    )
    return [(row["image_id"].hex(), row["form"]) for row in rows]


def forget(db: Connection, keys: Iterable[bytes]) -> None:
    """Deletes bytes, embeddings and texts; the row that memberships refer to stays."""
    for key in keys:
        picture = {"id": key}
        db.execute("DELETE FROM embeddings WHERE image_id = :id", picture)
        db.execute("DELETE FROM readings WHERE image_id = :id", picture)
        db.execute("UPDATE images SET bytes = NULL WHERE id = :id", picture)
        db.execute(
            "UPDATE kept SET form = 'expired', size_bytes = 0, thumbnail_sha256 = NULL "
            "WHERE image_id = :id",
            picture,
        )


def delete(db: Connection, keys: Iterable[bytes]) -> None:
    """Deletes pictures that no membership refers to, and all that is known of them."""
    for key in keys:
        for table in ("embeddings", "readings", "kept"):
            db.execute(f"DELETE FROM {table} WHERE image_id = :id", {"id": key})
        db.execute("DELETE FROM images WHERE id = :id", {"id": key})


def delete_unused(db: Connection, image_ids: Iterable[str]) -> None:
    """Deletes those of these pictures that were never in a gallery."""
    sql = "SELECT 1 FROM memberships WHERE image_id = :id"
    keys = map(image_key, image_ids)
    delete(db, [key for key in keys if db.execute(sql, {"id": key}).fetchone() is None])
