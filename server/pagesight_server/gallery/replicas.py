"""Who serves a store: each process notes when it was last there and which revisions it has loaded.

    serving process ──beat, every few seconds──> replicas
    purge ──> its revision of each gallery ──against what each has loaded──> forgotten, or not yet
                                                    └──nothing heard for long──> silent

A note is nobody's truth: without it serving goes on, and a purge says that a replica is silent.
Times are those of the store's clock, so that the clocks of machines need not agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.transaction import image_key

SILENT_MS = 30_000
"""Time without a note after which a replica is silent: it writes one every five seconds, and waits
its turn where others write."""

DROPPED_MS = 24 * 60 * 60 * 1000
"""Time after which a replica is no longer spoken of: whoever was killed does not come back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A process that serves a store, by its last note."""

    name: str
    """The name by which people know where it serves."""
    silent_ms: int
    """How long ago its last note is."""
    revisions: Mapping[str, int]
    """The revision of each gallery that it answers from."""

    @property
    def is_silent(self) -> bool:
        """Whether it has not been heard of for long: it ended, or it cannot reach the store."""
        return self.silent_ms > SILENT_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """Which replicas have forgotten pictures that were purged."""

    forgotten: tuple[Replica, ...]
    """Those that answer from the revision of the purge, or a later one."""
    remembering: tuple[Replica, ...]
    """Those that do not yet, and were heard of lately."""
    silent: tuple[Replica, ...]
    """Those that did not when they were last heard of."""

    @property
    def is_complete(self) -> bool:
        """Whether no replica is left that may remember."""
        return not self.remembering and not self.silent


def beat(db: Connection, replica_id: str, name: str, revisions: Mapping[str, int]) -> None:
    """Notes that a process serves the store, and what it has loaded.

    Whoever served under its name before and is silent has been replaced by it.
    """
    values = {
        "id": replica_id,
        "name": name,
        "revisions": json.dumps(dict(revisions), ensure_ascii=False),
        "silent": SILENT_MS,
        "dropped": DROPPED_MS,
    }
    db.execute(
        f"INSERT INTO replicas (id, name, seen_at_ms, revisions) "
        f"VALUES (:id, :name, {db.dialect.now_ms}, :revisions) ON CONFLICT (id) DO UPDATE "
        "SET seen_at_ms = excluded.seen_at_ms, revisions = excluded.revisions",
        values,
    )
    db.execute(
        f"DELETE FROM replicas WHERE id <> :id AND (seen_at_ms < {db.dialect.now_ms} - :dropped "
        f"OR (name = :name AND seen_at_ms < {db.dialect.now_ms} - :silent))",
        values,
    )


def others_heard(db: Connection, replica_id: str, mine: str) -> str:
    """SQL: whether a process has been heard of lately, and is none that another has replaced.

    Args:
        db: The store.
        replica_id: SQL of its id.
        mine: SQL of the id of the other, which replaces whoever served under its name before.
    """
    return (
        f"EXISTS (SELECT 1 FROM replicas r WHERE r.id = {replica_id} "
        f"AND r.seen_at_ms >= {db.dialect.now_ms} - {SILENT_MS} "
        f"AND r.name <> coalesce((SELECT m.name FROM replicas m WHERE m.id = {mine}), ''))"
    )


def leave(db: Connection, replica_id: str) -> None:
    """Notes that a process has ended, and remembers nothing."""
    db.execute("DELETE FROM replicas WHERE id = :id", {"id": replica_id})


def replicas(db: Connection) -> list[Replica]:
    """All that are noted, by name."""
    rows = db.execute(
        f"SELECT name, {db.dialect.now_ms} - seen_at_ms AS silent_ms, revisions FROM replicas "
        "ORDER BY name, id"
    )
    return [
        Replica(
            name=row["name"], silent_ms=row["silent_ms"], revisions=json.loads(row["revisions"])
        )
        for row in rows
    ]


def forgetting(db: Connection, image_ids: Sequence[str]) -> Forgetting:
    """Which replicas have forgotten pictures that were purged before.

    A gallery that a replica has not loaded at all counts as not forgotten, as it may just be
    reading it, unless the gallery was deleted.
    """
    purged_at: dict[str, int] = {}
    deleted = set()
    for image_id in dict.fromkeys(image_ids):
        rows = db.execute(
            "SELECT g.name, g.deleted, max(r.revision) AS revision FROM galleries g "
            "JOIN revisions r ON r.gallery_id = g.id AND r.kind = 'purge' "
            "WHERE g.id IN (SELECT gallery_id FROM purged_memberships WHERE image_id = :image) "
            "GROUP BY g.name, g.deleted",
            {"image": image_key(image_id)},
        ).fetchall()
        for row in rows:
            purged_at[row["name"]] = row["revision"]
            deleted |= {row["name"]} if row["deleted"] else set()

    def has_forgotten(replica: Replica) -> bool:
        return all(
            replica.revisions.get(name, revision if name in deleted else 0) >= revision
            for name, revision in purged_at.items()
        )

    known = replicas(db)
    left = [replica for replica in known if not has_forgotten(replica)]
    return Forgetting(
        forgotten=tuple(filter(has_forgotten, known)),
        remembering=tuple(replica for replica in left if not replica.is_silent),
        silent=tuple(replica for replica in left if replica.is_silent),
    )
