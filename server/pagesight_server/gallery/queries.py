"""What a gallery held at a revision: the reads of `store.py`, each one statement."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.digests import is_sound
from pagesight_server.gallery.model import GalleryInfo, ListedImage, Revision
from pagesight_server.gallery.snapshot import LabelFacts, Picture, Snapshot, is_reserved
from pagesight_server.gallery.transaction import AT, facts_of, image_key, names
from pagesight_server.index.vectors import Vectors
from pagesight_server.text.reading import Reading, line_count

log = logging.getLogger(__name__)


def snapshot(db: Connection, gallery: Row, at: int, *, rounded: bool) -> Snapshot:
    """Reads everything that recognition needs of a gallery at one revision.

    Args:
        db: The store.
        gallery: Its row.
        at: The revision.
        rounded: Leaves the vectors as they are stored: half the memory, to be indexed first.
    """
    values = {
        "gallery": gallery["id"],
        "at": at,
        "encoder": gallery["encoder_bundle"],
        "ocr": gallery["ocr_bundle"],
    }
    tables = f"""
        FROM memberships m
        JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = :encoder
        JOIN readings r ON r.image_id = m.image_id AND r.bundle = :ocr
        WHERE m.gallery_id = :gallery AND {AT}"""
    count: int = db.execute(f"SELECT count(*) AS n {tables}", values).fetchone()["n"]
    # One row at a time: a million of them are not held twice.
    halves = np.empty((0, 0), np.float16)
    pictures: list[Picture] = []
    damaged: list[str] = []
    rows = db.stream(f"SELECT {picture_columns(db)} {tables} ORDER BY m.label, m.image_id", values)
    for row in rows:
        if not has_sound_content(row, gallery):
            damaged.append(row["image_id"].hex())
            continue
        vector = np.frombuffer(row["vector"], dtype="<f2")
        if not pictures:
            halves = np.empty((count, len(vector)), np.float16)
        halves[len(pictures)] = vector
        pictures.append(picture(row))
    warn_of_damage(gallery["name"], damaged)
    halves = halves[: len(pictures)]
    return Snapshot(
        gallery=gallery["name"],
        revision=at,
        encoder_bundle=gallery["encoder_bundle"],
        ocr_bundle=gallery["ocr_bundle"],
        pictures=tuple(pictures),
        embeddings=Vectors.unindexed(halves) if rounded else halves.astype(np.float32),
        facts=facts(db, gallery, at),
        damaged=frozenset(damaged),
    )


def picture_columns(db: Connection) -> str:
    """SQL: what is read of a picture."""
    dialect = db.dialect
    return f"""m.image_id, m.label, m.source, m.author, m.added_at_ms, m.added_revision,
        {dialect.binary.format("e.vector")} AS vector, e.sha256 AS vector_sha256,
        {dialect.text.format("r.reading")} AS reading, r.sha256 AS reading_sha256"""


def has_sound_content(row: Row, gallery: Row) -> bool:
    """Whether embedding and text of a row of `picture_columns` are as they were stored."""
    key = row["image_id"]
    return is_sound(
        key, gallery["encoder_bundle"], row["vector"], row["vector_sha256"]
    ) and is_sound(key, gallery["ocr_bundle"], row["reading"], row["reading_sha256"])


def picture(row: Row) -> Picture:
    """A picture from a row of `picture_columns`."""
    return Picture(
        image_id=row["image_id"].hex(),
        label=row["label"],
        source=row["source"],
        author=row["author"],
        added_at_ms=row["added_at_ms"],
        added_revision=row["added_revision"],
        reading=Reading.from_json(row["reading"].decode()),
    )


def warn_of_damage(gallery: str, image_ids: Sequence[str]) -> None:
    """Logs that pictures are left out of a gallery, and how they come back."""
    if image_ids:
        log.warning(
            "gallery %s: embedding or text of %d pictures has changed on the disk (%s); they are "
            "left out until `pagesight-server gallery reindex`, or the next start of `serve`, "
            "makes them anew",
            gallery,
            len(image_ids),
            names(image_ids),
        )


def facts(db: Connection, gallery: Row, at: int) -> dict[str, LabelFacts]:
    """What the operator knew of each label."""
    rows = db.execute(
        f"SELECT label, brands, outputs FROM facts WHERE gallery_id = :gallery AND {AT}",
        {"gallery": gallery["id"], "at": at},
    )
    return {row["label"]: facts_of(row) for row in rows}


def label_counts(db: Connection, gallery: Row, at: int) -> dict[str, int]:
    """How many pictures each label had."""
    rows = db.execute(
        f"SELECT label, count(*) AS n FROM memberships "
        f"WHERE gallery_id = :gallery AND {AT} GROUP BY label",
        {"gallery": gallery["id"], "at": at},
    )
    return {row["label"]: row["n"] for row in rows}


def galleries(db: Connection, *, after: str, limit: int) -> list[GalleryInfo]:
    """Galleries by name, those after a name."""
    rows = db.execute(
        "SELECT * FROM galleries WHERE deleted = 0 AND name > :after ORDER BY name LIMIT :limit",
        {"after": after, "limit": limit},
    ).fetchall()
    return [gallery(db, row) for row in rows]


def gallery(db: Connection, row: Row) -> GalleryInfo:
    """One gallery at its present revision."""
    counts = label_counts(db, row, row["revision"])
    return GalleryInfo(
        name=row["name"],
        revision=row["revision"],
        images=sum(counts.values()),
        labels=sum(not is_reserved(label) for label in counts),
        encoder_bundle=row["encoder_bundle"],
        ocr_bundle=row["ocr_bundle"],
    )


def images(
    db: Connection,
    gallery: Row,
    at: int,
    *,
    label: str | None,
    after: tuple[str, str],
    limit: int,
) -> list[ListedImage]:
    """Pictures by label and id, those after a label and id."""
    sql = f"""
        SELECT m.image_id, m.label, m.source, m.author, m.added_at_ms, m.added_revision,
               i.width_px, i.height_px, {db.dialect.text.format("r.reading")} AS reading
        FROM memberships m JOIN images i ON i.id = m.image_id
        LEFT JOIN readings r ON r.image_id = m.image_id AND r.bundle = :ocr
        WHERE m.gallery_id = :gallery AND {AT}
          AND (CAST(:label AS TEXT) IS NULL OR m.label = :label)
          AND (m.label, m.image_id) > (:after_label, :after_id)
        ORDER BY m.label, m.image_id LIMIT :limit"""
    rows = db.execute(
        sql,
        {
            "gallery": gallery["id"],
            "at": at,
            "ocr": gallery["ocr_bundle"],
            "label": label,
            "after_label": after[0],
            "after_id": image_key(after[1]) if after[1] else b"",
            "limit": limit,
        },
    )
    listed = []
    for row in rows:
        columns = dict(row)
        reading = columns.pop("reading")
        columns["image_id"] = row["image_id"].hex()
        columns["text_lines"] = line_count(reading.decode(errors="replace")) if reading else 0
        listed.append(ListedImage(**columns))
    return listed


def has_image(db: Connection, gallery: Row, at: int, image_id: str) -> bool:
    """Whether a picture was a member."""
    row = db.execute(
        f"SELECT 1 FROM memberships WHERE gallery_id = :gallery AND image_id = :image AND {AT}",
        {"gallery": gallery["id"], "at": at, "image": image_key(image_id)},
    ).fetchone()
    return row is not None


def history(db: Connection, gallery: Row, *, before: int, limit: int) -> list[Revision]:
    """Changes before a revision, newest first."""
    rows = db.execute(
        "SELECT revision, made_at_ms, author, kind, summary, images FROM revisions "
        "WHERE gallery_id = :gallery AND revision < :before ORDER BY revision DESC LIMIT :limit",
        {"gallery": gallery["id"], "before": before, "limit": limit},
    )
    return [Revision(**dict(row)) for row in rows]


def has_revision(db: Connection, gallery_id: int, revision: int) -> bool:
    """Whether a change made this revision. After a restore some numbers are left out."""
    sql = "SELECT 1 FROM revisions WHERE gallery_id = :gallery AND revision = :revision"
    return db.execute(sql, {"gallery": gallery_id, "revision": revision}).fetchone() is not None


def answer(db: Connection, gallery: str, request_id: str) -> Row | None:
    """What a change was told: kind and answer."""
    row: Row | None = db.execute(
        "SELECT a.kind, a.answer FROM answers a JOIN galleries g ON g.id = a.gallery_id "
        "WHERE g.name = :gallery AND a.request_id = :request_id",
        {"gallery": gallery, "request_id": request_id},
    ).fetchone()
    return row
