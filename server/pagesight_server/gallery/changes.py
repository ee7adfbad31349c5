"""What became of a gallery since a revision, so that a large one is not read again for one picture.

memberships opened since and still open ──> joined, with embedding and text
memberships open then and closed since  ──> left
"""

from __future__ import annotations

import numpy as np

from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.queries import (
    facts,
    has_sound_vector,
    look_columns,
    picture,
    texts,
    warn_of_damage,
)
from pagesight_server.gallery.snapshot import Bundles, Changes


def changes(db: Connection, gallery: Row, since: int, at: int) -> Changes | None:
    """What lies between two revisions; None where a purge or restore did: they rewrite the past."""
    rewritten = db.execute(
        "SELECT 1 FROM revisions WHERE gallery_id = :gallery AND revision > :since "
        "AND revision <= :at AND kind IN ('purge', 'restore')",
        {"gallery": gallery["id"], "since": since, "at": at},
    ).fetchone()
    if rewritten is not None:
        return None
    values = {
        "gallery": gallery["id"],
        "since": since,
        "at": at,
        "encoder": gallery["encoder_bundle"],
    }
    joined = db.execute(
        f"""SELECT {look_columns(db)}
           FROM memberships m
           JOIN embeddings e ON e.image_id = m.image_id AND e.bundle = :encoder
           WHERE m.gallery_id = :gallery AND m.added_revision > :since
             AND m.added_revision <= :at
             AND (m.removed_revision IS NULL OR m.removed_revision > :at)
           ORDER BY m.label, m.image_id""",
        values,
    ).fetchall()
    left = db.execute(
        """SELECT label, image_id FROM memberships
           WHERE gallery_id = :gallery AND added_revision <= :since
             AND removed_revision > :since AND removed_revision <= :at""",
        values,
    ).fetchall()
    read = texts(db, gallery["ocr_bundle"], [row["image_id"].hex() for row in joined])
    sound, damaged = [], []
    for row in joined:
        if row["image_id"].hex() in read and has_sound_vector(row, gallery):
            sound.append(row)
        else:
            damaged.append(row["image_id"].hex())
    warn_of_damage(gallery["name"], damaged)
    vectors = [np.frombuffer(row["vector"], dtype="<f2") for row in sound]
    return Changes(
        revision=at,
        bundles=Bundles(encoder=gallery["encoder_bundle"], ocr=gallery["ocr_bundle"]),
        left=tuple((row["label"], row["image_id"].hex()) for row in left),
        joined=tuple(picture(row, read[row["image_id"].hex()]) for row in sound),
        halves=np.stack(vectors) if vectors else np.empty((0, 0), np.float16),
        facts=facts(db, gallery, at),
        damaged=frozenset(damaged),
    )
