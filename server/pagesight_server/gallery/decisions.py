"""What persons decided of screenshots: records, which change nothing that is known.

    record    who, when, what was shown, at which revision, and what it is   (once per id)
    withdraw  gone, as if it had not been made
    purge     whatever was decided of the picture is gone

The screenshot need not be in the store: a person may review a folder. Statements alone; whoever
calls them holds the transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pagesight_server.gallery import contents
from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.review_model import Decision, ListedDecision
from pagesight_server.gallery.transaction import image_key

_COLUMNS = (
    "decision_id, image_id, label, shown_label, shown_closest_label, shown_doubt, revision, "
    "reviewer, decided_at_ms, known_label, seconds"
)


def record(db: Connection, gallery_id: int, decisions: Sequence[Decision], now_ms: int) -> int:
    """Writes decisions down; one whose id is known already changes nothing.

    Returns:
        How many were new.

    Raises:
        PurgedError: the picture of one was purged; none is written, if the transaction ends with
            it.
    """
    marks = ", ".join(f":{name.strip()}" for name in _COLUMNS.split(","))
    recorded = 0
    for decision in decisions:
        key = image_key(decision.image_id)
        contents.check_not_purged(db, key)
        recorded += db.execute(
            f"INSERT INTO decisions (gallery_id, {_COLUMNS}) VALUES (:gallery_id, {marks}) "
            "ON CONFLICT DO NOTHING",
            {
                "gallery_id": gallery_id,
                "decision_id": decision.decision_id,
                "image_id": key,
                "label": decision.label,
                "shown_label": decision.shown_label,
                "shown_closest_label": decision.shown_closest_label,
                "shown_doubt": decision.shown_doubt,
                "revision": decision.revision,
                "reviewer": decision.reviewer,
                "decided_at_ms": now_ms,
                "known_label": decision.known_label,
                "seconds": decision.seconds,
            },
        ).rowcount
    return recorded


def withdraw(db: Connection, gallery_id: int, decision_ids: Iterable[str]) -> int:
    """Takes decisions back; how many there were."""
    return sum(
        db.execute(
            "DELETE FROM decisions WHERE gallery_id = :gallery AND decision_id = :id",
            {"gallery": gallery_id, "id": decision_id},
        ).rowcount
        for decision_id in dict.fromkeys(decision_ids)
    )


def forget_pictures(db: Connection, keys: Iterable[bytes]) -> None:
    """Forgets whatever was decided of these pictures, in every gallery."""
    for key in keys:
        db.execute("DELETE FROM decisions WHERE image_id = :key", {"key": key})


def decisions(
    db: Connection,
    gallery_id: int,
    *,
    image_ids: Sequence[str] = (),
    before: int | None = None,
    limit: int | None = None,
) -> list[ListedDecision]:
    """Decisions in a gallery, the newest first.

    Args:
        db: The store.
        gallery_id: Its number.
        image_ids: Only decisions of these pictures; all when empty.
        before: Only those with smaller numbers.
        limit: At most so many; all when None.
    """
    values: dict[str, object] = {"gallery": gallery_id}
    which = ""
    if image_ids:
        pictures = {f"image{i}": image_key(image_id) for i, image_id in enumerate(image_ids)}
        which += f" AND image_id IN ({', '.join(f':{name}' for name in pictures)})"
        values |= pictures
    if before is not None:
        which += " AND number < :before"
        values["before"] = before
    end = ""
    if limit is not None:
        end = " LIMIT :limit"
        values["limit"] = limit
    rows = db.execute(
        f"SELECT number, {_COLUMNS} FROM decisions WHERE gallery_id = :gallery{which} "
        f"ORDER BY number DESC{end}",
        values,
    )
    return [
        ListedDecision(
            number=row["number"],
            decision=Decision(
                decision_id=row["decision_id"],
                image_id=row["image_id"].hex(),
                label=row["label"],
                shown_label=row["shown_label"],
                shown_closest_label=row["shown_closest_label"],
                shown_doubt=row["shown_doubt"],
                revision=row["revision"],
                reviewer=row["reviewer"],
                decided_at_ms=row["decided_at_ms"],
                known_label=row["known_label"],
                seconds=row["seconds"],
            ),
        )
        for row in rows
    ]
