"""What a PostgreSQL server may still hold of pictures that were purged, and what to run.

A purge deletes rows and rewrites the tables. The server keeps more than its tables: the log of what
was written, its archive, standbys and backups. No client can empty these, so they are named.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pagesight_server.gallery.database import Connection


def remains(db: Connection) -> list[str]:
    """Where purged pictures may remain, one line each with what to do; empty without a purge."""
    purged = db.execute("SELECT count(*) AS n, max(purged_at_ms) AS last FROM purged").fetchone()
    if not purged["n"]:
        return []
    last = datetime.fromtimestamp(purged["last"] / 1000, UTC).isoformat(timespec="seconds")
    lines = []
    if dead := _dead_rows(db):
        counts = ", ".join(f"{count:,} of {name}" for name, count in dead.items())
        lines.append(
            f"dead rows ({counts}): not yet overwritten; run VACUUM (FULL) {', '.join(dead)}"
        )
    setting = _settings(db)
    lines.append(
        "write-ahead log: it holds what was written before the last purge "
        f"({last}) until its files are overwritten, up to max_wal_size = {setting['max_wal_size']} "
        f"and wal_keep_size = {setting['wal_keep_size']} of them; run SELECT pg_switch_wal() and "
        "CHECKPOINT, with wal_recycle = off so that old files are deleted"
    )
    slots = db.execute("SELECT slot_name FROM pg_replication_slots ORDER BY slot_name").fetchall()
    if slots:
        names = ", ".join(row["slot_name"] for row in slots)
        lines.append(
            f"replication slots ({names}): they keep the log until their standbys have it; run "
            "SELECT pg_drop_replication_slot(...) for those whose standby is gone"
        )
    if setting["archive_mode"] != "off":
        lines.append(
            f"archive of the log (archive_mode = {setting['archive_mode']}): delete what was "
            f"archived before {last}, as with pg_archivecleanup"
        )
    lines.append(
        f"backups and dumps of the database, and snapshots of its disks, from before {last}: "
        "delete them, and make new ones"
    )
    return lines


def _dead_rows(db: Connection) -> dict[str, int]:
    """Rows that were deleted and still take room, by table, as the server estimates them."""
    rows = db.execute(
        "SELECT relname AS name, n_dead_tup AS dead FROM pg_stat_user_tables "
        "WHERE schemaname = current_schema() AND n_dead_tup > 0 ORDER BY relname"
    ).fetchall()
    # Notes of replicas are written again and again, and say nothing of pictures.
    return {row["name"]: row["dead"] for row in rows if row["name"] != "replicas"}


def _settings(db: Connection) -> dict[str, str]:
    rows = db.execute(
        "SELECT name, current_setting(name) AS value FROM pg_settings "
        "WHERE name IN ('max_wal_size', 'wal_keep_size', 'archive_mode')"
    ).fetchall()
    return {row["name"]: row["value"] for row in rows}
