"""What is known, kept in SQLite: the truth that indexes and thresholds are derived from.

    put_content   what a picture is: bytes, embedding, text   (once per SHA-256, no revision)
    enrol, remove, relabel, rollback, set_facts               (one revision each)
    snapshot, images, history                                 (read any revision)

A change is one transaction, synced to disk before it returns: what was
acknowledged survives a kill at any moment. Calls block; servers make them from
a worker thread. One `Gallery` may be used from many threads.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pagesight_server.errors import (
    InvalidRequestError,
    NotFoundError,
    RevisionError,
    SetupError,
    StorageError,
)
from pagesight_server.gallery import queries, schema
from pagesight_server.gallery.edit import Edit, image_key, names
from pagesight_server.gallery.values import (
    Applied,
    Change,
    Content,
    Entry,
    ListedImage,
    Outcome,
    Revision,
)
from pagesight_server.snapshot import DEFAULT_GALLERY, Bundles, LabelFacts, Snapshot, check_label

_APPLICATION_ID = 0x50534754
_LOCK_TIMEOUT_S = 30.0
"""How long a change waits for the change of another process."""
_Work = tuple[str | None, dict[str, int], tuple[Outcome, ...]]
"""Of a change: its summary (None: nothing changed), counts and outcomes."""


def unix_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Gallery:
    """The store: every gallery in one SQLite file.

    Args:
        path: The file; made when missing.
        now_ms: The clock of the history.

    Raises:
        SetupError: the file is no store, or one of a newer pagesight.
    """

    def __init__(self, path: Path, *, now_ms: Callable[[], int] = unix_ms) -> None:
        self.path = path
        self._now_ms = now_ms
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_LOCK_TIMEOUT_S
            )
        except sqlite3.Error as error:
            raise SetupError(f"cannot open the store {path}: {error}") from error
        try:
            self._prepare()
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise SetupError(f"cannot open the store {path}: {error}") from error
            raise

    def _prepare(self) -> None:
        self._db.row_factory = sqlite3.Row
        self._check_ours()  # before anything is written: the file may be another program's
        self._write_ahead()
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._transaction():
            if self._check_ours():
                for statement in schema.TABLES.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._db.execute(f"PRAGMA user_version = {schema.VERSION}")

    def _check_ours(self) -> bool:
        """Refuses what this code cannot read; says whether the file is still empty."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        empty: bool = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and application != _APPLICATION_ID:
            raise SetupError(f"{self.path} is a database of another program")
        if version > schema.VERSION:
            raise SetupError(
                f"{self.path} was written by a newer pagesight (schema {version}, this one "
                f"reads {schema.VERSION}): upgrade pagesight"
            )
        return empty

    def _write_ahead(self) -> None:
        """Switches the journal; where two processes make a store at once, one waits here.

        SQLite waits for no lock while it switches: https://sqlite.org/wal.html.
        """
        last_try_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > last_try_s:
                    raise
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        """Closes the file; the store can be opened again."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- what pictures are ------------------------------------------------------------

    def has_content(self, image_id: str, bundles: Bundles) -> bool:
        """Whether embedding and text of a picture are stored for these bundles."""
        sql = """SELECT 1 FROM embeddings e JOIN readings r USING (image_id)
                 WHERE image_id = ? AND e.bundle = ? AND r.bundle = ?"""
        with self._lock:
            key = (bytes.fromhex(image_id), bundles.encoder, bundles.ocr)
            return self._db.execute(sql, key).fetchone() is not None

    def put_content(self, content: Content, bundles: Bundles) -> None:
        """Stores what a picture is; it belongs to no gallery until it is enrolled.

        Raises:
            StorageError: the disk is full.
        """
        key = bytes.fromhex(content.image_id)
        vector = content.embedding.astype("<f2").tobytes()
        with _storage_errors(), self._transaction():
            self._db.execute(
                "INSERT INTO images VALUES (?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET bytes = coalesce(bytes, excluded.bytes)",
                (key, content.width_px, content.height_px, content.data),
            )
            self._db.execute(
                "INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", (key, bundles.encoder, vector)
            )
            self._db.execute(
                "INSERT OR REPLACE INTO readings VALUES (?, ?, ?)",
                (key, bundles.ocr, content.reading.to_json()),
            )

    def image_bytes(self, image_id: str) -> bytes | None:
        """The bytes of a picture as received; None where they are not kept.

        Raises:
            NotFoundError: no such picture.
        """
        with self._lock:
            row = self._db.execute(
                "SELECT bytes FROM images WHERE id = ?", (image_key(image_id),)
            ).fetchone()
        if row is None:
            raise NotFoundError(f"no image {image_id}")
        data: bytes | None = row["bytes"]
        return data

    def has_image(self, name: str, image_id: str) -> bool:
        """Whether a gallery holds a picture now; one gallery's pictures are not another's.

        Raises:
            NotFoundError: no such gallery.
        """
        with self._reading() as db:
            row, at = self._at(name, None)
            return queries.has_image(db, row, at, image_id)

    # --- changes ----------------------------------------------------------------------

    def enrol(self, change: Change, entries: Sequence[Entry], bundles: Bundles) -> Applied:
        """Adds pictures whose content is stored, creating the gallery when needed.

        A picture that the gallery has already under the same label is left alone;
        one that it has under another label is reported in its outcome.
        """

        def work(edit: Edit) -> _Work:
            edit.check_bundles(bundles)
            outcomes = tuple(edit.add(entry) for entry in entries)
            labels = sorted({e.label for e, o in zip(entries, outcomes, strict=True) if o.added})
            added = sum(o.added for o in outcomes)
            summary = f"enrolled {added} of {names(labels)}" if added else None
            return summary, {"added": added}, outcomes

        return self._apply(change, "enrol", work, create=bundles)

    def remove(self, change: Change, image_ids: Sequence[str]) -> Applied:
        """Takes pictures out.

        Raises:
            NotFoundError: one of them is not in the gallery; nothing is changed.
        """

        def work(edit: Edit) -> _Work:
            labels = sorted(
                {edit.close(image_id)["label"] for image_id in dict.fromkeys(image_ids)}
            )
            count = len(set(image_ids))
            return f"removed {count} of {names(labels)}", {"removed": count}, ()

        return self._apply(change, "remove", work)

    def relabel(self, change: Change, image_ids: Sequence[str], label: str) -> Applied:
        """Gives pictures another label.

        Raises:
            NotFoundError: one of them is not in the gallery; nothing is changed.
            InvalidRequestError: it cannot be a label.
        """
        check_label(label)

        def work(edit: Edit) -> _Work:
            count = 0
            for image_id in dict.fromkeys(image_ids):
                if edit.member(image_id)["label"] != label:
                    old = edit.close(image_id)
                    edit.open(image_id, label, old["source"])
                    count += 1
            return f"relabelled {count} to {label}" if count else None, {"relabelled": count}, ()

        return self._apply(change, "relabel", work)

    def set_facts(self, change: Change, facts: Mapping[str, LabelFacts]) -> Applied:
        """Replaces what the operator knows of the labels it names.

        Raises:
            NotFoundError: a label has no picture in the gallery; nothing is changed.
        """

        def work(edit: Edit) -> _Work:
            missing = sorted(set(facts) - edit.labels())
            if missing:
                raise NotFoundError(f"the gallery has no label {names(missing)}")
            changed = [label for label, value in facts.items() if edit.set_facts(label, value)]
            summary = f"set labels {names(sorted(changed))}" if changed else None
            return summary, {"changed": len(changed)}, ()

        return self._apply(change, "labels", work)

    def rollback(self, change: Change, to_revision: int) -> Applied:
        """Makes a new revision with the pictures and facts of an earlier one.

        Raises:
            NotFoundError: the gallery never had that revision.
        """

        def work(edit: Edit) -> _Work:
            if not 0 <= to_revision <= edit.revision:
                raise NotFoundError(
                    f"no revision {to_revision}: gallery {change.gallery!r} is at {edit.revision}"
                )
            restored, removed = edit.restore(to_revision)
            return (
                f"rolled back to revision {to_revision}",
                {"restored": restored, "removed": removed},
                (),
            )

        return self._apply(change, "rollback", work)

    def answered(self, change: Change, kind: str) -> Applied | None:
        """What a change with this request_id was told before; None when it is new.

        Raises:
            InvalidRequestError: the request_id was used for another kind of change.
        """
        if not change.request_id:
            return None
        sql = """SELECT a.kind, a.answer FROM answers a JOIN galleries g ON g.id = a.gallery_id
                 WHERE g.name = ? AND a.request_id = ?"""
        with self._lock:
            row = self._db.execute(sql, (change.gallery, change.request_id)).fetchone()
        if row is None:
            return None
        if row["kind"] != kind:
            raise InvalidRequestError(
                f"request_id {change.request_id!r} was used for a change of kind {row['kind']}"
            )
        return Applied.from_json(row["answer"])

    def _apply(
        self,
        change: Change,
        kind: str,
        work: Callable[[Edit], _Work],
        *,
        create: Bundles | None = None,
    ) -> Applied:
        """Runs `work` in one transaction; a summary of None means that nothing changed."""
        with _storage_errors(), self._transaction():
            answered = self.answered(change, kind)
            if answered is not None:
                return answered
            row = self._gallery_row(change.gallery, create=create)
            if change.expected_revision not in {0, row["revision"]}:
                raise RevisionError(
                    f"gallery {change.gallery!r} is at revision {row['revision']}, "
                    f"not {change.expected_revision}: list it again and repeat the change"
                )
            edit = Edit(self._db, row, change.author, self._now_ms())
            summary, counts, outcomes = work(edit)
            if summary is not None:
                edit.commit(kind, summary)
            applied = Applied(
                revision=row["revision"] + (summary is not None), counts=counts, outcomes=outcomes
            )
            if change.request_id:
                self._db.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?)",
                    (row["id"], change.request_id, kind, applied.to_json()),
                )
            return applied

    def _gallery_row(self, name: str, *, create: Bundles | None = None) -> sqlite3.Row:
        sql = "SELECT * FROM galleries WHERE name = ?"
        row = self._db.execute(sql, (name,)).fetchone()
        if row is None and create is not None:
            check_label(name)
            self._db.execute(
                "INSERT INTO galleries (name, revision, encoder_bundle, ocr_bundle) "
                "VALUES (?, 0, ?, ?)",
                (name, create.encoder, create.ocr),
            )
            row = self._db.execute(sql, (name,)).fetchone()
        if row is None:
            raise NotFoundError(f"no gallery {name!r}: enrol a picture to create it")
        found: sqlite3.Row = row
        return found

    # --- reading ----------------------------------------------------------------------

    def revisions(self) -> dict[str, int]:
        """The revision of each gallery, by name. Cheap: meant to be polled."""
        with self._lock:
            rows = self._db.execute("SELECT name, revision FROM galleries").fetchall()
        return {row["name"]: row["revision"] for row in rows}

    def snapshot(self, name: str = DEFAULT_GALLERY, revision: int | None = None) -> Snapshot:
        """A gallery at a revision, the present one unless told otherwise.

        Raises:
            NotFoundError: no such gallery or revision.
        """
        with self._reading() as db:
            return queries.snapshot(db, *self._at(name, revision))

    def images(
        self,
        name: str,
        *,
        revision: int | None = None,
        label: str | None = None,
        after: tuple[str, str] = ("", ""),
        limit: int = 100,
    ) -> tuple[int, list[ListedImage]]:
        """Pictures of a gallery at a revision, by label and id; says which revision that is.

        Args:
            name: The gallery.
            revision: The present one when None.
            label: Only pictures of this label.
            after: Label and id of the last picture that is known already.
            limit: At most so many.

        Raises:
            NotFoundError: no such gallery or revision.
        """
        with self._reading() as db:
            row, at = self._at(name, revision)
            return at, queries.images(db, row, at, label=label, after=after, limit=limit)

    def labels(self, name: str) -> tuple[int, dict[str, int], dict[str, LabelFacts]]:
        """The revision, how many pictures each label has, and what the operator knows of it."""
        with self._reading() as db:
            row, at = self._at(name, None)
            return at, queries.label_counts(db, row, at), queries.facts(db, row, at)

    def history(self, name: str, *, before: int | None = None, limit: int = 100) -> list[Revision]:
        """Changes of a gallery, newest first, those before a revision when one is given."""
        with self._reading() as db:
            row = self._gallery_row(name)
            last = row["revision"] + 1 if before is None else before
            return queries.history(db, row, before=last, limit=limit)

    def calibration(self, name: str, revision: int, method: str) -> str | None:
        """The stored calibration of a revision, None when there is none."""
        with self._reading() as db:
            row = db.execute(
                "SELECT calibration FROM calibrations WHERE gallery_id = ? AND revision = ? "
                "AND method = ?",
                (self._gallery_row(name)["id"], revision, method),
            ).fetchone()
        return None if row is None else str(row["calibration"])

    def put_calibration(self, name: str, revision: int, method: str, calibration: str) -> None:
        """Stores the calibration of a revision, replacing an earlier one."""
        with _storage_errors(), self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO calibrations VALUES (?, ?, ?, ?)",
                (self._gallery_row(name)["id"], revision, method, calibration),
            )

    def _at(self, name: str, revision: int | None) -> tuple[sqlite3.Row, int]:
        """The gallery, and the revision that is meant; the present one when None."""
        row = self._gallery_row(name)
        at = row["revision"] if revision is None else revision
        if not 0 <= at <= row["revision"]:
            raise NotFoundError(f"gallery {name!r} has no revision {at}")
        return row, at

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """All reads inside see one state of the file, whatever other processes write."""
        with self._lock:
            nested = self._db.in_transaction
            if not nested:
                self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                if not nested:
                    self._db.execute("COMMIT")


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise StorageError(f"the store could not be written and is unchanged: {error}") from error
