"""One change of one gallery: the statements that make up a transaction of `store.py`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pagesight_server.common.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LimitError,
    NotFoundError,
    PurgedError,
    RequestError,
)
from pagesight_server.gallery.database import Connection, Row
from pagesight_server.gallery.model import Entry, Limits, Outcome
from pagesight_server.gallery.snapshot import (
    Bundles,
    LabelFacts,
    LabelUpdate,
    check_bundles,
    check_label,
    check_source,
)

OF_A_GALLERY = (
    "calibrations",
    "answers",
    "settlements",
    "kept_answers",
    "decisions",
    "dismissed",
)
"""Tables of what is derived, told, settled and reviewed of a gallery: gone when it is deleted."""

NOW = "removed_revision IS NULL"
"""SQL: true of what counts now."""

AT = "added_revision <= :at AND (removed_revision IS NULL OR removed_revision > :at)"
"""SQL: true of what counted at the revision `:at`."""


class Edit:
    """One change of one gallery, inside a transaction."""

    def __init__(
        self,
        db: Connection,
        gallery: Row,
        author: str,
        now_ms: int,
        limits: Limits,
        *,
        revision: int | None = None,
    ) -> None:
        self.db = db
        self._row = gallery
        self._id = self.gallery_id = int(gallery["id"])
        self._author = author
        self._now_ms = now_ms
        self._limits = limits
        self._size_before = self._size() if limits != Limits() else (0, 0)
        self.revision: int = gallery["revision"] if revision is None else revision
        self._next = self.revision + 1

    @property
    def made_by(self) -> Bundles:
        """What made the content that counts."""
        return Bundles(encoder=self._row["encoder_bundle"], ocr=self._row["ocr_bundle"])

    def check_bundles(self, bundles: Bundles) -> None:
        """Raises BundleMismatchError unless the gallery was made with these."""
        check_bundles(self._row["name"], self.made_by, bundles)

    def add(self, entry: Entry) -> Outcome:
        """Enrols one picture; what speaks against it is told in the outcome."""
        error = entry.error
        if error is None:
            label, source = check_label(entry.label), check_source(entry.source)
            present = self._find(entry.image_id)
            if present is None:
                key = image_key(entry.image_id)
                if self.has_content(key):
                    self.open(entry.image_id, label, source)
                    return Outcome(image_id=entry.image_id, added=True)
                error = self._gone(key)
            elif present["label"] == label:
                return Outcome(image_id=entry.image_id, added=False)
            else:
                error = AlreadyExistsError(
                    f"the same picture is enrolled as {present['label']!r}: relabel it instead"
                )
        return _failed(entry.image_id, error)

    def has_content(self, key: bytes) -> bool:
        """Whether embedding and text of a picture are stored, by the gallery's bundles."""
        sql = """SELECT 1 FROM embeddings e JOIN readings r USING (image_id)
                 WHERE image_id = :id AND e.bundle = :encoder AND r.bundle = :ocr"""
        values = {
            "id": key,
            "encoder": self._row["encoder_bundle"],
            "ocr": self._row["ocr_bundle"],
        }
        return self.db.execute(sql, values).fetchone() is not None

    def _gone(self, key: bytes) -> RequestError:
        """Why a picture cannot be a member."""
        sql = "SELECT 1 FROM purged WHERE image_id = :id"
        if self.db.execute(sql, {"id": key}).fetchone():
            return PurgedError("the picture was purged from this store, which is final")
        return NotFoundError(
            "what was seen and read of the picture is no longer kept: enrol it again from its file"
        )

    def member(self, image_id: str) -> Row:
        """The membership of a picture; raises NotFoundError when there is none."""
        row = self._find(image_id)
        if row is None:
            raise NotFoundError(f"gallery {self._row['name']!r} has no image {image_id}")
        return row

    def holds(self, image_id: str) -> bool:
        """Whether a picture is a member now."""
        return self._find(image_id) is not None

    def _find(self, image_id: str) -> Row | None:
        row: Row | None = self.db.execute(
            f"SELECT * FROM memberships "
            f"WHERE gallery_id = :gallery AND image_id = :image AND {NOW}",
            {"gallery": self._id, "image": image_key(image_id)},
        ).fetchone()
        return row

    def open(self, image_id: str, label: str, source: str) -> None:
        """Makes a picture a member from the new revision on."""
        self.db.execute(
            "INSERT INTO memberships (gallery_id, image_id, label, source, author, added_at_ms, "
            "added_revision) "
            "VALUES (:gallery, :image, :label, :source, :author, :now_ms, :next)",
            {
                "gallery": self._id,
                "image": image_key(image_id),
                "label": label,
                "source": source,
                "author": self._author,
                "now_ms": self._now_ms,
                "next": self._next,
            },
        )

    def close(self, image_id: str) -> Row:
        """Ends the membership of a picture with the old revision, and returns it."""
        row = self.member(image_id)
        self.db.execute(
            f"UPDATE memberships SET removed_revision = :next "
            f"WHERE gallery_id = :gallery AND image_id = :image AND {NOW}",
            {"next": self._next, "gallery": self._id, "image": row["image_id"]},
        )
        return row

    def labels(self) -> set[str]:
        """The labels that have a picture now."""
        rows = self.db.execute(
            f"SELECT DISTINCT label FROM memberships WHERE gallery_id = :gallery AND {NOW}",
            {"gallery": self._id},
        )
        return {row["label"] for row in rows}

    def set_facts(self, label: str, update: LabelUpdate) -> bool:
        """Sets facts of one label; says whether they differ from what was known."""
        row = self.db.execute(
            f"SELECT * FROM facts WHERE gallery_id = :gallery AND label = :label AND {NOW}",
            {"gallery": self._id, "label": label},
        ).fetchone()
        known = facts_of(row) if row else LabelFacts()
        facts = update.over(known)
        if facts == known:
            return False
        self._close_facts(label)
        if facts != LabelFacts():
            self.db.execute(
                "INSERT INTO facts (gallery_id, label, brands, outputs, added_revision) "
                "VALUES (:gallery, :label, :brands, :outputs, :next)",
                {
                    "gallery": self._id,
                    "label": label,
                    "brands": json.dumps(facts.brands, ensure_ascii=False),
                    "outputs": json.dumps(facts.outputs, ensure_ascii=False),
                    "next": self._next,
                },
            )
        return True

    def _close_facts(self, label: str) -> None:
        self.db.execute(
            f"UPDATE facts SET removed_revision = :next "
            f"WHERE gallery_id = :gallery AND label = :label AND {NOW}",
            {"next": self._next, "gallery": self._id, "label": label},
        )

    def restore(self, revision: int) -> tuple[int, int, tuple[Outcome, ...]]:
        """Brings back members and facts of a revision.

        Returns:
            How many pictures came, how many went, and those that could not come back: purged,
            expired, or never seen by the bundles that the gallery has now.
        """

        def members(at: int) -> dict[bytes, Row]:
            rows = self.db.execute(
                f"SELECT * FROM memberships WHERE gallery_id = :gallery AND {AT}",
                {"gallery": self._id, "at": at},
            )
            return {row["image_id"]: row for row in rows}

        def facts(at: int) -> dict[str, LabelFacts]:
            rows = self.db.execute(
                f"SELECT * FROM facts WHERE gallery_id = :gallery AND {AT}",
                {"gallery": self._id, "at": at},
            )
            return {row["label"]: facts_of(row) for row in rows}

        then, now = members(revision), members(self.revision)
        purged = self.db.execute(
            f"SELECT image_id FROM purged_memberships WHERE gallery_id = :gallery AND {AT}",
            {"gallery": self._id, "at": revision},
        )
        lost = {key for key in then if key not in now and not self.has_content(key)}
        lost |= {row["image_id"] for row in purged}
        back = [
            key
            for key, row in then.items()
            if key not in lost and (key not in now or now[key]["label"] != row["label"])
        ]
        gone = [key for key in now if key not in then]
        for key in [*gone, *(key for key in back if key in now)]:
            self.close(key.hex())
        for key in back:
            self.open(key.hex(), then[key]["label"], then[key]["source"])
        old_facts, new_facts = facts(revision), facts(self.revision)
        for label in old_facts.keys() | new_facts.keys():
            facts_then = old_facts.get(label, LabelFacts())
            whole = LabelUpdate(brands=facts_then.brands, outputs=facts_then.outputs)
            self.set_facts(label, whole)
        told = tuple(_failed(key.hex(), self._gone(key)) for key in sorted(lost))
        return len(back), len(gone), told

    def empty(self) -> int:
        """Ends every membership and all that is known of labels; how many pictures that were."""
        closed = {}
        for table in ("memberships", "facts"):
            sql = f"UPDATE {table} SET removed_revision = :next WHERE gallery_id = :gallery"
            values = {"next": self._next, "gallery": self._id}
            closed[table] = self.db.execute(f"{sql} AND {NOW}", values).rowcount
        return closed["memberships"]

    def mark_deleted(self) -> None:
        """Hides the gallery, and forgets what was derived, told, settled and reviewed of it."""
        gallery = {"gallery": self._id}
        self.db.execute("UPDATE galleries SET deleted = 1 WHERE id = :gallery", gallery)
        for table in OF_A_GALLERY:
            self.db.execute(f"DELETE FROM {table} WHERE gallery_id = :gallery", gallery)

    def move(self, bundles: Bundles) -> None:
        """Makes the gallery one of other bundles."""
        self.db.execute(
            "UPDATE galleries SET encoder_bundle = :encoder, ocr_bundle = :ocr WHERE id = :gallery",
            {"encoder": bundles.encoder, "ocr": bundles.ocr, "gallery": self._id},
        )

    def commit(self, kind: str, summary: str) -> None:
        """Writes the new revision down; raises LimitError when the gallery grew too large."""
        images, size_bytes = self._size()
        # A gallery that is over a limit that was lowered may shrink, and be edited otherwise.
        if images > self._size_before[0] or size_bytes > self._size_before[1]:
            self._check_limits(images, size_bytes)
        self.db.execute(
            "INSERT INTO revisions (gallery_id, revision, made_at_ms, author, kind, summary, "
            "images) VALUES (:gallery, :next, :now_ms, :author, :kind, :summary, :images)",
            {
                "gallery": self._id,
                "next": self._next,
                "now_ms": self._now_ms,
                "author": self._author,
                "kind": kind,
                "summary": summary,
                "images": images,
            },
        )
        self.db.execute(
            "UPDATE galleries SET revision = :next WHERE id = :gallery",
            {"next": self._next, "gallery": self._id},
        )

    def remember(self, request_id: str, kind: str, answer: str, *, keep: int) -> None:
        """Keeps what a change was told, for its repeat; forgets the oldest answers beyond `keep`.

        A repeat of a forgotten change is made again.
        """
        self.db.execute(
            "INSERT INTO answers (gallery_id, request_id, kind, answer) "
            "VALUES (:gallery, :request_id, :kind, :answer)",
            {"gallery": self._id, "request_id": request_id, "kind": kind, "answer": answer},
        )
        self.db.execute(
            "DELETE FROM answers WHERE gallery_id = :gallery AND number <= (SELECT number FROM "
            "answers WHERE gallery_id = :gallery ORDER BY number DESC LIMIT 1 OFFSET :keep)",
            {"gallery": self._id, "keep": keep},
        )

    def check_full(self) -> None:
        """Raises LimitError when not one more picture fits."""
        images, size_bytes = self._size_before
        self._check_limits(images + 1, size_bytes + 1)

    def _size(self) -> tuple[int, int]:
        """Pictures, and bytes kept of them; bytes are 0 where no limit asks for them."""
        size = "0"
        if self._limits.max_bytes is not None:
            size = "(SELECT size_bytes FROM kept WHERE kept.image_id = memberships.image_id)"
        row = self.db.execute(
            f"SELECT count(*) AS images, CAST(coalesce(sum({size}), 0) AS BIGINT) AS size_bytes "
            f"FROM memberships WHERE gallery_id = :gallery AND {NOW}",
            {"gallery": self._id},
        ).fetchone()
        return row["images"], row["size_bytes"]

    def _check_limits(self, images: int, size_bytes: int) -> None:
        name, limits = self._row["name"], self._limits
        if limits.max_pictures is not None and images > limits.max_pictures:
            raise LimitError(
                f"gallery {name!r} may hold {limits.max_pictures:,} pictures and this would make "
                f"{images:,}: remove some, or raise gallery.max_pictures; nothing was changed"
            )
        if limits.max_bytes is not None and size_bytes > limits.max_bytes:
            raise LimitError(
                f"gallery {name!r} may keep {limits.max_bytes:,} bytes of pictures and this would "
                f"make {size_bytes:,}: remove some, keep thumbnails, or raise gallery.max_bytes; "
                "nothing was changed"
            )


def _failed(image_id: str, error: RequestError) -> Outcome:
    return Outcome(image_id=image_id, added=False, error=(error.status, error.reason, str(error)))


def image_key(image_id: str) -> bytes:
    """The key of an image id; raises InvalidRequestError when it is none."""
    try:
        key = bytes.fromhex(image_id)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise InvalidRequestError(
            f"{image_id!r} is no image id: use the 64 hexadecimal digits that "
            "`pagesight gallery images` shows"
        )
    return key


def facts_of(row: Row) -> LabelFacts:
    """Facts from a row of their table."""
    return LabelFacts(
        brands=tuple(json.loads(row["brands"])), outputs=tuple(json.loads(row["outputs"]))
    )


def names(labels: Sequence[str], limit: int = 5) -> str:
    """Some names in one line, however many there are."""
    shown = ", ".join(labels[:limit])
    return shown if len(labels) <= limit else f"{shown} and {len(labels) - limit} more"
