"""What a person looked at in a gallery and found to be well: kept until it is taken back.

    settle    finding (its key, its pictures) ──> who, when, why
    unsettle  the key is forgotten
    purge     whatever was settled about the picture is forgotten, notes and all

A settlement is about pictures and not about a revision: it makes none, and a rollback leaves it
alone. Which finding a key names is `curation.findings`' knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.model import Settled, Settlement
from pagesight_server.gallery.transaction import NOW, image_key, names


def settle(
    db: Connection,
    gallery: Row,
    findings: Sequence[Settled],
    settlement: Settlement,
) -> None:
    """Notes that findings are settled, over what was noted of them before.

    Raises:
        NotFoundError: the gallery lacks a picture or a label of one; nothing is changed, if the
            transaction ends with it.
    """
    for finding in findings:
        keys = {image_key(image_id) for image_id in finding.image_ids}
        _check_there(db, gallery, finding.labels, sorted(keys))
        forget(db, gallery["id"], [finding.key])
        of_it = {"gallery": gallery["id"], "key": finding.key}
        db.execute(
            "INSERT INTO settlements (gallery_id, finding_key, kind, author, note, settled_at_ms) "
            "VALUES (:gallery, :key, :kind, :author, :note, :settled_at_ms)",
            {
                **of_it,
                "kind": finding.kind,
                "author": settlement.author,
                "note": settlement.note,
                "settled_at_ms": settlement.settled_at_ms,
            },
        )
        db.executemany(
            "INSERT INTO settled_images (settlement_id, image_id) SELECT id, :image "
            "FROM settlements WHERE gallery_id = :gallery AND finding_key = :key",
            [{**of_it, "image": image} for image in sorted(keys)],
        )


def _check_there(
    db: Connection, gallery: Row, labels: Sequence[str], keys: Sequence[bytes]
) -> None:
    """Raises NotFoundError unless all of these labels and pictures are in the gallery now."""

    def there(column: str, value: str | bytes) -> bool:
        sql = f"""SELECT 1 FROM memberships
                  WHERE gallery_id = :gallery AND {column} = :value AND {NOW} LIMIT 1"""
        return db.execute(sql, {"gallery": gallery["id"], "value": value}).fetchone() is not None

    if unknown := [label for label in labels if not there("label", label)]:
        raise NotFoundError(f"the gallery has no label {names(unknown)}")
    if gone := [key.hex() for key in keys if not there("image_id", key)]:
        raise NotFoundError(f"gallery {gallery['name']!r} has no image {names(gone)}")


def forget(db: Connection, gallery_id: int, keys: Iterable[str]) -> list[str]:
    """Forgets what was settled; the keys of what was."""
    sql = "DELETE FROM settlements WHERE gallery_id = :gallery AND finding_key = :key"
    return [
        key
        for key in dict.fromkeys(keys)
        if db.execute(sql, {"gallery": gallery_id, "key": key}).rowcount
    ]


def forget_pictures(db: Connection, keys: Iterable[bytes]) -> None:
    """Forgets whatever was settled about these pictures, in every gallery."""
    db.executemany(
        "DELETE FROM settlements WHERE id IN "
        "(SELECT settlement_id FROM settled_images WHERE image_id = :image)",
        [{"image": key} for key in keys],
    )


def settlements(db: Connection, gallery_id: int) -> Mapping[str, Settlement]:
    """What is settled in a gallery, by the key of the finding."""
    rows = db.execute(
        "SELECT finding_key, author, note, settled_at_ms FROM settlements "
        "WHERE gallery_id = :gallery",
        {"gallery": gallery_id},
    )
    return {
        row["finding_key"]: Settlement(
            author=row["author"], note=row["note"], settled_at_ms=row["settled_at_ms"]
        )
        for row in rows
    }
