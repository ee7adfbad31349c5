"""The part of a store that keeps the calibration of each revision, by the method that made it.

    put_calibration ──> one row of a revision and a method, with its digest
    calibration, last_calibration <── the newest whose digest is right; a damaged one is warned of
    stored_calibrations ──> which there are
    claim_calibration, drop_claim ──> which process makes one, as long as it is heard of
    drop_calibrations, drop_damaged_calibrations ──> they are made anew

None of it makes a revision.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cached_property

from pagesight_server.gallery import replicas
from pagesight_server.gallery.digests import digest, is_sound
from pagesight_server.gallery.gallery_rows import gallery_row
from pagesight_server.gallery.reader import Reader

log = logging.getLogger(__name__)


class CalibrationRecords(Reader):
    """Keeps calibrations, and gives none that has changed on the disk."""

    @cached_property
    def _told_damaged(self) -> set[bytes | None]:
        """Digests of the calibrations that were warned of."""
        return set()

    def calibration(self, name: str, revision: int, method: str) -> str | None:
        """The stored calibration of a revision; None when there is none, or it is damaged."""
        return self._calibration(name, "revision = :revision", revision, method)

    def last_calibration(self, name: str, revision: int, method: str) -> str | None:
        """The newest sound calibration of a revision or an earlier one; None without."""
        return self._calibration(name, "revision <= :revision", revision, method)

    def _calibration(self, name: str, which: str, revision: int, method: str) -> str | None:
        with self.database.reading() as db:
            rows = db.execute(
                f"SELECT revision, {db.dialect.text.format('calibration')} AS calibration, sha256 "
                f"FROM calibrations WHERE gallery_id = :gallery AND {which} AND method = :method "
                "ORDER BY revision DESC",
                {
                    "gallery": gallery_row(db, name)["id"],
                    "revision": revision,
                    "method": method,
                },
            ).fetchall()  # a query with rows left would keep the connection at this state
            for row in rows:
                if is_sound(row["revision"], method, row["calibration"], row["sha256"]):
                    return bytes(row["calibration"]).decode()
                if row["sha256"] in self._told_damaged:
                    continue  # asked for again and again, as running servers do
                self._told_damaged.add(row["sha256"])
                log.warning(
                    "gallery %s: the calibration of revision %d has changed on the disk and is "
                    "not used (%s)",
                    name,
                    row["revision"],
                    method,
                )
        return None

    def stored_calibrations(
        self, methods: Collection[str]
    ) -> dict[tuple[str, str], list[tuple[int, bytes | None]]]:
        """The revisions that have a calibration, with its digest, by gallery and method.

        Reads none of them, and asks for all galleries at once: meant to be polled.

        Args:
            methods: Those that are asked for.
        """
        names = {f"method{i}": method for i, method in enumerate(sorted(methods))}
        stored: dict[tuple[str, str], list[tuple[int, bytes | None]]] = {}
        if not names:
            return stored
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT g.name, c.method, c.revision, c.sha256 FROM calibrations c "
                "JOIN galleries g ON g.id = c.gallery_id WHERE g.deleted = 0 "
                f"AND c.method IN ({', '.join(f':{name}' for name in names)}) "
                "ORDER BY c.gallery_id, c.revision",
                names,
            )
            for row in rows:
                key = row["name"], row["method"]
                stored.setdefault(key, []).append((row["revision"], row["sha256"]))
        return stored

    def drop_calibrations(self, name: str, method: str) -> int:
        """Forgets the calibrations of all revisions; how many there were."""
        with self.database.writing() as db:
            return db.execute(
                "DELETE FROM calibrations WHERE gallery_id = :gallery AND method = :method",
                {"gallery": gallery_row(db, name)["id"], "method": method},
            ).rowcount

    def claim_calibration(self, name: str, revision: int, method: str, replica_id: str) -> bool:
        """Notes that a process which serves the store makes a calibration; may be repeated.

        The claim counts until it is dropped, or until its process is not heard of or another one
        serves under its name (replicas.py).

        Returns:
            Whether it is this process's now: another one that is heard of may have it.

        Raises:
            NotFoundError: no such gallery.
        """
        values: dict[str, object] = {"revision": revision, "me": replica_id}
        values["method"] = _claim_of(method)
        with self.database.reading() as db:
            values["gallery"] = gallery_row(db, name)["id"]
            held = db.execute(
                "SELECT 1 FROM calibrations WHERE gallery_id = :gallery AND revision = :revision "
                "AND method = :method "
                f"AND {replicas.others_heard(db, 'calibrations.calibration', ':me')}",
                values,
            ).fetchone()
        if held is not None:  # asked again and again, which must lock nothing
            return False
        values["sha256"] = digest(revision, _claim_of(method), replica_id.encode())
        with self.database.writing() as db:
            claimed = db.execute(
                "INSERT INTO calibrations (gallery_id, revision, method, calibration, sha256) "
                "VALUES (:gallery, :revision, :method, :me, :sha256) "
                "ON CONFLICT (gallery_id, revision, method) DO UPDATE SET "
                "calibration = excluded.calibration, sha256 = excluded.sha256 "
                f"WHERE NOT {replicas.others_heard(db, 'calibrations.calibration', ':me')}",
                values,
            )
            return claimed.rowcount == 1

    def drop_claim(self, name: str, method: str, replica_id: str) -> None:
        """Takes back what a process has claimed, of every revision."""
        with self.database.writing() as db:
            db.execute(
                "DELETE FROM calibrations WHERE gallery_id = :gallery AND method = :method "
                "AND calibration = :me",
                {
                    "gallery": gallery_row(db, name)["id"],
                    "method": _claim_of(method),
                    "me": replica_id,
                },
            )

    def put_calibration(self, name: str, revision: int, method: str, calibration: str) -> None:
        """Stores the calibration of a revision, replacing an earlier one."""
        with self.database.writing() as db:
            db.execute(
                "INSERT INTO calibrations (gallery_id, revision, method, calibration, sha256) "
                "VALUES (:gallery, :revision, :method, :calibration, :sha256) "
                "ON CONFLICT (gallery_id, revision, method) DO UPDATE SET "
                "calibration = excluded.calibration, sha256 = excluded.sha256",
                {
                    "gallery": gallery_row(db, name)["id"],
                    "revision": revision,
                    "method": method,
                    "calibration": calibration,
                    "sha256": digest(revision, method, calibration.encode()),
                },
            )

    def drop_damaged_calibrations(self) -> int:
        """Forgets the calibrations that have changed on the disk; how many there were."""
        with self.database.writing() as db:
            rows = db.execute(
                f"SELECT gallery_id, revision, method, "
                f"{db.dialect.text.format('calibration')} AS calibration, sha256 FROM calibrations"
            )
            damaged = [
                {column: row[column] for column in ("gallery_id", "revision", "method")}
                for row in rows
                if not is_sound(row["revision"], row["method"], row["calibration"], row["sha256"])
            ]
            db.executemany(
                "DELETE FROM calibrations WHERE gallery_id = :gallery_id "
                "AND revision = :revision AND method = :method",
                damaged,
            )
        return len(damaged)


def _claim_of(method: str) -> str:
    """The method under which the claimer of a calibration is kept."""
    return f"{method} claimed"
