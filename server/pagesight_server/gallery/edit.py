"""One change of one gallery: the statements that make up a transaction of `store.py`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from pagesight_server.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
)
from pagesight_server.gallery.values import Entry, Outcome
from pagesight_server.snapshot import Bundles, LabelFacts, check_bundles, check_label

NOW = "removed_revision IS NULL"
"""SQL: true of what counts now."""

AT = "added_revision <= :at AND (removed_revision IS NULL OR removed_revision > :at)"
"""SQL: true of what counted at the revision `:at`."""


class Edit:
    """One change of one gallery, inside a transaction."""

    def __init__(
        self, db: sqlite3.Connection, gallery: sqlite3.Row, author: str, now_ms: int
    ) -> None:
        self._db = db
        self._row = gallery
        self._id = gallery["id"]
        self._author = author
        self._now_ms = now_ms
        self.revision: int = gallery["revision"]
        self._next = self.revision + 1

    def check_bundles(self, bundles: Bundles) -> None:
        """Raises BundleMismatchError unless the gallery was made with these."""
        made_by = Bundles(encoder=self._row["encoder_bundle"], ocr=self._row["ocr_bundle"])
        check_bundles(self._row["name"], made_by, bundles)

    def add(self, entry: Entry) -> Outcome:
        """Enrols one picture; what speaks against it is told in the outcome."""
        error = entry.error
        if error is None:
            present = self._find(entry.image_id)
            if present is None:
                self.open(entry.image_id, check_label(entry.label), entry.source)
                return Outcome(image_id=entry.image_id, added=True)
            if present["label"] == entry.label:
                return Outcome(image_id=entry.image_id, added=False)
            error = AlreadyExistsError(
                f"the same picture is enrolled as {present['label']!r}: relabel it instead"
            )
        told = (error.status, error.reason, str(error))
        return Outcome(image_id=entry.image_id, added=False, error=told)

    def member(self, image_id: str) -> sqlite3.Row:
        """The membership of a picture; raises NotFoundError when there is none."""
        row = self._find(image_id)
        if row is None:
            raise NotFoundError(f"gallery {self._row['name']!r} has no image {image_id}")
        return row

    def _find(self, image_id: str) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._db.execute(
            f"SELECT * FROM memberships WHERE gallery_id = ? AND image_id = ? AND {NOW}",
            (self._id, image_key(image_id)),
        ).fetchone()
        return row

    def open(self, image_id: str, label: str, source: str) -> None:
        """Makes a picture a member from the new revision on."""
        self._db.execute(
            "INSERT INTO memberships VALUES (?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                self._id,
                image_key(image_id),
                label,
                source,
                self._author,
                self._now_ms,
                self._next,
            ),
        )

    def close(self, image_id: str) -> sqlite3.Row:
        """Ends the membership of a picture with the old revision, and returns it."""
        row = self.member(image_id)
        self._db.execute(
            f"UPDATE memberships SET removed_revision = ? "
            f"WHERE gallery_id = ? AND image_id = ? AND {NOW}",
            (self._next, self._id, row["image_id"]),
        )
        return row

    def labels(self) -> set[str]:
        """The labels that have a picture now."""
        rows = self._db.execute(
            f"SELECT DISTINCT label FROM memberships WHERE gallery_id = ? AND {NOW}", (self._id,)
        )
        return {row["label"] for row in rows}

    def set_facts(self, label: str, facts: LabelFacts) -> bool:
        """Replaces the facts of one label; says whether they differ."""
        row = self._db.execute(
            f"SELECT * FROM facts WHERE gallery_id = ? AND label = ? AND {NOW}", (self._id, label)
        ).fetchone()
        if (facts_of(row) if row else LabelFacts()) == facts:
            return False
        self._close_facts(label)
        if facts != LabelFacts():
            self._db.execute(
                "INSERT INTO facts VALUES (?, ?, ?, ?, ?, NULL)",
                (
                    self._id,
                    label,
                    json.dumps(facts.brands, ensure_ascii=False),
                    json.dumps(facts.outputs, ensure_ascii=False),
                    self._next,
                ),
            )
        return True

    def _close_facts(self, label: str) -> None:
        self._db.execute(
            f"UPDATE facts SET removed_revision = ? WHERE gallery_id = ? AND label = ? AND {NOW}",
            (self._next, self._id, label),
        )

    def restore(self, revision: int) -> tuple[int, int]:
        """Brings back members and facts of a revision; says how many came and how many went."""

        def members(at: int) -> dict[bytes, sqlite3.Row]:
            rows = self._db.execute(
                f"SELECT * FROM memberships WHERE gallery_id = :gallery AND {AT}",
                {"gallery": self._id, "at": at},
            )
            return {row["image_id"]: row for row in rows}

        def facts(at: int) -> dict[str, LabelFacts]:
            rows = self._db.execute(
                f"SELECT * FROM facts WHERE gallery_id = :gallery AND {AT}",
                {"gallery": self._id, "at": at},
            )
            return {row["label"]: facts_of(row) for row in rows}

        then, now = members(revision), members(self.revision)
        back = [
            key for key, row in then.items() if key not in now or now[key]["label"] != row["label"]
        ]
        gone = [key for key in now if key not in then]
        for key in [*gone, *(key for key in back if key in now)]:
            self.close(key.hex())
        for key in back:
            self.open(key.hex(), then[key]["label"], then[key]["source"])
        old_facts, new_facts = facts(revision), facts(self.revision)
        for label in old_facts.keys() | new_facts.keys():
            self.set_facts(label, old_facts.get(label, LabelFacts()))
        return len(back), len(gone)

    def commit(self, kind: str, summary: str) -> None:
        """Writes the new revision down."""
        images = self._db.execute(
            f"SELECT count(*) FROM memberships WHERE gallery_id = ? AND {NOW}", (self._id,)
        ).fetchone()[0]
        self._db.execute(
            "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self._id, self._next, self._now_ms, self._author, kind, summary, images),
        )
        self._db.execute("UPDATE galleries SET revision = ? WHERE id = ?", (self._next, self._id))


def image_key(image_id: str) -> bytes:
    """The key of an image id; raises InvalidRequestError when it is none."""
    try:
        key = bytes.fromhex(image_id)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise InvalidRequestError(
            f"{image_id!r} is no image id: use the 64 hexadecimal digits that `list` shows"
        )
    return key


def facts_of(row: sqlite3.Row) -> LabelFacts:
    """Facts from a row of their table."""
    return LabelFacts(
        brands=tuple(json.loads(row["brands"])), outputs=tuple(json.loads(row["outputs"]))
    )


def names(labels: Sequence[str], limit: int = 5) -> str:
    """Some names in one line, however many there are."""
    shown = ", ".join(labels[:limit])
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"
