"""A store on PostgreSQL: opened, brought forward, and several writers kept in order.

    open -> ours? -> migrate, alone -> writing ──COMMIT──> on disk, acknowledged, announced
                                          └──anything else──> as it was

Writers of one gallery take turns at its row (gallery_rows.py), so the order of revisions is the
order of commits. Whatever deletes pictures that another could be enrolling writes alone: each
writer holds the table `pagesight_store` in a mode that such a one waits for.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors, pq

from pagesight_server.common.errors import OlderStoreError, SetupError, StoreAwayError
from pagesight_server.gallery import schema
from pagesight_server.gallery.database import Connection, Dialect
from pagesight_server.gallery.location import (
    PostgresOptions,
    PostgresUrl,
    derived_folder,
    masked,
)
from pagesight_server.gallery.postgres_connections import (
    CHANNEL,
    WAIT_S,
    Connections,
    Connector,
    DictConnection,
    failure,
    listen,
)
from pagesight_server.gallery.postgres_scrub import scrub

log = logging.getLogger(__name__)

DIALECT = Dialect(
    name="postgresql",
    binary="{}",
    text="convert_to({}, 'UTF8')",
    digest="sha256(convert_to(encode({key}, 'hex') || ' ' || {name} || chr(10), 'UTF8') "
    "|| {content})",
    # What refers to a row only needs its key, and does not wait for whoever changes the rest.
    locked=" FOR NO KEY UPDATE",
    now_ms="CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    damage=(errors.DataCorrupted, errors.IndexCorrupted),
)

_STREAMED_ROWS = 2_000
"""Rows of a long result that come at once: about 6 MB of embeddings and texts."""

_LIMITS = f"""SET LOCAL lock_timeout = '{WAIT_S}s';
SET LOCAL idle_in_transaction_session_timeout = '120s';"""
"""A client that hangs must not keep others from writing for ever."""

_READ = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_LIMITS}"
_WRITE = f"""BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_LIMITS}
SELECT set_config('synchronous_commit', replace(
    current_setting('synchronous_commit'), 'off', 'on'), TRUE);"""
"""What is acknowledged is on the disk, whatever the database's default is."""
_TOGETHER = f"{_WRITE} LOCK TABLE pagesight_store IN ROW EXCLUSIVE MODE"
_ALONE = f"{_WRITE} LOCK TABLE pagesight_store IN EXCLUSIVE MODE"

_PARAMETER = re.compile(r"(?<![:\w]):([a-z]\w*)")


@lru_cache(maxsize=512)
def _translated(sql: str) -> str:
    """A statement as psycopg has it: `%(name)s` where it has `:name`."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


class PostgresConnection:
    """Runs statements in one transaction of a server.

    Args:
        connection: As psycopg has it.
    """

    dialect = DIALECT

    def __init__(self, connection: DictConnection) -> None:
        self._connection = connection
        self._streams: list[Generator[dict[str, Any], None, None]] = []

    def execute(
        self,
        sql: str,
        values: Mapping[str, object] = {},
        /,
    ) -> psycopg.Cursor[dict[str, Any]]:
        """Runs a statement; its rows are all here when it returns."""
        return self._connection.execute(_translated(sql), values, binary=True)

    def executemany(
        self, sql: str, values: Iterable[Mapping[str, object]], /
    ) -> psycopg.Cursor[dict[str, Any]]:
        """Runs a statement once with each of several sets of values, without waiting between."""
        cursor = self._connection.cursor()
        cursor.executemany(_translated(sql), list(values))
        return cursor

    def stream(
        self,
        sql: str,
        values: Mapping[str, object] = {},
        /,
    ) -> Iterator[dict[str, Any]]:
        """The rows of a query, which stay on the server until they are asked for."""
        stream = self._fetched(f"stream_{len(self._streams)}", _translated(sql), values)
        self._streams.append(stream)
        return stream

    def _fetched(
        self, name: str, sql: str, values: Mapping[str, object]
    ) -> Generator[dict[str, Any], None, None]:
        with self._connection.cursor(name=name) as cursor:
            cursor.itersize = _STREAMED_ROWS
            cursor.execute(sql, values, binary=True)
            yield from cursor

    def end(self) -> None:
        """Ends what was not read to its end: the connection is soon another transaction's."""
        for stream in self._streams:
            with suppress(psycopg.Error):
                stream.close()


def _lent(connection: DictConnection) -> Iterator[PostgresConnection]:
    lent = PostgresConnection(connection)
    try:
        yield lent
    finally:
        lent.end()


class PostgresDatabase:
    """A store that several machines share.

    Args:
        url: Where it is.
        options: How it is connected to.
        migrates: False: its tables are neither made nor brought forward.

    Raises:
        SetupError: it holds another program's tables, a newer pagesight's, or cannot be used.
        OlderStoreError: they would have to be.
        StoreAwayError: it cannot be reached.
    """

    dialect = DIALECT

    def __init__(
        self, url: PostgresUrl, options: PostgresOptions, *, migrates: bool = True
    ) -> None:
        self.name = masked(url)
        self.derived_folder = derived_folder(url, options)
        self._connector = Connector(url, options)
        self._connections = Connections(self._connector.connect, options.connections)
        try:
            if migrates:
                self._prepare()
            else:
                self._check_present()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connections; the store can be opened again."""
        self._connections.close()

    @contextmanager
    def writing(self, *, alone: bool = False, patient: bool = True) -> Iterator[PostgresConnection]:
        """Begins a transaction for a request.

        Args:
            alone: Whether no other transaction may write meanwhile.
            patient: Whether one that is alone is waited for.

        Raises:
            StorageError: the disk is full.
            StoreAwayError: the database cannot be reached, or others hold it for too long.
        """
        together = _TOGETHER if patient else f"{_TOGETHER} NOWAIT"
        with self._transaction(_ALONE if alone else together) as connection:
            yield from _lent(connection)

    @contextmanager
    def reading(self) -> Iterator[PostgresConnection]:
        """All reads inside see one state of the store, whatever others write.

        Raises:
            StoreAwayError: the database cannot be reached.
        """
        with self._transaction(_READ) as connection:
            yield from _lent(connection)

    def announce(self, db: Connection) -> None:
        """Tells whoever listens of this transaction, once it is committed."""
        db.execute("SELECT pg_notify(:channel, current_schema())", {"channel": CHANNEL})

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Calls `heard` when a change is announced; see `postgres_connections.listen`."""
        return listen(self._connector.connect, heard)

    def scrub(self) -> None:
        """Rewrites the tables without what was deleted, and what was sampled of them.

        The log (WAL) keeps it until PostgreSQL has written over it, and so do its archive,
        standbys and backups.

        Raises:
            StorageError: there is no room for the copy, others read for too long, or the tables
                are another role's.
        """
        with self._translating(), self._connector.connect() as connection:
            scrub(connection)
        shutil.rmtree(self.derived_folder, ignore_errors=True)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[DictConnection]:
        with self._translating(), self._connections.begun(begin) as connection:
            yield connection
            if connection.info.transaction_status != pq.TransactionStatus.INTRANS:
                raise StoreAwayError("the transaction failed: nothing was changed")
            try:
                connection.execute("COMMIT", prepare=False)
            except psycopg.OperationalError as error:
                if not connection.closed or begin == _READ:
                    raise
                raise StoreAwayError(
                    "the connection to the store was lost while a change was committed, so it may "
                    "have been made: repeat it with the same request_id"
                ) from error

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turns errors of the database into ours."""
        try:
            yield
        except psycopg.Error as error:
            ours = failure(error, self.name)
            if ours is None:
                raise
            raise ours from error

    # --- the tables -------------------------------------------------------------------

    def _prepare(self) -> None:
        with self._transaction(_WRITE) as connection:
            if self._version(connection) == schema.VERSION:
                return
            # Of several that open it at once, one makes it and the others wait.
            connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('pagesight ' || "
                "current_schema(), 0))"
            )
            version = self._version(connection)
            if not version:
                self._check_empty(connection)
            for statement in schema.postgres_statements(version):
                connection.execute(statement)
            connection.execute("UPDATE pagesight_store SET version = %s", (schema.VERSION,))

    def _check_present(self) -> None:
        with self._transaction(_READ) as connection:
            version = self._version(connection)
            if not version:
                self._check_empty(connection)
            if version < schema.VERSION:
                raise OlderStoreError(self.name, version, schema.VERSION)

    def _version(self, connection: DictConnection) -> int:
        """The version of the tables, 0 where there are none; refuses what is not ours."""
        row = connection.execute(
            # Of the table of tables: what a function knows of them may be what it knew before.
            "SELECT current_schema() AS schema, current_setting('server_encoding') AS encoding, "
            "EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relname = 'pagesight_store' AND nspname = current_schema()) AS ours"
        ).fetchone()
        assert row is not None
        if row["schema"] is None:
            raise SetupError(f"{self.name}: its role has no schema to make tables in")
        if row["encoding"] != "UTF8":
            raise SetupError(f"{self.name}: the database must be UTF8, and is {row['encoding']}")
        if not row["ours"]:
            return 0
        told = connection.execute("SELECT version FROM pagesight_store").fetchone()
        assert told is not None
        version = int(told["version"])
        if version > schema.VERSION:
            raise SetupError(
                f"{self.name} was written by a newer pagesight (schema {version}, this one "
                f"reads {schema.VERSION}): upgrade pagesight"
            )
        return version

    def _check_empty(self, connection: DictConnection) -> None:
        """Refuses a schema in which another program keeps something."""
        others = connection.execute(
            "SELECT relname AS table, nspname AS schema FROM pg_class c "
            "JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND nspname = current_schema() "
            "AND NOT EXISTS (SELECT FROM pg_depend d "  # of extensions
            "WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY relname LIMIT 1"
        ).fetchone()
        if others is not None:
            raise SetupError(
                f"{self.name}: schema {others['schema']} has tables of another program "
                f"({others['table']}): give the store a database, or a schema, of its own "
                "(?options=-csearch_path%3DNAME)"
            )
