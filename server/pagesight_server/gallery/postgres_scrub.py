"""Rewrites the tables of a PostgreSQL store without what was deleted, and makes sure of it.

    wait for older transactions ──> VACUUM FULL ──> was anything kept for one?

PostgreSQL keeps a deleted row, in a rewritten table too, while a transaction that began before may
still look at it. After a rewrite `relfrozenxid` is the oldest transaction that it kept rows for.
"""

from __future__ import annotations

import time

import psycopg

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery.postgres_connections import WAIT_S, DictConnection, one_line

_TABLES = (
    "images, embeddings, readings, kept, memberships, facts, answers, calibrations, revisions, "
    "settlements, settled_images, kept_answers, decisions, dismissed"
)
"""Those in which something of a picture may have been."""

_POLL_S = 0.1

_OLDER = """
SELECT count(*) AS n FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND greatest(age(backend_xmin), age(backend_xid)) > age(CAST(%(now)s AS xid))
"""

_KEPT_FOR_OLDER = """
SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = current_schema() AND relname = ANY(%(tables)s)
  AND age(relfrozenxid) > age(CAST(%(now)s AS xid)) ORDER BY relname LIMIT 1
"""


def scrub(connection: DictConnection) -> None:
    """Rewrites the tables, and what was sampled of them.

    Args:
        connection: In no transaction, and of nobody else.

    Raises:
        StorageError: there is no room for the copy, something reads for too long, or the tables
            are another role's.
        psycopg.Error: the connection is lost.
    """
    warnings: list[str] = []
    connection.add_notice_handler(lambda told: warnings.append(told.message_primary or ""))
    connection.execute(f"SET lock_timeout = '{WAIT_S}s'")
    row = connection.execute(
        "SELECT CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS xid) AS text) AS now"
    ).fetchone()
    assert row is not None
    last_look_s = time.monotonic() + WAIT_S
    while (older := connection.execute(_OLDER, row).fetchone()) and older["n"]:
        if time.monotonic() > last_look_s:
            break  # it may be of no harm
        time.sleep(_POLL_S)
    try:
        connection.execute(f"VACUUM (FULL, ANALYZE) {_TABLES}")
    except psycopg.OperationalError as error:
        if connection.closed:
            raise
        raise StorageError(
            f"the store could not be rewritten: {one_line(error)}: run it again"
        ) from error
    if warnings:
        raise StorageError(
            f"the store could not be rewritten: {warnings[0]}: purge as the owner of its tables"
        )
    kept = connection.execute(_KEPT_FOR_OLDER, {**row, "tables": _TABLES.split(", ")}).fetchone()
    if kept is not None:
        raise StorageError(
            f"table {kept['name']} was rewritten with what was deleted, because a transaction "
            "(pg_stat_activity), a prepared one, a standby or a replication slot of the database "
            "is older: end it and run it again"
        )
