"""Letting go of pictures: for ever, or of those that were removed long ago.

    purge    images, embeddings, readings, label, source, kept answers  ──>  gone
             memberships  ──>  purged_memberships: revision, time, who, content hash
             what was settled about them, decided of them, or dismissed with them  ──>  gone
    expire   what has been in no gallery for so many days loses its content; the history stays

Statements alone: `Database.scrub` then rewrites what is on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery import contents, decisions, dismissed, kept, settlements
from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.model import Limits
from pagesight_server.gallery.transaction import Edit, image_key, names

UNUSED_MS = 24 * 60 * 60 * 1000
"""Content that is in no gallery may be that of an enrolment under way, but not for a day."""

_WITHHELD = "withheld: it named a picture that was purged"


def purge(db: Connection, image_ids: Sequence[str], author: str, now_ms: int) -> dict[str, int]:
    """Purges pictures from every gallery; those that are purged already may be named again.

    Returns:
        The new revision of each gallery that ever held one of them; deleted ones are purged
        without a word.

    Raises:
        NotFoundError: the store never had one of them; nothing is changed.
    """
    keys = [image_key(image_id) for image_id in dict.fromkeys(image_ids)]
    done = {row["image_id"] for row in db.execute("SELECT image_id FROM purged")}
    todo = [key for key in keys if key not in done]
    missing = [
        key.hex()
        for key in todo
        if db.execute(f"SELECT 1 FROM ({contents.IDS}) i WHERE id = :key", {"key": key}).fetchone()
        is None
    ]
    if missing:
        raise NotFoundError(f"the store has no image {names(missing)}: nothing was purged")
    holding = {
        row["gallery_id"]
        for key in todo
        for row in db.execute(
            "SELECT DISTINCT gallery_id FROM memberships WHERE image_id = :image", {"image": key}
        )
    }
    galleries = [
        row
        for row in db.execute("SELECT * FROM galleries ORDER BY id").fetchall()
        if row["id"] in holding
    ]
    db.executemany(
        "INSERT INTO purged (image_id, purged_at_ms, author, scrubbed) "
        "VALUES (:image, :now_ms, :author, 0)",
        [{"image": key, "now_ms": now_ms, "author": author} for key in todo],
    )
    revisions = {}
    for gallery in galleries:
        edit = Edit(db, gallery, author, now_ms, Limits())
        mine = [key for key in todo if _leave(db, gallery["id"], key, edit.revision + 1)]
        edit.commit("purge", f"purged {names([key.hex() for key in mine])}")
        if not gallery["deleted"]:
            revisions[gallery["name"]] = edit.revision + 1
    # Answers that were told before may quote labels; no picture may outlive itself in one.
    for key in todo:
        db.execute("DELETE FROM answers WHERE answer LIKE :quoted", {"quoted": f"%{key.hex()}%"})
    settlements.forget_pictures(db, todo)
    kept.forget_pictures(db, keys)
    decisions.forget_pictures(db, keys)
    dismissed.forget_pictures(db, keys)
    contents.delete(db, todo)
    return revisions


def _leave(db: Connection, gallery_id: int, key: bytes, revision: int) -> bool:
    """Takes one picture out of the past and the present of a gallery; says whether it was there."""
    of_it = {"gallery": gallery_id, "image": key}
    rows = db.execute(
        "SELECT * FROM memberships WHERE gallery_id = :gallery AND image_id = :image", of_it
    ).fetchall()
    for row in rows:
        removed = row["removed_revision"] or revision
        db.execute(
            "INSERT INTO purged_memberships (gallery_id, image_id, author, added_at_ms, "
            "added_revision, removed_revision) "
            "VALUES (:gallery, :image, :author, :added_at_ms, :added, :removed)",
            {
                **of_it,
                "author": row["author"],
                "added_at_ms": row["added_at_ms"],
                "added": row["added_revision"],
                "removed": removed,
            },
        )
        db.execute(
            "UPDATE revisions SET summary = :summary "
            "WHERE gallery_id = :gallery AND revision IN (:added, :removed)",
            {
                "summary": _WITHHELD,
                "gallery": gallery_id,
                "added": row["added_revision"],
                "removed": removed,
            },
        )
    db.execute("DELETE FROM memberships WHERE gallery_id = :gallery AND image_id = :image", of_it)
    # Thresholds from the gallery's own pictures are made again; one that labelled traffic placed
    # has nothing of them (knowledge.validated_calibration_key).
    db.execute(
        "DELETE FROM calibrations WHERE gallery_id = :gallery AND method NOT LIKE '% validation %'",
        {"gallery": gallery_id},
    )
    return bool(rows)


def expire(db: Connection, removed_before_ms: int | None, now_ms: int) -> tuple[int, int]:
    """Deletes the content of pictures that were removed before, and what was never enrolled.

    Args:
        db: The store, in a transaction.
        removed_before_ms: Unix time; None keeps whatever was once in a gallery.
        now_ms: Unix time.

    Returns:
        How many removed pictures lost their content, and how many were never enrolled.
    """
    removed: list[bytes] = []
    if removed_before_ms is not None:
        rows = db.execute(
            """SELECT m.image_id FROM memberships m JOIN kept k USING (image_id)
               LEFT JOIN revisions r
                 ON r.gallery_id = m.gallery_id AND r.revision = m.removed_revision
               WHERE k.form <> 'expired' GROUP BY m.image_id
               HAVING count(r.revision) = count(*) AND max(r.made_at_ms) < :before_ms""",
            {"before_ms": removed_before_ms},
        )
        removed = [row["image_id"] for row in rows]
    contents.forget(db, removed)
    rows = db.execute(
        """SELECT k.image_id FROM kept k LEFT JOIN memberships m USING (image_id)
           WHERE m.image_id IS NULL AND k.stored_at_ms < :before_ms""",
        {"before_ms": now_ms - UNUSED_MS},
    )
    unused = [row["image_id"] for row in rows]
    contents.delete(db, unused)
    return len(removed), len(unused)
