"""Verifies a store: what the database can say of itself, and what it cannot.

    file ──> pages, references ──> pictures: hash, embedding, text ──> history ──> findings

A finding says what to do. An empty list means that every picture that counts can be
recognised with and every revision adds up.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.digests import is_sound
from pagesight_server.gallery.transaction import NOW
from pagesight_server.text.reading import Reading

_ANEW = "`pagesight-server gallery reindex` makes it anew from the kept original"

_NORM_TOLERANCE = 0.01
"""fp16 rounds each value by at most 2^-11 of itself, so the length by about 0.0005."""


def findings(db: Connection) -> Iterator[str]:
    """What is wrong with a store, one line each, as it is found."""
    try:
        if db.dialect.name == "sqlite":
            broken = [row["integrity_check"] for row in db.execute("PRAGMA integrity_check")]
            if broken != ["ok"]:
                yield from (f"damaged file: {line}: restore a backup" for line in broken)
                return
            for row in db.execute("PRAGMA foreign_key_check"):
                yield f"table {row['table']} refers to what {row['parent']} lacks: restore a backup"
        yield from _pictures(db)
        yield from _embeddings(db)
        yield from _readings(db)
        yield from _calibrations(db)
        yield from _kept_answers(db)
        yield from _dismissed(db)
        for gallery in db.execute("SELECT * FROM galleries ORDER BY name").fetchall():
            yield from _members(db, gallery)
            yield from _history(db, gallery)
        sql = "SELECT count(*) AS n FROM purged WHERE scrubbed = 0"
        unscrubbed = db.execute(sql).fetchone()["n"]
        if unscrubbed:
            yield f"the purge of {unscrubbed} pictures did not end: run `gallery purge` again"
    except db.dialect.damage as error:
        yield f"damaged file: {error}: restore a backup"


def _pictures(db: Connection) -> Iterator[str]:
    rows = db.stream(
        f"SELECT i.id, {db.dialect.binary.format('i.bytes')} AS bytes, k.form, k.size_bytes, "
        "k.thumbnail_sha256 FROM images i LEFT JOIN kept k ON k.image_id = i.id"
    )
    for row in rows:
        name, data = row["id"].hex(), row["bytes"]
        if row["form"] is None:
            yield f"picture {name}: an older pagesight wrote it; stop it and enrol it again"
        elif (data is None) != (row["form"] in {"none", "expired"}):
            yield f"picture {name} is marked {row['form']}, which it is not: enrol it again"
        elif data is not None:
            expected = row["id"] if row["form"] == "original" else row["thumbnail_sha256"]
            if hashlib.sha256(data).digest() != expected or len(data) != row["size_bytes"]:
                yield f"picture {name}: its bytes have changed: restore a backup"


def _embeddings(db: Connection) -> Iterator[str]:
    counted: dict[str, Counter[int]] = {}
    for row in db.execute(
        "SELECT bundle, length(vector) AS size, count(*) AS n FROM embeddings "
        "GROUP BY bundle, length(vector) ORDER BY bundle, size"
    ):
        counted.setdefault(row["bundle"], Counter())[row["size"]] += row["n"]
    usual = {bundle: counts.most_common(1)[0][0] for bundle, counts in counted.items()}
    vector = db.dialect.binary.format("vector")
    for row in db.stream(f"SELECT image_id, bundle, {vector} AS vector, sha256 FROM embeddings"):
        name, data = row["image_id"].hex(), row["vector"]
        problem = None
        if not is_sound(row["image_id"], row["bundle"], data, row["sha256"]):
            yield f"picture {name}: its embedding by {row['bundle']} has changed: {_ANEW}"
        elif len(data) != usual[row["bundle"]] or len(data) % 2:
            problem = f"has {len(data) // 2} values, others have {usual[row['bundle']] // 2}"
        else:
            length = float(np.linalg.norm(np.frombuffer(data, "<f2").astype(np.float32)))
            if not abs(length - 1) <= _NORM_TOLERANCE:
                problem = f"has length {length:.3g}, not 1"
        if problem:
            yield f"picture {name}: its embedding by {row['bundle']} {problem}: restore a backup"


def _readings(db: Connection) -> Iterator[str]:
    reading = db.dialect.text.format("reading")
    for row in db.stream(f"SELECT image_id, bundle, {reading} AS reading, sha256 FROM readings"):
        name = row["image_id"].hex()
        if not is_sound(row["image_id"], row["bundle"], row["reading"], row["sha256"]):
            yield f"picture {name}: its text by {row['bundle']} has changed: {_ANEW}"
            continue
        try:
            Reading.from_json(row["reading"].decode())
        except ValueError as error:
            yield f"picture {name}: its text by {row['bundle']} cannot be read ({error})"


def _calibrations(db: Connection) -> Iterator[str]:
    """Checks the calibrations still in use: of present revisions, and of labelled traffic."""
    calibration = db.dialect.text.format("c.calibration")
    rows = db.execute(
        f"SELECT g.name, c.revision, c.method, {calibration} AS calibration, c.sha256 "
        "FROM calibrations c JOIN galleries g ON g.id = c.gallery_id "
        "WHERE c.revision = g.revision OR c.method LIKE '% validation %'"
    )
    for row in rows:
        if not is_sound(row["revision"], row["method"], row["calibration"], row["sha256"]):
            again = "serve, or `pagesight-server calibrate`, makes it anew"
            if " validation " in row["method"]:
                again = "run `calibrate --validation DIR` again, or --forget-validation"
            yield (
                f"gallery {row['name']}: its calibration of revision {row['revision']} has "
                f"changed: {again}"
            )


def _kept_answers(db: Connection) -> Iterator[str]:
    image, vector = (db.dialect.binary.format(f"k.{name}") for name in ("image", "vector"))
    rows = db.stream(
        f"SELECT k.image_id, g.name, k.encoder_bundle, {vector} AS vector, k.vector_sha256, "
        f"k.ocr_bundle, {db.dialect.text.format('k.reading')} AS reading, k.reading_sha256, "
        f"{image} AS image, k.image_sha256, k.size_bytes, p.image_id AS purged "
        "FROM kept_answers k JOIN galleries g ON g.id = k.gallery_id "
        "LEFT JOIN purged p ON p.image_id = k.image_id"
    )
    for row in rows:
        key, data, text = row["image_id"], row["image"], row["reading"]
        what = f"gallery {row['name']}: what is kept for review of picture {key.hex()}"
        sound = hashlib.sha256(data).digest() == row["image_sha256"]
        sound = sound and len(data) == row["size_bytes"]
        sound = sound and is_sound(key, row["encoder_bundle"], row["vector"], row["vector_sha256"])
        if text is not None:
            digest = row["reading_sha256"]
            sound = sound and is_sound(key, row["ocr_bundle"], text, digest)
        if not sound:
            yield f"{what} has changed: it goes with its days, or purge it"
        if row["purged"] is not None:
            yield f"{what} outlived its purge: run `gallery purge` of it again"
    rows = db.execute("SELECT d.image_id FROM decisions d JOIN purged p ON p.image_id = d.image_id")
    for row in rows:
        yield (
            f"a decision about picture {row['image_id'].hex()} outlived its purge: run "
            "`gallery purge` of it again"
        )


def _dismissed(db: Connection) -> Iterator[str]:
    vector = db.dialect.binary.format("d.vector")
    rows = db.stream(
        f"SELECT d.image_id, g.name, d.encoder_bundle, {vector} AS vector, d.vector_sha256, "
        f"d.ocr_bundle, {db.dialect.text.format('d.reading')} AS reading, d.reading_sha256, "
        "p.image_id AS purged FROM dismissed d JOIN galleries g ON g.id = d.gallery_id "
        "LEFT JOIN purged p ON p.image_id = d.image_id"
    )
    for row in rows:
        key = row["image_id"]
        what = f"gallery {row['name']}: what is kept of the dismissed picture {key.hex()}"
        sound = is_sound(key, row["encoder_bundle"], row["vector"], row["vector_sha256"])
        if not sound or not is_sound(key, row["ocr_bundle"], row["reading"], row["reading_sha256"]):
            yield f"{what} has changed: it is not used, dismiss its cluster again"
        if row["purged"] is not None:
            yield f"{what} outlived its purge: run `gallery purge` of it again"


def _members(db: Connection, gallery: Row) -> Iterator[str]:
    rows = db.execute(
        f"""SELECT m.image_id FROM memberships m
            LEFT JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = :encoder
            LEFT JOIN readings r ON r.image_id = m.image_id AND r.bundle = :ocr
            WHERE m.gallery_id = :gallery AND m.{NOW} AND (e.bundle IS NULL OR r.bundle IS NULL)""",
        {
            "encoder": gallery["encoder_bundle"],
            "ocr": gallery["ocr_bundle"],
            "gallery": gallery["id"],
        },
    )
    for row in rows:
        yield (
            f"gallery {gallery['name']}: picture {row['image_id'].hex()} has no embedding or text "
            "of the gallery's bundles: remove it and enrol it again"
        )


def _history(db: Connection, gallery: Row) -> Iterator[str]:
    """Each revision says how many pictures it had; memberships must add up to the same."""
    name = gallery["name"]
    told = {
        row["revision"]: row["images"]
        for row in db.execute(
            "SELECT revision, images FROM revisions WHERE gallery_id = :gallery ORDER BY revision",
            {"gallery": gallery["id"]},
        )
    }
    if max(told, default=0) != gallery["revision"]:
        yield f"gallery {name} is at revision {gallery['revision']}, its history ends elsewhere"
    change: Counter[int] = Counter()
    for table in ("memberships", "purged_memberships"):
        rows = db.execute(
            f"SELECT added_revision, removed_revision FROM {table} WHERE gallery_id = :gallery",
            {"gallery": gallery["id"]},
        )
        for row in rows:
            added, removed = row["added_revision"], row["removed_revision"]
            if removed is not None and removed <= added:
                yield f"gallery {name}: a picture was removed before it was added, at {added}"
            change[added] += 1
            if removed is not None:
                change[removed] -= 1
    yield from (
        f"gallery {name}: pictures came or went at revision {at}, which the history lacks"
        for at in sorted(change.keys() - told.keys())
    )
    count = 0
    for revision, images in told.items():
        count += change[revision]
        if count != images:
            yield f"gallery {name}, revision {revision}: {count} pictures, not {images} as it says"
