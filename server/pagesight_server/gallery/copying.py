"""Copies a store into another, whichever databases they are, with history and revision numbers.

    source ──one state──> tables, by key ──compared with──> target ──differs──> put, in batches
                                                              └──nobody in the source──> deleted
    digest of the source == digest of the target? ──yes──> the target is a store
                                                  └──no──> it stays a copy that nobody can open

A copy that was killed compares what it had put with the source, and goes on. What the source lost
meanwhile, such as a picture that was purged, the target loses too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.database import Connection, Database
from pagesight_server.gallery.fingerprint import Fingerprint, fingerprint
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.store import Gallery
from pagesight_server.gallery.tables import (
    ROWS_AT_A_TIME,
    TABLES,
    Table,
    Values,
    batched,
    key_of,
    whole_rows,
)
from pagesight_server.gallery.unfinished import refuse_incomplete, source_of_copy

PASSES = 3
"""How often the source is read again because it was changed meanwhile: each pass puts what the one
before missed, so a source that still changes is being written all the time."""

Phase: TypeAlias = Literal["copying", "verifying"]
Progress: TypeAlias = Callable[[Phase, int, int], None]
"""Told how many rows of how many are compared or verified."""

_Change: TypeAlias = tuple[Literal["insert", "update"], Any]
"""What to do with a row of the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """Says what a copy did."""

    put: int
    """Rows that the target did not have, or had otherwise."""
    deleted: int
    """Rows that only the target had."""
    fingerprint: Fingerprint
    """The digest of what either store holds: they are equal."""


def copy(
    source: StoreLocation,
    target: StoreLocation,
    opened: Callable[[StoreLocation], Gallery],
    *,
    progress: Progress = lambda _phase, _done, _of: None,
) -> Copied:
    """Copies all that a store holds into another one, or goes on with a copy.

    Args:
        source: The store; it may be served meanwhile.
        target: A store that holds nothing, or is a copy of the source that is not complete.
        opened: Opens a store, also one that is a copy that is not complete.
        progress: Told how far it is.

    Raises:
        SetupError: the target holds something else or is served, the two differ in the end, or
            the source was changed all the time.
    """
    source, target = (
        location.resolve() if isinstance(location, Path) else location
        for location in (source, target)
    )
    if source == target:
        raise SetupError(f"{source} cannot be copied into itself")
    with closing(opened(source)) as from_, closing(opened(target)) as to:
        with from_.database.reading() as db:
            refuse_incomplete(db, from_.database.name)
        _begin(to, from_.database.name)
        # A second one of the target is read while rows are put: one connection of PostgreSQL's may
        # not do both at once.
        with closing(opened(target)) as beside:
            work = _Copy(from_.database, to.database, beside.database, progress)
            return work.run()


def _begin(to: Gallery, source: str) -> None:
    """Makes the target one that nobody can open until the copy is complete."""
    name = to.database.name
    serving = [replica.name for replica in to.replicas() if not replica.is_silent]
    with to.database.writing(alone=True) as db:
        other = source_of_copy(db)
        if other == source:
            return
        if other is not None:
            raise SetupError(f"{name} is a copy of {other} that is not complete: name a new store")
        for table in ("galleries", "images", "purged"):
            if db.execute(f"SELECT 1 AS one FROM {table} LIMIT 1").fetchone() is not None:
                raise SetupError(f"{name} holds something already: name a new store to copy into")
        if serving:
            raise SetupError(f"{name} is served by {serving[0]}: name a store that nobody serves")
        db.execute(
            "INSERT INTO copying (source, begun_at_ms) VALUES (:source, :now)",
            {"source": source, "now": to.now_ms()},
        )


class _Copy:
    """Copies one store into another, once through."""

    def __init__(
        self, source: Database, target: Database, beside: Database, progress: Progress
    ) -> None:
        self._source = source
        self._target = target
        self._beside = beside
        self._progress = progress
        self._put = 0
        self._deleted = 0
        self._done = 0
        self._of = 0

    def run(self) -> Copied:
        """Copies until the source is as it was when it was read."""
        for _ in range(PASSES):
            with self._source.reading() as db:
                before = _state(db)
                rows = _count(db)
                self._begin_phase("copying", rows)
                self._bring(db)
                self._begin_phase("verifying", 2 * rows)
                ours = fingerprint(db, progress=self._step)
            with self._beside.reading() as db:
                theirs = fingerprint(db, progress=self._step)
            with self._source.reading() as db:
                if _state(db) != before:
                    continue
            if differing := ours.differences(theirs):
                raise SetupError(
                    f"the copy differs from {self._source.name} in {', '.join(differing)}: run "
                    f"`pagesight-server gallery check --store {self._source.name}`, then copy it "
                    "into a new store"
                )
            if self._deleted:
                self._target.scrub()  # it may have been purged from the source
            with self._target.writing(alone=True) as db:
                db.execute("DELETE FROM copying")
            return Copied(put=self._put, deleted=self._deleted, fingerprint=ours)
        raise SetupError(
            f"{self._source.name} was changed each time that it was read: stop what changes it, "
            "and run this again"
        )

    def _begin_phase(self, phase: Phase, rows: int) -> None:
        self._phase: Phase = phase
        self._done, self._of = 0, rows
        self._progress(phase, 0, rows)

    def _step(self, rows: int) -> None:
        self._done += rows
        self._progress(self._phase, self._done, self._of)

    def _bring(self, source: Connection) -> None:
        """Makes the target hold what this state of the source holds."""
        gone: list[tuple[Table, list[Values]]] = []
        for table in TABLES:
            if table.in_order:
                self._bring_in_order(source, table)
                continue
            left: list[Values] = []
            with self._beside.reading() as target:
                changes = _differences(
                    table,
                    source.stream(table.select(source)),
                    target.stream(table.select(target)),
                    left,
                    self._step,
                )
                for batch in batched(changes, table.at_a_time):
                    self._write(source, table, batch)
                    # A database ends a transaction in which nothing has happened for long.
                    target.execute("SELECT 1 AS one").fetchone()
            gone.append((table, left))
        # What others refer to goes last.
        for table, left in reversed(gone):
            for rows in batched(left, ROWS_AT_A_TIME):
                with self._target.writing() as db:
                    db.executemany(table.delete, rows)
                self._deleted += len(rows)

    def _write(self, source: Connection, table: Table, batch: list[_Change]) -> None:
        rows = _with_texts(table, whole_rows(source, table, [row for _, row in batch]))
        by_kind: dict[str, list[Values]] = {"update": [], "insert": []}
        for (kind, _), row in zip(batch, rows, strict=True):
            by_kind[kind].append(row)
        with self._target.writing() as db:
            # First: a membership ends before the next of the same picture begins.
            if by_kind["update"]:
                db.executemany(table.update, by_kind["update"])
            if by_kind["insert"]:
                db.executemany(table.insert, by_kind["insert"])
        self._put += len(batch)

    def _bring_in_order(self, source: Connection, table: Table) -> None:
        """Puts all rows of a gallery anew, in their order, where it does not have the same."""
        galleries = [row["name"] for row in source.execute("SELECT name FROM galleries").fetchall()]
        where = f"WHERE g.name = :gallery ORDER BY t.{table.in_order}"
        for gallery in galleries:
            of_it = {"gallery": gallery}
            sql = f"{table.select(source, ordered=False)} {where}"
            with self._beside.reading() as db:
                there = [key_of(table, row) for row in db.stream(sql, of_it)]
            here = [key_of(table, row) for row in source.stream(sql, of_it)]
            self._step(len(here))
            if here == there:
                continue
            with self._target.writing() as db:
                db.execute(
                    f"DELETE FROM {table.name} WHERE gallery_id = "
                    "(SELECT id FROM galleries WHERE name = :gallery)",
                    of_it,
                )
                for batch in batched(source.stream(sql, of_it), table.at_a_time):
                    rows = _with_texts(table, whole_rows(source, table, batch))
                    db.executemany(table.insert, rows)
            self._put += len(here)
            self._deleted += len(set(there) - set(here))


def _differences(
    table: Table,
    source: Iterable[Any],
    target: Iterable[Any],
    left: list[Values],
    step: Callable[[int], None],
) -> Iterator[_Change]:
    """What makes the rows of a target those of a source, given both by key.

    Args:
        table: Which table.
        source: What should be.
        target: What is.
        left: Given the keys that only the target has.
        step: Called for each row of the source.
    """
    theirs = iter(target)
    other = next(theirs, None)
    for row in source:
        step(1)
        key = key_of(table, row)
        while other is not None and key_of(table, other) < key:
            left.append({name: other[name] for name in table.key})
            other = next(theirs, None)
        if other is None or key_of(table, other) > key:
            yield "insert", row
            continue
        if any(row[name] != other[name] for name in table.marks):
            yield "update", row
        other = next(theirs, None)
    while other is not None:
        left.append({name: other[name] for name in table.key})
        other = next(theirs, None)


def _with_texts(table: Table, rows: Iterable[Values]) -> list[Values]:
    """Returns rows whose texts are texts again, not bytes."""
    whole = list(rows)
    for row in whole:
        for name in table.texts:
            row[name] = _text(row[name], table, row)
    return whole


def _text(value: bytes | None, table: Table, row: Values) -> str | None:
    if value is None:
        return None
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise SetupError(
            f"a row of {table.name} has changed on the disk ({error}): run `pagesight-server "
            "gallery check`, which says how it is made anew"
        ) from None


def _count(db: Connection) -> int:
    """How many rows there are to copy."""
    return sum(
        db.execute(f"SELECT count(*) AS n FROM {table.name}").fetchone()["n"] for table in TABLES
    )


def _state(db: Connection) -> list[tuple[Any, ...]]:
    """What changes with a change of a store; what it derives itself is left out."""
    queries = (
        "SELECT name, revision, deleted, encoder_bundle, ocr_bundle FROM galleries ORDER BY id",
        "SELECT form, count(*) AS n, max(stored_at_ms) AS newest FROM kept "
        "GROUP BY form ORDER BY form",
        "SELECT count(*) AS n FROM purged",
        "SELECT count(*) AS n, max(settled_at_ms) AS newest FROM settlements",
        "SELECT count(*) AS n, max(number) AS newest FROM decisions",
        "SELECT count(*) AS n, max(dismissed_at_ms) AS newest FROM dismissed",
    )
    return [tuple(dict(row).values()) for sql in queries for row in db.execute(sql).fetchall()]
