"""The row of a gallery: found, locked while its next revision is made, made and taken back.

Whoever changes a gallery locks its row before the revision is numbered, so the order of
revisions is the order of commits. A gallery that is made starts as if it had been deleted, so
that there is a row to lock: of two who make it at once, one waits for the other.
"""

from __future__ import annotations

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.snapshot import Bundles, check_label, normal_form


def not_found(name: str) -> NotFoundError:
    """The error of a gallery that is not there."""
    return NotFoundError(f"no gallery {name!r}: enrol a picture to create it")


def find_gallery(db: Connection, name: str, *, deleted: bool = False) -> Row | None:
    """The row of a gallery; of a deleted one only where that is asked for."""
    row: Row | None = db.execute(
        "SELECT * FROM galleries WHERE name = :name AND deleted = :deleted",
        {"name": normal_form(name), "deleted": int(deleted)},
    ).fetchone()
    return row


def gallery_row(db: Connection, name: str) -> Row:
    """The row of a gallery; raises NotFoundError where there is none."""
    row = find_gallery(db, name)
    if row is None:
        raise not_found(name)
    return row


def lock_gallery(db: Connection, name: str) -> Row | None:
    """The row of a gallery, be it deleted; who changes it too waits for this transaction."""
    row: Row | None = db.execute(
        f"SELECT * FROM galleries WHERE name = :name{db.dialect.locked}",
        {"name": normal_form(name)},
    ).fetchone()
    return row


def lock_gallery_row(db: Connection, name: str) -> Row:
    """Does what `lock_gallery` does; raises NotFoundError where there is none, or it is deleted."""
    row = lock_gallery(db, name)
    if row is None or row["deleted"]:
        raise not_found(name)
    return row


def insert_gallery(db: Connection, name: str, bundles: Bundles) -> Row:
    """The locked row of a gallery that was not there, unless somebody made it just now.

    Raises:
        InvalidRequestError: it cannot be a name.
    """
    checked = check_label(name)
    while (row := lock_gallery(db, checked)) is None:
        db.execute(
            "INSERT INTO galleries (name, revision, encoder_bundle, ocr_bundle, deleted) "
            "VALUES (:name, 0, :encoder, :ocr, 1) ON CONFLICT DO NOTHING",
            {"name": checked, "encoder": bundles.encoder, "ocr": bundles.ocr},
        )
    return row


def created(db: Connection, row: Row, bundles: Bundles) -> Row:
    """Makes a gallery of these bundles of one that is deleted; its new row."""
    db.execute(
        "UPDATE galleries SET deleted = 0, encoder_bundle = :encoder, ocr_bundle = :ocr "
        "WHERE id = :id",
        {"encoder": bundles.encoder, "ocr": bundles.ocr, "id": row["id"]},
    )
    return gallery_row(db, row["name"])


def take_back(db: Connection, row: Row) -> None:
    """Undoes `created` in the same transaction."""
    if row["revision"]:
        db.execute("UPDATE galleries SET deleted = 1 WHERE id = :id", {"id": row["id"]})
    else:
        db.execute("DELETE FROM galleries WHERE id = :id", {"id": row["id"]})
