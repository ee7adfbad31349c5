"""The ring of answers that are kept for a person to look at: bounded, and forgotten in time.

    put     answer, picture, embedding, text ──> the newest; of one picture the newest answer alone
    trim    the oldest beyond so many, or so many bytes, of one gallery ──> gone
    expire  what is older than its days, of every gallery ──> gone

A picture here belongs to no gallery: it is a caller's screenshot, which a purge reaches by its id.
Statements alone; whoever calls them holds the transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

import numpy as np

from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.digests import digest, is_sound
from pagesight_server.gallery.review_model import (
    KeepLimits,
    KeptAnswer,
    KeptFeatures,
    KeptPicture,
    ListedAnswer,
    Waiting,
)
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.gallery.transaction import image_key
from pagesight_server.text.reading import Reading

_ANSWER = (
    "k.number, k.image_id, k.revision, k.label, k.closest_label, k.score, k.threshold, k.doubt, "
    "k.review_reasons, k.kept_reason, k.kept_at_ms"
)
_DECIDED = (
    "EXISTS (SELECT 1 FROM decisions d WHERE d.image_id = k.image_id "
    "AND d.gallery_id = k.gallery_id AND d.known_label = '')"
)
"""SQL: true of an answer `k` whose picture somebody decided."""


def put(db: Connection, gallery_id: int, kept: KeptPicture) -> bool:
    """Keeps an answer in place of an earlier one to the same picture; not of one that was purged.

    Returns:
        Whether it is kept.
    """
    answer, made_by = kept.answer, kept.bundles
    key = image_key(answer.image_id)
    if db.execute("SELECT 1 FROM purged WHERE image_id = :key", {"key": key}).fetchone():
        return False
    db.execute(
        "DELETE FROM kept_answers WHERE image_id = :key AND gallery_id = :gallery",
        {"key": key, "gallery": gallery_id},
    )
    vector = kept.embedding.astype("<f2").tobytes()
    reading = None if kept.reading is None else kept.reading.to_json()
    values = {
        "gallery_id": gallery_id,
        "image_id": key,
        "revision": answer.revision,
        "label": answer.label,
        "closest_label": answer.closest_label,
        "score": answer.score,
        "threshold": answer.threshold,
        "doubt": answer.doubt,
        "review_reasons": json.dumps(answer.review_reasons),
        "kept_reason": answer.kept_reason,
        "kept_at_ms": answer.kept_at_ms,
        "size_bytes": len(kept.image),
        "encoder_bundle": made_by.encoder,
        "vector": vector,
        "vector_sha256": digest(key, made_by.encoder, vector),
        "ocr_bundle": made_by.ocr,
        "reading": reading,
        "reading_sha256": None if reading is None else digest(key, made_by.ocr, reading.encode()),
        "image_sha256": hashlib.sha256(kept.image).digest(),
        "image": kept.image,
    }
    names = ", ".join(values)
    marks = ", ".join(f":{name}" for name in values)
    db.execute(f"INSERT INTO kept_answers ({names}) VALUES ({marks})", values)
    return True


def trim(db: Connection, gallery_id: int, limits: KeepLimits) -> None:
    """Forgets the oldest answers of a gallery beyond what may be kept."""
    db.execute(
        "DELETE FROM kept_answers WHERE gallery_id = :gallery AND number <= (SELECT number FROM "
        "kept_answers WHERE gallery_id = :gallery ORDER BY number DESC LIMIT 1 OFFSET :most)",
        {"gallery": gallery_id, "most": limits.answers},
    )
    of_gallery = {"gallery": gallery_id}
    sizes = "SELECT number, size_bytes FROM kept_answers WHERE gallery_id = :gallery"
    total = db.execute(f"SELECT coalesce(sum(size_bytes), 0) AS n FROM ({sizes}) s", of_gallery)
    excess = int(total.fetchone()["n"]) - limits.max_bytes
    if excess <= 0:
        return
    last = 0
    for row in db.execute(f"{sizes} ORDER BY number", of_gallery).fetchall():
        last = row["number"]
        excess -= row["size_bytes"]
        if excess <= 0:
            break
    db.execute(
        "DELETE FROM kept_answers WHERE gallery_id = :gallery AND number <= :last",
        {"gallery": gallery_id, "last": last},
    )


def has_expired(db: Connection, before_ms: int) -> bool:
    """Whether there are answers from before a Unix time."""
    sql = "SELECT 1 FROM kept_answers WHERE kept_at_ms < :before LIMIT 1"
    return db.execute(sql, {"before": before_ms}).fetchone() is not None


def expire(db: Connection, before_ms: int) -> int:
    """Forgets the answers of every gallery from before a Unix time; how many there were."""
    return db.execute(
        "DELETE FROM kept_answers WHERE kept_at_ms < :before", {"before": before_ms}
    ).rowcount


def forget_pictures(db: Connection, keys: Iterable[bytes]) -> None:
    """Forgets whatever is kept of these pictures, in every gallery."""
    for key in keys:
        db.execute("DELETE FROM kept_answers WHERE image_id = :key", {"key": key})


def answers(
    db: Connection,
    gallery: Row,
    *,
    since_ms: int,
    undecided_by: Iterable[str],
    before: int,
    limit: int,
) -> list[ListedAnswer]:
    """Answers of a gallery, the newest first, with how often each was decided.

    Args:
        db: The store.
        gallery: Its row.
        since_ms: Unix time before which answers are forgotten.
        undecided_by: Without those that one of these reviewers decided.
        before: Only those with smaller numbers.
        limit: At most so many.
    """
    names = {f"reviewer{i}": name for i, name in enumerate(undecided_by)}
    undecided = ""
    if names:
        marks = ", ".join(f":{name}" for name in names)
        undecided = f"AND NOT {_DECIDED[:-1]} AND d.reviewer IN ({marks}))"
    rows = db.execute(
        f"SELECT {_ANSWER} FROM kept_answers k WHERE k.gallery_id = :gallery "
        f"AND k.kept_at_ms >= :since AND k.number < :before {undecided} "
        "ORDER BY k.number DESC LIMIT :limit",
        {
            "gallery": gallery["id"],
            "since": since_ms,
            "before": before,
            "limit": limit,
            **names,
        },
    ).fetchall()
    if not rows:
        return []
    decided: dict[bytes, dict[str, int]] = {}
    for row in db.execute(
        "SELECT d.image_id, d.reviewer, count(*) AS n FROM decisions d JOIN kept_answers k "
        "ON k.image_id = d.image_id AND k.gallery_id = d.gallery_id "
        "WHERE k.gallery_id = :gallery AND k.number BETWEEN :least AND :most "
        "AND d.known_label = '' GROUP BY d.image_id, d.reviewer",
        {"gallery": gallery["id"], "least": rows[-1]["number"], "most": rows[0]["number"]},
    ):
        decided.setdefault(row["image_id"], {})[row["reviewer"]] = row["n"]
    return [
        ListedAnswer(
            answer=_answer(row, gallery["name"]),
            number=row["number"],
            decisions=sum(decided.get(row["image_id"], {}).values()),
            reviewers=tuple(sorted(decided.get(row["image_id"], {}))),
        )
        for row in rows
    ]


def _answer(row: Row, gallery: str) -> KeptAnswer:
    return KeptAnswer(
        image_id=row["image_id"].hex(),
        gallery=gallery,
        revision=row["revision"],
        label=row["label"],
        closest_label=row["closest_label"],
        score=row["score"],
        threshold=row["threshold"],
        doubt=row["doubt"],
        review_reasons=tuple(json.loads(row["review_reasons"])),
        kept_reason=row["kept_reason"],
        kept_at_ms=row["kept_at_ms"],
    )


def image(db: Connection, gallery_id: int, image_id: str, since_ms: int) -> bytes | None:
    """The picture of a kept answer; None where there is none."""
    row = db.execute(
        "SELECT image FROM kept_answers WHERE image_id = :key AND gallery_id = :gallery "
        "AND kept_at_ms >= :since",
        {"key": image_key(image_id), "gallery": gallery_id, "since": since_ms},
    ).fetchone()
    return None if row is None else bytes(row["image"])


def features(
    db: Connection, gallery: Row, bundles: Bundles, since_ms: int
) -> Iterator[KeptFeatures]:
    """What these bundles made of the pictures of a gallery's answers, the newest first.

    Left out are those that other bundles have seen, and those that have changed on the disk.
    """
    rows = db.stream(
        f"SELECT {_ANSWER}, {db.dialect.binary.format('k.vector')} AS vector, k.vector_sha256, "
        f"{db.dialect.text.format('k.reading')} AS reading, k.reading_sha256 "
        "FROM kept_answers k WHERE k.gallery_id = :gallery AND k.kept_at_ms >= :since "
        "AND k.encoder_bundle = :encoder AND k.ocr_bundle = :ocr ORDER BY k.number DESC",
        {
            "gallery": gallery["id"],
            "since": since_ms,
            "encoder": bundles.encoder,
            "ocr": bundles.ocr,
        },
    )
    for row in rows:
        key, text = row["image_id"], row["reading"]
        if not is_sound(key, bundles.encoder, row["vector"], row["vector_sha256"]):
            continue
        if text is not None and not is_sound(key, bundles.ocr, text, row["reading_sha256"]):
            continue
        yield KeptFeatures(
            answer=_answer(row, gallery["name"]),
            embedding=np.frombuffer(row["vector"], "<f2").astype(np.float32),
            reading=None if text is None else Reading.from_json(bytes(text).decode()),
        )


def waiting(db: Connection, gallery_id: int, since_ms: int) -> Waiting:
    """The answers of a gallery that nobody decided yet."""
    row = db.execute(
        "SELECT count(*) AS n, min(k.kept_at_ms) AS oldest FROM kept_answers k "
        f"WHERE k.gallery_id = :gallery AND k.kept_at_ms >= :since AND NOT {_DECIDED}",
        {"gallery": gallery_id, "since": since_ms},
    ).fetchone()
    return Waiting(answers=row["n"], oldest_ms=row["oldest"])
