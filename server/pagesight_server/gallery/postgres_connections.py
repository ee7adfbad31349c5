"""Connections to a PostgreSQL database: made, kept for the next transaction, and what failed.

    transaction ──> idle connection ──BEGIN──> alive: use it
                          └── none, or dead ──> connect now, in this thread

Whoever needs a connection makes it, so that what is wrong is known at once and not when a pool's
wait has run out (docs/decisions/0022). psycopg is the extra `postgres`.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import errors, pq
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from pagesight_server.common.errors import (
    InvalidRequestError,
    PagesightError,
    SetupError,
    StorageError,
    StoreAwayError,
)
from pagesight_server.gallery.location import PostgresOptions, PostgresUrl, masked

log = logging.getLogger(__name__)

DictConnection: TypeAlias = psycopg.Connection[dict[str, Any]]

WAIT_S = 30
"""How long a change waits for the change of another, or for a connection, as with SQLite."""

_RECONNECT_S = 5.0
"""Between two attempts to listen; meanwhile polling finds what happens."""

CHANNEL = "pagesight"
"""The channel of NOTIFY; what is told is the schema of the store that changed."""

_DEFAULTS = {
    # A server that does not answer is given up in seconds, and so is a network that is gone.
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "fallback_application_name": "pagesight",
}
"""Defaults, unless the address or libpq's environment says something else."""


class Connector:
    """Makes connections to one database.

    Args:
        url: Its address; what it leaves out comes from libpq's environment and files.
        options: The file of the password.

    Raises:
        SetupError: the address cannot be read.
    """

    def __init__(self, url: PostgresUrl, options: PostgresOptions) -> None:
        self._url = url
        self._password_file = options.password_file
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError as error:
            raise SetupError(f"cannot open the store {url}: {one_line(error)}") from error
        environment = {
            option.keyword.decode() for option in pq.Conninfo.get_defaults() if option.envvar and
            option.val is not None and option.keyword.decode() in _DEFAULTS
        }  # fmt: skip
        self._options = {
            name: value
            for name, value in _DEFAULTS.items()
            if name not in given and name not in environment
        }

    def connect(self) -> DictConnection:
        """Opens a new connection.

        Raises:
            SetupError: the file of the password cannot be read.
            psycopg.OperationalError: the server cannot be reached, or refuses.
        """
        options = dict(self._options)
        if self._password_file is not None:
            try:
                lines = self._password_file.read_text("utf-8").splitlines()
            except (OSError, ValueError) as error:
                raise SetupError(f"gallery.store_password_file: {error}") from error
            options["password"] = lines[0] if lines else ""
        return psycopg.connect(
            self._url,
            autocommit=True,  # transactions are begun in words, with all that belongs to them
            row_factory=dict_row,
            client_encoding="UTF8",
            **options,  # type: ignore[arg-type] # strings alone, as libpq has them
        )


class Connections:
    """Connections that are lent for a transaction and kept for the next one.

    Args:
        connect: Makes one.
        most: How many there may be at once.
    """

    def __init__(self, connect: Callable[[], DictConnection], most: int) -> None:
        self._connect = connect
        self._most = most
        self._places = threading.BoundedSemaphore(most)
        self._idle: deque[DictConnection] = deque()
        self._closed = False

    @contextmanager
    def begun(self, begin: str) -> Iterator[DictConnection]:
        """A connection on which a transaction was begun; whoever takes it ends that.

        Args:
            begin: The statements that begin it.

        Raises:
            StoreAwayError: all are in use for too long.
            psycopg.Error: there is none that works.
        """
        if not self._places.acquire(timeout=WAIT_S):
            raise StoreAwayError(
                f"all {self._most} connections of this process to the store were in use for "
                f"{WAIT_S} s: raise gallery.store_connections"
            )
        try:
            connection = self._begin(begin)
            try:
                yield connection
            finally:
                self._give_back(connection)
        finally:
            self._places.release()

    def close(self) -> None:
        """Closes those that are idle now, and those in use when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _begin(self, begin: str) -> DictConnection:
        while True:
            try:
                connection, is_new = self._idle.pop(), False
            except IndexError:
                connection, is_new = self._connect(), True
            try:
                connection.execute(begin)
            except psycopg.OperationalError:
                # The server may have been restarted since this one was used.
                died_idle = connection.closed and not is_new
                self._give_back(connection)
                if not died_idle:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection

    def _give_back(self, connection: DictConnection) -> None:
        """Keeps a connection if nothing is left on it of what was done with it."""
        try:
            if connection.info.transaction_status != pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK", prepare=False)
        except psycopg.Error:
            connection.close()
        if self._closed:
            connection.close()
        if not connection.closed:
            self._idle.append(connection)


def failure(error: psycopg.Error, store: str) -> PagesightError | None:
    """What an error of the database means to whoever uses the store; None: a mistake of ours.

    Args:
        error: What psycopg raised.
        store: Which store it is.
    """
    line = one_line(error)
    match error:
        case errors.DiskFull():
            return StorageError(f"the store could not be written and is unchanged: {line}")
        case errors.DataCorrupted() | errors.IndexCorrupted():
            return SetupError(f"the store {store} is damaged: {line}: restore a backup of it")
        case errors.LockNotAvailable() | errors.TransactionRollback() | errors.QueryCanceled():
            return StoreAwayError(f"the store is busy with other changes: {line}")
        case errors.ReadOnlySqlTransaction() | errors.FeatureNotSupported():
            return StoreAwayError(f"the store's database is read-only, perhaps a standby: {line}")
        case errors.InsufficientPrivilege() | errors.UndefinedTable() | errors.UndefinedColumn():
            return SetupError(f"the store {store}: {line}")
        case errors.DataError():
            return InvalidRequestError(f"the store cannot hold that: {line}")
        case (
            psycopg.OperationalError()
            | psycopg.InterfaceError()
            | errors.IdleInTransactionSessionTimeout()
        ):
            return StoreAwayError(f"the store's database cannot be reached or used now: {line}")
    return None


def one_line(error: psycopg.Error) -> str:
    """The message of an error in one line."""
    return masked(" ".join(str(error).split()).rstrip(".")) or type(error).__name__


def listen(connect: Callable[[], DictConnection], heard: Callable[[], None]) -> Callable[[], None]:
    """Calls a function whenever a change of this store is announced, in a thread of its own.

    A hint: what is announced while the connection is away is lost, so poll as well.

    Args:
        connect: Makes the connection on which is listened.
        heard: What to call.

    Returns:
        Ends it; the thread may take a second.
    """
    stop = threading.Event()

    def run() -> None:
        away = False
        while not stop.is_set():
            try:
                with connect() as connection:
                    schema = connection.execute("SELECT current_schema() AS name").fetchone()
                    connection.execute(f"LISTEN {CHANNEL}")
                    away = False
                    heard()  # of whatever happened before
                    while not stop.is_set():
                        for told in connection.notifies(timeout=1.0):
                            if schema is not None and told.payload == schema["name"]:
                                heard()
            except (psycopg.Error, PagesightError) as error:
                if not away:
                    log.info("not told of changes of the store, polling it alone: %s", error)
                away = True
                stop.wait(_RECONNECT_S)

    threading.Thread(target=run, name="store-listener", daemon=True).start()
    return stop.set
