"""The SQLite file of a store: opened, brought forward, locked, and never half written.

    open -> ours? -> write-ahead log -> migrate -> transaction ──COMMIT──> on disk, acknowledged
                                                        └──anything else──> as it was

    read -> a connection of its own ──> one state of the file, while others read and write

One connection writes, for one thread at a time; processes take turns through SQLite's own lock.
Whoever reads waits for nobody: the read of a large gallery takes seconds, in which the store must
answer others.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pagesight_server.common.errors import OlderStoreError, SetupError, StorageError
from pagesight_server.common.files import make_file
from pagesight_server.gallery import schema
from pagesight_server.gallery.database import Connection, Dialect
from pagesight_server.gallery.digests import digest
from pagesight_server.gallery.location import PostgresOptions, derived_folder
from pagesight_server.gallery.snapshot import normal_form

log = logging.getLogger(__name__)

_APPLICATION_ID = 0x50534754
DIALECT = Dialect(
    name="sqlite",
    binary="CAST({} AS BLOB)",
    text="CAST({} AS BLOB)",
    digest="digest({key}, {name}, {content})",
    locked="",
    now_ms="CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)",
    damage=(sqlite3.DatabaseError,),
)

_LOCK_TIMEOUT_S = 30.0
"""How long a change waits for the change of another process."""

_IDLE_READERS = 4
"""Connections that are kept for the next reads: opening one takes some 0.3 ms, and each may keep 2
MB of pages."""


def why(error: OSError | sqlite3.Error, path: Path) -> str:
    """What an error of a store's file means, in one line, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    unwritable = isinstance(error, OSError) or code in {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_IOERR,
    }
    # On a read-only mount not even root may write, and access(2) says so.
    if unwritable and path.parent.is_dir() and not _may_write(path):
        return _READ_ONLY
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return _WHY.get(code, "{error}").format(error=error)


def _may_write(path: Path) -> bool:
    return os.access(path.parent, os.W_OK) and (not path.exists() or os.access(path, os.W_OK))


_READ_ONLY = (
    "its file system, folder or file is read-only, and SQLite writes beside a store even to read "
    "it: make it writable, or copy the file, with its -wal if there is one, to where it can be"
)
_DAMAGED = "{error}: run `pagesight-server gallery check`, then restore a backup"
_WHY = {
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: "{error}",
    sqlite3.SQLITE_CANTOPEN: "{error}: does its folder exist, and may this account write into it?",
    sqlite3.SQLITE_IOERR: "{error}: look at the disk, or at the file system that it is on",
    sqlite3.SQLITE_PROTOCOL: "{error}: SQLite's locks do not work on this file system",
}


def _is_of_the_file(error: sqlite3.DatabaseError) -> bool:
    """Whether the file or its disk is at fault, and not a statement."""
    return type(error) in {sqlite3.DatabaseError, sqlite3.OperationalError}


_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ncpfs|ceph|lustre|gpfs|gfs2|ocfs2|beegfs|orangefs|"
    r"fuse\.(sshfs|glusterfs|ceph.*|s3fs|rclone|gcsfuse|goofys|smbnetfs|mfs|lizardfs|juicefs)"
)
"""File systems that other machines may have mounted too."""


def network_file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of the network file system that a file is on; empty where it is on none.

    Args:
        path: The file.
        mounts: What is mounted where, as Linux tells it (proc(5)); elsewhere there is none.
    """
    try:
        lines = os.fsdecode(mounts.read_bytes()).splitlines()
    except OSError:
        return ""
    folders = {str(folder) for folder in path.resolve().parents}
    # Of the mounts above a file the one that is deepest counts, and of these the last.
    deepest, kind = "", ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
        if point in folders and len(point) >= len(deepest):
            deepest, kind = point, after.split(" ")[0]
    return kind if _NETWORK.fullmatch(kind) else ""


class SqliteConnection(sqlite3.Connection):
    """A connection as SQLite has it, so that a statement and its rows cost nothing more."""

    dialect = DIALECT

    def stream(self, sql: str, values: Mapping[str, object] = {}, /) -> Iterable[sqlite3.Row]:
        """The rows of a query, which SQLite computes one by one."""
        return self.execute(sql, values)


def _connect(file: Path | str) -> SqliteConnection:
    """Opens a file, given by its path or as a URI."""
    db = sqlite3.connect(
        file,
        uri=isinstance(file, str),
        isolation_level=None,
        check_same_thread=False,
        timeout=_LOCK_TIMEOUT_S,
        factory=SqliteConnection,
    )
    db.row_factory = sqlite3.Row
    db.create_function("nfc", 1, normal_form, deterministic=True)
    db.create_function("digest", 3, digest, deterministic=True)
    return db


class _Readers:
    """Connections that read: as many as threads do at once, of which some are kept.

    Args:
        path: The file; it is there by the time that one reads.
    """

    def __init__(self, path: Path) -> None:
        # Never makes the file, and finds it also from another working directory.
        self._uri = f"{path.absolute().as_uri()}?mode=rw"
        self._idle: list[SqliteConnection] = []
        self._lent = 0
        self._closed = False
        self._given_back = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[SqliteConnection]:
        """A connection that begins to read, and only reads."""
        db = self._take()
        try:
            db.execute("BEGIN")
            yield db
        except BaseException:
            # The traceback may hold a query that has rows left, and the state of the file with it.
            self._give_back(db, again=False)
            raise
        self._give_back(db)

    def close(self) -> None:
        """Closes them all, once each is given back; none is lent any more."""
        with self._given_back:
            self._closed = True
            self._given_back.wait_for(lambda: not self._lent)
            while self._idle:
                self._idle.pop().close()

    def _take(self) -> SqliteConnection:
        with self._given_back:
            if self._closed:
                raise sqlite3.ProgrammingError("Cannot operate on a closed database.")
            if self._idle:
                db = self._idle.pop()
            else:
                db = _connect(self._uri)
                db.execute("PRAGMA query_only = ON")
            self._lent += 1
            return db

    def _give_back(self, db: SqliteConnection, *, again: bool = True) -> None:
        try:
            if db.in_transaction:
                db.execute("COMMIT")
        finally:
            with self._given_back:
                self._lent -= 1
                if not again or db.in_transaction or len(self._idle) >= _IDLE_READERS:
                    db.close()
                else:
                    self._idle.append(db)
                self._given_back.notify_all()


class SqliteDatabase:
    """A store that is a file.

    Args:
        path: The file; made when missing, brought to the present schema when older.
        migrates: False: it is neither made nor brought forward.

    Raises:
        SetupError: the file is no store, or one of a newer pagesight.
        OlderStoreError: it would have to be brought forward.
    """

    dialect = DIALECT

    def __init__(self, path: Path, *, migrates: bool = True) -> None:
        self.path = path
        self.name = str(path)
        self.derived_folder = derived_folder(path, PostgresOptions())
        self._lock = threading.RLock()
        self._readers = _Readers(path)
        try:
            if migrates and not path.exists():
                make_file(path)  # SQLite makes its side files with the mode of this one
            self.db = _connect(path)
        except (OSError, sqlite3.Error) as error:
            raise SetupError(f"cannot open the store {path}: {why(error, path)}") from error
        try:
            self._prepare(migrates=migrates)
        except BaseException as error:
            self.db.close()
            if isinstance(error, sqlite3.Error):
                raise SetupError(f"cannot open the store {path}: {why(error, path)}") from error
            raise
        if kind := network_file_system(path):
            log.warning(
                "the store %s is on a network file system (%s), where SQLite's locks may not hold "
                "and its log does not work across machines: keep it on a local disk",
                path,
                kind,
            )

    def _prepare(self, *, migrates: bool) -> None:
        # Before anything is written, as the file may be another program's; and in one look, as
        # another process may be making it.
        self.db.execute("BEGIN")
        version = self._version()
        self.db.execute("COMMIT")
        if migrates:
            self._write_ahead()
        elif version < schema.VERSION:
            raise OlderStoreError(self.name, version, schema.VERSION)
        self.db.execute("PRAGMA synchronous = FULL")
        # What is deleted is overwritten, so that a purge has less to find.
        self.db.execute("PRAGMA secure_delete = ON")
        if migrates:
            self._migrate()
        self.db.execute("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        with self.transaction():
            version = self._version()
            if version < schema.VERSION:
                for statement in schema.statements(version):
                    self.db.execute(statement)
                self.db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self.db.execute(f"PRAGMA user_version = {schema.VERSION}")

    def _version(self) -> int:
        """The schema of the file, 0 of an empty one; refuses what this code cannot read."""
        version: int = self.db.execute("PRAGMA user_version").fetchone()[0]
        application = self.db.execute("PRAGMA application_id").fetchone()[0]
        empty = self.db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not empty and application != _APPLICATION_ID:
            raise SetupError(f"{self.path} is a database of another program")
        if version > schema.VERSION:
            raise SetupError(
                f"{self.path} was written by a newer pagesight (schema {version}, this one "
                f"reads {schema.VERSION}): upgrade pagesight"
            )
        return 0 if empty else version

    def _write_ahead(self) -> None:
        """Switches the journal; where two processes make a store at once, one waits here.

        SQLite waits for no lock while it switches: https://sqlite.org/wal.html.
        """
        last_try_s = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                self.db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > last_try_s:
                    raise
                time.sleep(0.02)
            else:
                return

    def close(self) -> None:
        """Closes the file, once nobody reads or writes any more; the store can be opened again."""
        with self._lock:
            self._readers.close()
            self.db.close()  # the last, as it may write: it puts the log into the file

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """All of its block or nothing; on disk when it ends."""
        with self._lock:
            self._begin(_LOCK_TIMEOUT_S if patient else 0.0)
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def _begin(self, timeout_s: float) -> None:
        """Begins to write, once nobody else does."""
        if timeout_s == _LOCK_TIMEOUT_S:
            self.db.execute("BEGIN IMMEDIATE")
            return
        self.db.execute(f"PRAGMA busy_timeout = {1000 * timeout_s:.0f}")
        try:
            self.db.execute("BEGIN IMMEDIATE")
        finally:
            self.db.execute(f"PRAGMA busy_timeout = {1000 * _LOCK_TIMEOUT_S:.0f}")

    @contextmanager
    def writing(self, *, alone: bool = False, patient: bool = True) -> Iterator[SqliteConnection]:
        """A transaction for a request; whoever writes is alone here.

        Raises:
            StorageError: the disk is full or another process keeps the store locked.
        """
        try:
            with self.transaction(patient=patient):
                yield self.db
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"the store could not be written and is unchanged: {why(error, self.path)}"
            ) from error
        except sqlite3.DatabaseError as error:
            if _is_of_the_file(error):
                raise SetupError(f"the store {self.path}: {why(error, self.path)}") from error
            raise

    @contextmanager
    def reading(self) -> Iterator[SqliteConnection]:
        """All reads inside see one state of the file, whatever other processes write."""
        try:
            with self._readers.one() as db:
                yield db
        except sqlite3.DatabaseError as error:
            if _is_of_the_file(error):
                raise SetupError(f"the store {self.path}: {why(error, self.path)}") from error
            raise

    def announce(self, db: Connection) -> None:
        """Does nothing: whoever follows a file polls it."""

    def listen(self, heard: Callable[[], None]) -> Callable[[], None]:
        """Does nothing: whoever follows a file polls it."""
        return lambda: None

    def scrub(self) -> None:
        """Rewrites the file without what was deleted, and empties the log.

        The free space of the file is gone, the log has no bytes, and what was derived from
        the store is removed: it can be made again.

        Raises:
            StorageError: there is no room for the copy, or a reader holds the log.
        """
        try:
            with self._lock:
                self.db.execute("VACUUM")
                # What is derived holds vectors of every picture; it is made again without these.
                shutil.rmtree(self.derived_folder, ignore_errors=True)
                busy, _, _ = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error as error:
            raise StorageError(f"the store could not be rewritten: {error}") from error
        if busy:
            raise StorageError(
                "the log of the store could not be emptied, because somebody reads it: run it again"
            )
