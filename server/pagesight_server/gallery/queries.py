"""What a gallery held at a revision: the reads of `store.py`, each one statement."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.digests import is_sound
from pagesight_server.gallery.model import GalleryInfo, ListedImage, Revision
from pagesight_server.gallery.snapshot import (
    LabelFacts,
    Picture,
    ReadTexts,
    Snapshot,
    is_reserved,
)
from pagesight_server.gallery.text_sample import TextSample
from pagesight_server.gallery.transaction import AT, facts_of, image_key, names
from pagesight_server.index.vectors import Vectors
from pagesight_server.text.reading import Reading, line_count

log = logging.getLogger(__name__)


def snapshot(
    db: Connection,
    gallery: Row,
    at: int,
    *,
    rounded: bool,
    texts_per_label: int | None,
    read_texts: ReadTexts,
) -> Snapshot:
    """Reads what recognition needs: how every picture looks, and the texts of a sample.

    Args:
        db: The store.
        gallery: Its row.
        at: The revision.
        rounded: Leaves the vectors as they are stored: half the memory, to be indexed first.
        texts_per_label: Pictures of a label at most whose text is learnt from; None: all.
        read_texts: Reads the other texts when they are asked for.
    """
    values = {"gallery": gallery["id"], "at": at, "encoder": gallery["encoder_bundle"]}
    tables = f"""
        FROM memberships m
        JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = :encoder
        WHERE m.gallery_id = :gallery AND {AT}"""
    count: int = db.execute(f"SELECT count(*) AS n {tables}", values).fetchone()["n"]
    # One row at a time: a million of them are not held twice.
    halves = np.empty((0, 0), np.float16)
    pictures: list[Picture] = []
    damaged: list[str] = []
    rows = db.stream(f"SELECT {look_columns(db)} {tables} ORDER BY m.label, m.image_id", values)
    for row in rows:
        if not has_sound_vector(row, gallery):
            damaged.append(row["image_id"].hex())
            continue
        vector = np.frombuffer(row["vector"], dtype="<f2")
        if not pictures:
            halves = np.empty((count, len(vector)), np.float16)
        halves[len(pictures)] = vector
        pictures.append(picture(row, None))
    halves = halves[: len(pictures)]
    while True:
        sample = TextSample(pictures, texts_per_label)
        missing = [
            row for of_label in sample.values() for row in of_label if pictures[row].reading is None
        ]
        if not missing:
            break
        found = texts(db, gallery["ocr_bundle"], [pictures[row].image_id for row in missing])
        for row in missing:
            pictures[row] = replace(pictures[row], reading=found.get(pictures[row].image_id))
        # Others of their labels come in for those whose text has changed on the disk.
        if lost := [row for row in missing if pictures[row].reading is None]:
            damaged += [pictures[row].image_id for row in lost]
            halves = np.delete(halves, lost, axis=0)
            for row in reversed(lost):
                del pictures[row]
    warn_of_damage(gallery["name"], damaged)
    return Snapshot(
        gallery=gallery["name"],
        revision=at,
        encoder_bundle=gallery["encoder_bundle"],
        ocr_bundle=gallery["ocr_bundle"],
        pictures=tuple(pictures),
        embeddings=Vectors.unindexed(halves) if rounded else halves.astype(np.float32),
        facts=facts(db, gallery, at),
        damaged=frozenset(damaged),
        texts_per_label=texts_per_label,
        read_texts=read_texts,
    )


TEXTS_AT_A_TIME = 500
"""Texts of one statement: each is a parameter, of which SQLite takes 32,766 and PostgreSQL as many
more."""


def texts(db: Connection, ocr_bundle: str, image_ids: Sequence[str]) -> dict[str, Reading]:
    """The texts of some pictures, by id; those that have changed on the disk or lack are left out.

    Args:
        db: The store.
        ocr_bundle: Which bundle read them.
        image_ids: Each once.
    """
    read: dict[str, Reading] = {}
    for begin in range(0, len(image_ids), TEXTS_AT_A_TIME):
        keys = [bytes.fromhex(one) for one in image_ids[begin : begin + TEXTS_AT_A_TIME]]
        names_of_keys = ", ".join(f":id{i}" for i in range(len(keys)))
        rows = db.execute(
            f"SELECT r.image_id, {db.dialect.text.format('r.reading')} AS reading, r.sha256 "
            f"FROM readings r WHERE r.bundle = :ocr AND r.image_id IN ({names_of_keys})",
            {"ocr": ocr_bundle, **{f"id{i}": key for i, key in enumerate(keys)}},
        )
        for row in rows:
            if is_sound(row["image_id"], ocr_bundle, row["reading"], row["sha256"]):
                read[row["image_id"].hex()] = Reading.from_json(row["reading"].decode())
    return read


def look_columns(db: Connection) -> str:
    """SQL: what is read of a picture, its text apart."""
    return f"""m.image_id, m.label, m.source, m.author, m.added_at_ms, m.added_revision,
        {db.dialect.binary.format("e.vector")} AS vector, e.sha256 AS vector_sha256"""


def has_sound_vector(row: Row, gallery: Row) -> bool:
    """Whether the embedding of a row of `look_columns` is as it was stored."""
    return is_sound(row["image_id"], gallery["encoder_bundle"], row["vector"], row["vector_sha256"])


def picture(row: Row, reading: Reading | None) -> Picture:
    """A picture from a row of `look_columns`, and its text."""
    return Picture(
        image_id=row["image_id"].hex(),
        # One string for all of a label's pictures, and of an author's.
        label=sys.intern(row["label"]),
        source=row["source"],
        author=sys.intern(row["author"]),
        added_at_ms=row["added_at_ms"],
        added_revision=row["added_revision"],
        reading=reading,
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
