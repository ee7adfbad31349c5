"""What clusters of no interest look like: embeddings and texts of a few pictures of each.

    put       picture, seen and read ──> kept, in place of what was kept of it before
    pictures  <── those that these bundles have seen and read; others compare with nothing

No bytes of them are kept; a purge reaches them by the picture's id. Statements alone; whoever calls
them holds the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pagesight_server.common.errors import LimitError
from pagesight_server.gallery.contents import check_not_purged
from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.digests import digest, is_sound
from pagesight_server.gallery.review_model import DismissedPicture
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.gallery.transaction import image_key
from pagesight_server.text.reading import Reading

MAX_DISMISSED = 10_000
"""Pictures that a gallery keeps of dismissed clusters: each takes a few KB, and comparing 10,000
pictures with so many takes two minutes of a core (docs/recognition.md: 69 s for half the pairs)."""


def put(
    db: Connection,
    gallery_id: int,
    picture: DismissedPicture,
    made_by: Bundles,
    *,
    cluster_key: str,
    author: str,
    now_ms: int,
) -> None:
    """Keeps what was seen and read of a picture.

    Raises:
        PurgedError: it was purged.
    """
    key = image_key(picture.image_id)
    check_not_purged(db, key)
    db.execute(
        "DELETE FROM dismissed WHERE gallery_id = :gallery AND image_id = :key",
        {"gallery": gallery_id, "key": key},
    )
    vector, reading = picture.embedding.astype("<f2").tobytes(), picture.reading.to_json()
    values = {
        "gallery_id": gallery_id,
        "image_id": key,
        "cluster_key": cluster_key,
        "author": author,
        "dismissed_at_ms": now_ms,
        "encoder_bundle": made_by.encoder,
        "vector": vector,
        "vector_sha256": digest(key, made_by.encoder, vector),
        "ocr_bundle": made_by.ocr,
        "reading": reading,
        "reading_sha256": digest(key, made_by.ocr, reading.encode()),
    }
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO dismissed ({names}) VALUES ({marks})", values)


def check_full(db: Connection, gallery_id: int) -> None:
    """Refuses more than a gallery may keep.

    Raises:
        LimitError: it keeps more.
    """
    count = "SELECT count(*) AS n FROM dismissed WHERE gallery_id = :gallery"
    if db.execute(count, {"gallery": gallery_id}).fetchone()["n"] > MAX_DISMISSED:
        raise LimitError(
            f"a gallery keeps at most {MAX_DISMISSED:,} pictures of dismissed clusters: enrol "
            "what recurs as `other_...` instead"
        )


def pictures(db: Connection, gallery_id: int, bundles: Bundles) -> Iterator[DismissedPicture]:
    """What is kept by these bundles, without what has changed on the disk."""
    rows = db.stream(
        f"SELECT image_id, {db.dialect.binary.format('vector')} AS vector, vector_sha256, "
        f"{db.dialect.text.format('reading')} AS reading, reading_sha256 FROM dismissed "
        "WHERE gallery_id = :gallery AND encoder_bundle = :encoder AND ocr_bundle = :ocr "
        "ORDER BY image_id",
        {"gallery": gallery_id, "encoder": bundles.encoder, "ocr": bundles.ocr},
    )
    for row in rows:
        key, text = row["image_id"], row["reading"]
        if is_sound(key, bundles.encoder, row["vector"], row["vector_sha256"]) and is_sound(
            key, bundles.ocr, text, row["reading_sha256"]
        ):
            yield DismissedPicture(
                image_id=key.hex(),
                embedding=np.frombuffer(row["vector"], "<f2").astype(np.float32),
                reading=Reading.from_json(bytes(text).decode()),
            )


def forget_pictures(db: Connection, keys: Iterable[bytes]) -> None:
    """Forgets whatever is kept of these pictures, in every gallery."""
    for key in keys:
        db.execute("DELETE FROM dismissed WHERE image_id = :key", {"key": key})
