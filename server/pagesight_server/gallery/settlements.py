"""What a person looked at in a gallery and found to be well: kept until it is taken back.

    settle    finding (its key, its pictures) ──> who, when, why
    unsettle  the key is forgotten
    purge     whatever was settled about the picture is forgotten, notes and all

A settlement is about pictures and not about a revision: it makes none, and a rollback leaves it
alone. Which finding a key names is `curation.findings`' knowledge.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery.model import Settled, Settlement
from pagesight_server.gallery.transaction import NOW, image_key, names


def settle(
    db: sqlite3.Connection,
    gallery: sqlite3.Row,
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
        made = db.execute(
            "INSERT INTO settlements (gallery_id, finding_key, kind, author, note, settled_at_ms) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                gallery["id"],
                finding.key,
                finding.kind,
                settlement.author,
                settlement.note,
                settlement.settled_at_ms,
            ),
        )
        db.executemany(
            "INSERT INTO settled_images (settlement_id, image_id) VALUES (?, ?)",
            [(made.lastrowid, key) for key in sorted(keys)],
        )


def _check_there(
    db: sqlite3.Connection, gallery: sqlite3.Row, labels: Sequence[str], keys: Sequence[bytes]
) -> None:
    """Raises NotFoundError unless all of these labels and pictures are in the gallery now."""

    def there(column: str, value: str | bytes) -> bool:
        sql = f"SELECT 1 FROM memberships WHERE gallery_id = ? AND {column} = ? AND {NOW} LIMIT 1"
        return db.execute(sql, (gallery["id"], value)).fetchone() is not None

    if unknown := [label for label in labels if not there("label", label)]:
        raise NotFoundError(f"the gallery has no label {names(unknown)}")
    if gone := [key.hex() for key in keys if not there("image_id", key)]:
        raise NotFoundError(f"gallery {gallery['name']!r} has no image {names(gone)}")


def forget(db: sqlite3.Connection, gallery_id: int, keys: Iterable[str]) -> list[str]:
    """Forgets what was settled; the keys of what was."""
    sql = "DELETE FROM settlements WHERE gallery_id = ? AND finding_key = ?"
    return [key for key in dict.fromkeys(keys) if db.execute(sql, (gallery_id, key)).rowcount]


def forget_pictures(db: sqlite3.Connection, keys: Iterable[bytes]) -> None:
    """Forgets whatever was settled about these pictures, in every gallery."""
    db.executemany(
        "DELETE FROM settlements WHERE id IN "
        "(SELECT settlement_id FROM settled_images WHERE image_id = ?)",
        [(key,) for key in keys],
    )


def settlements(db: sqlite3.Connection, gallery_id: int) -> Mapping[str, Settlement]:
    """What is settled in a gallery, by the key of the finding."""
    rows = db.execute(
        "SELECT finding_key, author, note, settled_at_ms FROM settlements WHERE gallery_id = ?",
        (gallery_id,),
    )
    return {
        row["finding_key"]: Settlement(
            author=row["author"], note=row["note"], settled_at_ms=row["settled_at_ms"]
        )
        for row in rows
    }
