"""The part of a store that serves the review of answers: what is kept for it, what was decided.

    keep, forget_kept ──> the ring (kept.py)      kept, kept_image, kept_features, waiting read it
    record_decisions, withdraw_decisions ──> records (decisions.py)           decisions reads them
    dismiss ──> what clusters of no interest look like (dismissed.py)           dismissed reads it

None of it makes a revision. Both kinds of calls are safe from many threads, as all of the store's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery import decisions, dismissed, kept
from pagesight_server.gallery.gallery_rows import gallery_row, lock_gallery, lock_gallery_row
from pagesight_server.gallery.reader import Reader
from pagesight_server.gallery.review_model import (
    Decision,
    DismissedPicture,
    KeepLimits,
    KeptFeatures,
    KeptPicture,
    ListedAnswer,
    ListedDecision,
    Waiting,
)
from pagesight_server.gallery.snapshot import Bundles

NEWEST = 2**63 - 1
"""A number above that of every row."""


class ReviewRecords(Reader):
    """Keeps answers for review, and what persons decide of them."""

    now_ms: Callable[[], int]
    """The clock; Unix time in milliseconds."""

    # --- kept answers ---------------------------------------------------------------

    def keep(self, pictures: Sequence[KeptPicture], limits: KeepLimits) -> int:
        """Keeps answers, and forgets the oldest of their galleries beyond the limits.

        Left out are answers of a gallery that is gone, and pictures that were purged.

        Returns:
            How many were taken, those included that the limits let go at once.

        Raises:
            StorageError: the disk is full; nothing is changed.
        """
        taken = 0
        by_gallery: dict[str, list[KeptPicture]] = {}
        for picture in pictures:
            by_gallery.setdefault(picture.answer.gallery, []).append(picture)
        with self.database.writing() as db:
            for name in sorted(by_gallery):  # Whoever locks several does so in one order.
                gallery = lock_gallery(db, name)
                if gallery is None or gallery["deleted"]:
                    continue
                taken += sum(kept.put(db, gallery["id"], each) for each in by_gallery[name])
                kept.trim(db, gallery["id"], limits)
        return taken

    def forget_kept(self, limits: KeepLimits) -> int:
        """Forgets the answers whose days are over, all where none are kept; how many there were."""
        before_ms = limits.since_ms(self.now_ms()) if limits.answers else NEWEST
        with self.database.reading() as db:
            if not kept.has_expired(db, before_ms):
                return 0  # Nobody waits for a lock for nothing.
        with self.database.writing() as db:
            return kept.expire(db, before_ms)

    def kept(
        self,
        name: str,
        *,
        since_ms: int = 0,
        undecided_by: Iterable[str] = (),
        before: int = NEWEST,
        limit: int = 1_000,
    ) -> list[ListedAnswer]:
        """Kept answers of a gallery, the newest first.

        Args:
            name: The gallery.
            since_ms: Unix time before which answers are forgotten.
            undecided_by: Without those that one of these reviewers decided.
            before: Only those with smaller numbers.
            limit: At most so many.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return kept.answers(
                db,
                gallery_row(db, name),
                since_ms=since_ms,
                undecided_by=undecided_by,
                before=before,
                limit=limit,
            )

    def kept_image(self, name: str, image_id: str, *, since_ms: int = 0) -> bytes:
        """The picture of a kept answer.

        Raises:
            NotFoundError: no such gallery, or nothing is kept of this picture.
        """
        with self.database.reading() as db:
            data = kept.image(db, gallery_row(db, name)["id"], image_id, since_ms)
        if data is None:
            raise NotFoundError(f"no answer to the picture {image_id} is kept for {name!r}")
        return data

    def kept_features(
        self, name: str, bundles: Bundles, *, since_ms: int = 0
    ) -> list[KeptFeatures]:
        """What these bundles made of the pictures of kept answers, the newest first.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return list(kept.features(db, gallery_row(db, name), bundles, since_ms))

    def waiting(self, name: str, *, since_ms: int = 0) -> Waiting:
        """The kept answers that nobody decided yet.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return kept.waiting(db, gallery_row(db, name)["id"], since_ms)

    # --- decisions ------------------------------------------------------------------

    def record_decisions(self, name: str, made: Sequence[Decision]) -> int:
        """Writes decisions down, at the store's time; how many were new.

        Raises:
            NotFoundError: no such gallery.
            PurgedError: the picture of one was purged; nothing is changed.
        """
        with self.database.writing() as db:
            gallery_id = lock_gallery_row(db, name)["id"]
            return decisions.record(db, gallery_id, made, self.now_ms())

    def withdraw_decisions(self, name: str, decision_ids: Iterable[str]) -> int:
        """Takes decisions back; how many there were.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.writing() as db:
            return decisions.withdraw(db, gallery_row(db, name)["id"], decision_ids)

    def decisions(
        self,
        name: str,
        *,
        image_ids: Sequence[str] = (),
        before: int | None = None,
        limit: int | None = None,
    ) -> list[ListedDecision]:
        """Decisions in a gallery, the newest first.

        Args:
            name: The gallery.
            image_ids: Only decisions of these pictures; all when empty.
            before: Only those with smaller numbers.
            limit: At most so many; all when None.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return decisions.decisions(
                db,
                gallery_row(db, name)["id"],
                image_ids=image_ids,
                before=before,
                limit=limit,
            )

    # --- dismissed clusters ---------------------------------------------------------

    def dismiss(
        self,
        name: str,
        clusters: Mapping[str, Sequence[DismissedPicture]],
        bundles: Bundles,
        *,
        author: str = "",
    ) -> None:
        """Keeps what was seen and read of clusters of no interest; may be repeated.

        Args:
            name: The gallery.
            clusters: The pictures of each, by its key.
            bundles: What has seen and read them.
            author: Who dismisses them.

        Raises:
            NotFoundError: no such gallery.
            LimitError: the gallery would keep too many; nothing is changed.
            PurgedError: a picture was purged; nothing is changed.
        """
        with self.database.writing() as db:
            gallery_id = lock_gallery_row(db, name)["id"]
            for key, pictures in clusters.items():
                for picture in pictures:
                    dismissed.put(
                        db,
                        gallery_id,
                        picture,
                        bundles,
                        cluster_key=key,
                        author=author,
                        now_ms=self.now_ms(),
                    )
            dismissed.check_full(db, gallery_id)

    def dismissed(self, name: str, bundles: Bundles) -> list[DismissedPicture]:
        """What these bundles have seen and read of dismissed clusters, by image id.

        Raises:
            NotFoundError: no such gallery.
        """
        with self.database.reading() as db:
            return list(dismissed.pictures(db, gallery_row(db, name)["id"], bundles))
