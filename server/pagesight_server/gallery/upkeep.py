"""The part of a store that lets go of pictures, and knows which processes must do so too.

purge  ──> for ever, from all revisions; its file is rewritten      (purge.py)
expire ──> what was removed long ago, or never enrolled, and old kept answers
beat, leave ──> the processes that serve the store, and what each has loaded (replicas.py)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pagesight_server.gallery import purge, replicas
from pagesight_server.gallery.model import Expired, Purged
from pagesight_server.gallery.review_model import KeepLimits
from pagesight_server.gallery.review_records import ReviewRecords

_DAY_MS = 24 * 60 * 60 * 1000


class Upkeep(ReviewRecords):
    """Forgets what is purged or expired, and notes who serves the store."""

    def purge(self, image_ids: Sequence[str], *, author: str) -> Purged:
        """Deletes pictures for ever, from the present and the past of every gallery.

        The history keeps revision, time, who and content hash; the file is rewritten, so that
        none of their bytes are left in it. May be repeated, which ends a purge that was killed.

        Raises:
            NotFoundError: the store never had one of them; nothing is changed.
            StorageError: the file could not be rewritten: run it again.
        """
        with self.database.writing(alone=True) as db:
            revisions = purge.purge(db, image_ids, author, self.now_ms())
            self.database.announce(db)
        self.database.scrub()
        with self.database.writing() as db:
            db.execute("UPDATE purged SET scrubbed = 1 WHERE scrubbed = 0")
        return Purged(image_ids=tuple(dict.fromkeys(image_ids)), revisions=revisions)

    def expire(self, keep_removed_days: int, keep: KeepLimits | None = None) -> Expired:
        """Forgets pictures that were removed long ago or never enrolled, and old kept answers.

        Args:
            keep_removed_days: Days after which a removed picture cannot be rolled back to; 0
                keeps them all.
            keep: How long answers are kept for review; they are left alone when None.
        """
        now_ms = self.now_ms()
        before_ms = now_ms - keep_removed_days * _DAY_MS if keep_removed_days else None
        with self.database.writing(alone=True) as db:
            removed, unused = purge.expire(db, before_ms, now_ms)
        answers = self.forget_kept(keep) if keep is not None else 0
        if removed or unused or answers:
            self.database.scrub()
        return Expired(removed=removed, unused=unused, answers=answers)

    def beat(self, replica_id: str, name: str, revisions: Mapping[str, int]) -> None:
        """Notes that a process serves this store, and the revision of each gallery it has loaded.

        Raises:
            StorageError: somebody else is writing, or the disk is full: the note is not made.
        """
        with self.database.writing(patient=False) as db:
            replicas.beat(db, replica_id, name, revisions)

    def leave(self, replica_id: str) -> None:
        """Takes back that a process serves this store."""
        with self.database.writing(patient=False) as db:
            replicas.leave(db, replica_id)
