"""What is known, kept in a database: the truth that indexes and thresholds are derived from.

    put_content   what a picture is: bytes, embedding, text   (once per SHA-256, no revision)
    enrol, remove, relabel, rollback, set_facts, move, delete (one revision each)
    settle, unsettle                                          (what a person found to be well)
    keep, record_decisions ...                                (for review: review_records.py)
    put_calibration ...                                       (calibration_records.py)
    purge, expire, beat, leave                                (what is let go of: upkeep.py)
    snapshot, images, history                                 (read any revision: reader.py)

A change is one transaction, synced to disk before it returns: what was
acknowledged survives a kill at any moment. Calls block; servers make them from
a worker thread. One `Gallery` may be used from many threads. This module says what
a change is; the statements are in the modules beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from pagesight_server.common.errors import InvalidRequestError, NotFoundError, RevisionError
from pagesight_server.gallery import contents, queries, settlements
from pagesight_server.gallery.calibration_records import CalibrationRecords
from pagesight_server.gallery.database import Row
from pagesight_server.gallery.gallery_rows import (
    created,
    find_gallery,
    insert_gallery,
    lock_gallery,
    lock_gallery_row,
    not_found,
    take_back,
)
from pagesight_server.gallery.location import PostgresOptions, StoreLocation
from pagesight_server.gallery.model import (
    Applied,
    Change,
    ChangeKind,
    Content,
    Entry,
    Limits,
    Outcome,
    Settled,
    Settlement,
)
from pagesight_server.gallery.reader import answer_to
from pagesight_server.gallery.snapshot import (
    Bundles,
    LabelFacts,
    LabelUpdate,
    check_label,
    check_names,
)
from pagesight_server.gallery.text_sample import TEXTS_PER_LABEL
from pagesight_server.gallery.transaction import Edit, names
from pagesight_server.gallery.upkeep import Upkeep

KEPT_ANSWERS = 1_000
"""Answers to changes with a request_id that each gallery remembers, the newest. A repeat comes
within seconds of the first; an answer to an enrolment of 1 000 pictures takes about 80 KB."""

_Work = tuple[str | None, dict[str, int], tuple[Outcome, ...]]
"""Of a change: its summary (None: nothing changed), counts and outcomes."""


def unix_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000


class Gallery(Upkeep, CalibrationRecords):
    """The store: every gallery in one database.

    Args:
        location: The SQLite file, made when missing, or the address of a PostgreSQL database.
        now_ms: The clock of the history.
        limits: What each gallery may hold.
        postgres: What a PostgreSQL database needs beside its address.
        incomplete: Whether it may be a copy that is not complete.
        migrates: False: it is neither made nor brought forward from an older schema.
        texts_per_label: Pictures of a label at most whose text a snapshot holds; None: all.

    Raises:
        SetupError: it is no store, or one of a newer pagesight, or such a copy.
        OlderStoreError: it would have to be made or brought forward.
        StorageError: the database cannot be reached.
    """

    def __init__(
        self,
        location: StoreLocation,
        *,
        now_ms: Callable[[], int] = unix_ms,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        postgres: PostgresOptions = PostgresOptions(),  # noqa: B008 - a frozen value
        incomplete: bool = False,
        migrates: bool = True,
        texts_per_label: int | None = TEXTS_PER_LABEL,
    ) -> None:
        super().__init__(
            location,
            postgres,
            incomplete=incomplete,
            migrates=migrates,
            texts_per_label=texts_per_label,
        )
        self.now_ms = now_ms
        self._limits = limits
        self.on_change: Callable[[ChangeKind, Change, Applied], None] = (
            lambda _kind, _change, _applied: None
        )
        """Told of each change that made a revision, once it is on the disk, in the thread that
        made it: whoever asked for it may be gone by then."""

    def put_content(self, content: Content, bundles: Bundles) -> None:
        """Stores what a picture is; it belongs to no gallery until it is enrolled.

        Raises:
            PurgedError: the picture was purged.
            StorageError: the disk is full.
        """
        with self.database.writing() as db:
            contents.put(db, content, bundles, self.now_ms())

    def drop_unused(self, image_ids: Sequence[str]) -> None:
        """Forgets those of these pictures that were never in a gallery."""
        with self.database.writing(alone=True) as db:
            contents.delete_unused(db, image_ids)

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
        label = check_label(label)

        def work(edit: Edit) -> _Work:
            count = 0
            for image_id in dict.fromkeys(image_ids):
                if edit.member(image_id)["label"] != label:
                    old = edit.close(image_id)
                    edit.open(image_id, label, old["source"])
                    count += 1
            return f"relabelled {count} to {label}" if count else None, {"relabelled": count}, ()

        return self._apply(change, "relabel", work)

    def set_facts(self, change: Change, facts: Mapping[str, LabelUpdate | LabelFacts]) -> Applied:
        """Sets what the operator knows of the labels it names; an update may leave parts alone.

        Raises:
            NotFoundError: a label has no picture in the gallery; nothing is changed.
            InvalidRequestError: a label cannot be one or is named twice, or a name is empty or
                too long, or there are too many.
        """
        updates = _updates(facts)

        def work(edit: Edit) -> _Work:
            missing = sorted(set(updates) - edit.labels())
            if missing:
                raise NotFoundError(f"the gallery has no label {names(missing)}")
            changed = [label for label, value in updates.items() if edit.set_facts(label, value)]
            summary = f"set labels {names(sorted(changed))}" if changed else None
            return summary, {"changed": len(changed)}, ()

        return self._apply(change, "labels", work)

    def rollback(self, change: Change, to_revision: int) -> Applied:
        """Makes a new revision with the pictures and facts of an earlier one.

        Pictures that cannot come back, because they were purged or their content is no longer
        kept, are listed in the outcomes.

        Raises:
            NotFoundError: the gallery never had that revision.
        """

        def work(edit: Edit) -> _Work:
            if to_revision and not queries.has_revision(edit.db, edit.gallery_id, to_revision):
                raise NotFoundError(
                    f"no revision {to_revision}: gallery {change.gallery!r} is at {edit.revision}"
                )
            restored, removed, lost = edit.restore(to_revision)
            summary = f"rolled back to revision {to_revision}"
            if lost:
                summary += f" without {names([outcome.image_id for outcome in lost])}"
            return summary, {"restored": restored, "removed": removed}, lost

        return self._apply(change, "rollback", work)

    def delete(self, change: Change) -> Applied:
        """Deletes a gallery: its last revision holds nothing, and nobody finds it any more.

        Its history stays for when it is created anew by enrolling; its pictures are as if removed.

        Raises:
            NotFoundError: no such gallery.
        """

        def work(edit: Edit) -> _Work:
            removed = edit.empty()
            edit.mark_deleted()
            return f"deleted with {removed} pictures", {"removed": removed}, ()

        return self._apply(change, "delete", work)

    def move(self, change: Change, bundles: Bundles, *, drop: Sequence[str] = ()) -> Applied:
        """Makes a gallery one of other bundles, which have seen and read its pictures before.

        Args:
            change: Which gallery, and by whom.
            bundles: What made the content that counts from now on.
            drop: Pictures to leave behind.

        Raises:
            NotFoundError: another picture has no content of these bundles; nothing is changed.
        """

        def work(edit: Edit) -> _Work:
            missing = contents.without(edit.db, edit.gallery_id, bundles, now_only=True)
            left = {image_id for image_id, _ in missing} - set(drop)
            if left:
                raise NotFoundError(f"{len(left)} pictures are not seen by {bundles.encoder} yet")
            if edit.made_by == bundles:
                return None, {"dropped": 0}, ()
            for image_id, _ in missing:
                edit.close(image_id)
            edit.move(bundles)
            summary = f"moved to {bundles.encoder} and {bundles.ocr}"
            if missing:
                summary += f" without {names([image_id for image_id, _ in missing])}"
            return summary, {"dropped": len(missing)}, ()

        return self._apply(change, "reindex", work)

    def check_full(self, name: str, image_ids: Sequence[str]) -> None:
        """Refuses before any work what cannot be enrolled.

        Raises:
            LimitError: one of the pictures is new and the gallery cannot take one more.
        """
        with self.database.reading() as db:
            row = find_gallery(db, name)
            if row is not None:
                edit = Edit(db, row, "", 0, self._limits)
                if not all(edit.holds(image_id) for image_id in image_ids):
                    edit.check_full()

    def _apply(
        self,
        change: Change,
        kind: ChangeKind,
        work: Callable[[Edit], _Work],
        *,
        create: Bundles | None = None,
    ) -> Applied:
        """Runs `work` in one transaction; a summary of None means that nothing changed."""
        applied, made = self._transaction(change, kind, work, create)
        if made:
            self.on_change(kind, change, applied)
        return applied

    def _transaction(
        self,
        change: Change,
        kind: ChangeKind,
        work: Callable[[Edit], _Work],
        create: Bundles | None,
    ) -> tuple[Applied, bool]:
        """The answer to a change, and whether it made a revision."""
        with self.database.writing() as db:
            row = lock_gallery(db, change.gallery)
            answered = answer_to(db, change, kind)
            if answered is not None:
                return answered, False
            if row is None and create is not None and not change.expected_revision:
                row = insert_gallery(db, change.gallery, create)
                # Whoever made it in this moment may have answered the same request.
                answered = answer_to(db, change, kind)
                if answered is not None:
                    return answered, False
            there = row is not None and not row["deleted"]
            if there or create is not None:
                self._check_expected(change, row if there else None)
            if row is None or (create is None and not there):
                raise not_found(change.gallery)
            if create is not None and not there:
                row = created(db, row, create)
            edit = Edit(db, row, change.author, self.now_ms(), self._limits)
            summary, counts, outcomes = work(edit)
            if summary is not None:
                edit.commit(kind, summary)
                self.database.announce(db)
            if summary is None and not there:
                # Nothing could be enrolled: a gallery that holds nothing must not come of it.
                take_back(db, row)
                return Applied(revision=0, counts=counts, outcomes=outcomes), False
            applied = Applied(
                revision=row["revision"] + (summary is not None), counts=counts, outcomes=outcomes
            )
            if change.request_id:
                edit.remember(change.request_id, kind, applied.to_json(), keep=KEPT_ANSWERS)
            return applied, summary is not None

    def _check_expected(self, change: Change, row: Row | None) -> None:
        expected = change.expected_revision
        if expected is None or expected == (row["revision"] if row is not None else 0):
            return
        name = change.gallery
        raise RevisionError(
            f"there is no gallery {name!r}, expected was revision {expected}"
            if row is None
            else f"there is a gallery {name!r}, at revision {row['revision']}: it is not new"
            if expected == 0
            else f"gallery {name!r} is at revision {row['revision']}, not {expected}: "
            "list it again and repeat the change"
        )

    # --- settled findings -----------------------------------------------------------

    def settle(
        self, name: str, findings: Sequence[Settled], *, author: str = "", note: str = ""
    ) -> None:
        """Notes that a person found findings to be well; makes no revision. May be repeated.

        Raises:
            NotFoundError: no such gallery, or it lacks a picture or label; nothing is changed.
        """
        settlement = Settlement(author=author, note=note, settled_at_ms=self.now_ms())
        with self.database.writing() as db:
            settlements.settle(db, lock_gallery_row(db, name), findings, settlement)

    def unsettle(self, name: str, keys: Sequence[str]) -> list[str]:
        """Takes settlements back; the keys of those that there were.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.writing() as db:
            return settlements.forget(db, lock_gallery_row(db, name)["id"], keys)


def _updates(facts: Mapping[str, LabelUpdate | LabelFacts]) -> dict[str, LabelUpdate]:
    """What is set, by label in its normal form."""
    updates: dict[str, LabelUpdate] = {}
    for name, value in facts.items():
        label = check_label(name)
        if label in updates:
            raise InvalidRequestError(f"label {label!r} is named twice")
        brands, outputs = value.brands, value.outputs
        updates[label] = LabelUpdate(
            brands=None if brands is None else check_names(brands, f"brands of {label!r}"),
            outputs=None if outputs is None else check_names(outputs, f"outputs of {label!r}"),
        )
    return updates
