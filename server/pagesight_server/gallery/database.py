"""A store's database, whichever it is: one set of statements serves both.

    Gallery, Reader ──writing, reading──> Database ──> Connection ──:name statements──> rows
                                             ├── SqliteDatabase      sqlite_file.py
                                             └── PostgresDatabase    postgres.py

A statement is written so that both understand it: parameters are `:name`, flags are 0 and 1,
what is compared with NULL is cast, and rows are read by the names of their columns. What cannot
be written in one way is SQL that a `Dialect` gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

_NOTHING: Mapping[str, object] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """The SQL in which one database differs from the other."""

    name: Literal["sqlite", "postgresql"]

    binary: str
    """A binary column, whatever a damaged file says that it is; `{}` is the column."""

    text: str
    """A column of text as its bytes: a flipped bit may leave no UTF-8; `{}` is the column."""

    digest: str
    """The digest of a picture's content (digests.py); `{key}`, `{name}` and `{content}` are the
    columns of its id, of the bundle and of the content as bytes."""

    locked: str
    """Behind a SELECT: its row is this transaction's until it ends. Where there is one writer at
    a time, nothing needs to be said."""

    now_ms: str
    """Unix time in milliseconds by the clock of the database."""

    damage: tuple[type[Exception], ...]
    """What reading raises where the disk gives back something else than was written."""

    def sound(self) -> str:
        """SQL: true of an embedding `e` and a text `r` that are as they were stored, else false."""
        checks = []
        for table, content in (("e", self.binary.format("e.vector")),
                               ("r", self.text.format("r.reading"))):  # fmt: skip
            digest = self.digest.format(
                key=f"{table}.image_id", name=f"{table}.bundle", content=content
            )
            checks.append(f"coalesce({table}.sha256 = {digest}, FALSE)")
        return " AND ".join(checks)


class Row(Protocol):
    """One row of a result; `dict(row)` has its columns by name."""

    def __getitem__(self, column: str, /) -> Any:
        """The value of a column, by its name."""

    def keys(self) -> Iterable[str]:
        """The names of the columns."""


class Cursor(Protocol):
    """Reads the rows that one statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def fetchone(self) -> Any:
        """The next row; None behind the last."""

    def fetchall(self) -> list[Any]:
        """All rows that were not read yet."""

    def __iter__(self) -> Iterator[Any]:
        """The rows that were not read yet, one by one."""


class Connection(Protocol):
    """A connection in a transaction; used by one thread."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL it understands."""

    def execute(self, sql: str, values: Mapping[str, object] = _NOTHING, /) -> Cursor:
        """Runs a statement with `:name` parameters."""

    def executemany(self, sql: str, values: Iterable[Mapping[str, object]], /) -> Cursor:
        """Runs a statement once with each of several sets of values."""

    def stream(self, sql: str, values: Mapping[str, object] = _NOTHING, /) -> Iterable[Any]:
        """The rows of a query that may be a million: they are not all held at once."""


class Database(Protocol):
    """An open store; safe to use from many threads.

    All of these raise SetupError or StorageError, with one line that says what to do.
    """

    @property
    def name(self) -> str:
        """Which store it is, as a person may read it: never with a password."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL it understands."""

    @property
    def derived_folder(self) -> Path:
        """Where whatever is derived from the store is kept on this machine."""

    def writing(
        self, *, alone: bool = False, patient: bool = True
    ) -> AbstractContextManager[Connection]:
        """A transaction: all of its block or nothing, on the disk when it ends.

        Args:
            alone: Whether nobody else may write meanwhile, to any gallery.
            patient: Whether somebody else who writes is waited for. Not: it fails at once.
        """

    def reading(self) -> AbstractContextManager[Connection]:
        """All reads inside see one state of the store, whatever others write."""

    def scrub(self) -> None:
        """Rewrites the store without what was deleted."""

    def announce(self, db: Connection) -> None:
        """Tells whoever listens that this transaction makes a revision, once it is committed."""

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Calls a function, in another thread, when something is announced: a hint, so poll too.

        Returns:
            Ends it.
        """

    def close(self) -> None:
        """Ends all connections; the store can be opened again."""
