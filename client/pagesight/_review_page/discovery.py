"""New pages among what was rejected: clusters, each to be enrolled, dismissed, or kept unknown.

    rejected screenshots of the folder, or of what the server kept ──discover──> clusters
    cluster ──enrol────> its pictures under a label, one revision
            ──unknown──> its most typical ones as examples of the unknown
            ──dismiss──> of no interest, for everybody

All three are final for whoever looks again: what was settled so is in no later discovery. Undoing
the batch of a cluster takes its decisions back, too, and its pictures wait again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from pagesight._changes import Progress
from pagesight._classification import OTHER
from pagesight._discovery import Cluster, Discovery, DismissedCluster
from pagesight._errors import NotFoundError
from pagesight._review import Decision
from pagesight._review_page.batch import Batch, Batches, enrol_item
from pagesight._review_page.desk import Desk
from pagesight._review_page.jobs import Job
from pagesight._review_page.model import Waiting

MAX_PICTURES = 1_000
"""Rejected screenshots that one discovery looks at: what one call may send."""

TYPICAL = 5
"""Pictures of a cluster that say what it is; the contract takes no more to dismiss one."""


OF_SHEET = 12
"""Pictures of a cluster's contact sheet, the most typical ones."""


class Discoveries:
    """What was discovered, and what became of it."""

    def __init__(self, desk: Desk, batches: Batches, *, author: str, kept: bool) -> None:
        self.job: Job[Discovery] | None = None
        self.done: dict[str, str] = {}
        """What became of a cluster, in words, by its key."""
        self.revealed: set[str] = set()
        """Keys of clusters whose digits are shown, since the reviewer asked for them."""
        self.beyond = 0
        """Rejected screenshots that were too many for the last discovery."""
        self._desk = desk
        self._batches = batches
        self._author = author
        self._kept = kept
        self._pictures: dict[str, Waiting] = {}

    def start(self) -> None:
        """Begins to look, unless it is looking."""
        if self.job is not None and self.job.running:
            return
        rejected = [] if self._kept else self._desk.rejected()
        self.beyond = max(0, len(rejected) - MAX_PICTURES)
        rejected = rejected[:MAX_PICTURES]
        self._pictures = {one.image_id: one for one in rejected}
        self.done = {}
        self.revealed = set()
        paths = [one.path for one in rejected]

        def work(note: Callable[[Progress], None]) -> Discovery:
            found = self._desk.client.discover(
                paths, gallery=self._desk.gallery, kept=self._kept, progress=note
            )
            self._desk.prepare.find_digits_of(
                [
                    (one, partial(self._desk.pictures.screenshot, self._waiting(one)))
                    for cluster in found.clusters
                    for one in self.shown(cluster)
                ]
            )
            return found

        self.job = Job(work)

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters that were found and are not done with."""
        if self.job is None or self.job.result is None:
            return ()
        return tuple(one for one in self.job.result.clusters if one.key not in self.done)

    @staticmethod
    def shown(cluster: Cluster) -> tuple[str, ...]:
        """The pictures of a cluster's contact sheet."""
        return cluster.image_ids[:OF_SHEET]

    def cluster(self, key: str) -> Cluster:
        """Returns one of them.

        Raises:
            KeyError: There is none.
        """
        for one in self.clusters:
            if one.key == key:
                return one
        raise KeyError(key)

    def picture(self, image_id: str) -> bytes:
        """Reads a picture of a cluster.

        Raises:
            KeyError: It is in no cluster.
            PagesightError: It cannot be read any more.
        """
        result = self.job.result if self.job is not None else None
        if result is None or not any(image_id in one.image_ids for one in result.clusters):
            raise KeyError(image_id)
        return self._desk.pictures.screenshot(self._waiting(image_id))

    def enrol(self, key: str, label: str) -> Batch:
        """Enrols a cluster under a label; the decision is recorded of each picture.

        Raises:
            KeyError: There is no such cluster.
            PagesightError: Nothing is enrolled.
        """
        with self._batches.changing:
            cluster = self.cluster(key)
            batch = self._enrol(cluster, label, len(cluster.image_ids))
            self.done[key] = _done(f"enrolled as {label}", batch)
        return batch

    def keep_unknown(self, key: str) -> Batch:
        """Enrols a cluster's most typical pictures as examples of the unknown.

        Raises:
            KeyError: There is no such cluster.
            PagesightError: Nothing is enrolled.
        """
        with self._batches.changing:
            batch = self._enrol(self.cluster(key), OTHER, TYPICAL)
            self.done[key] = _done("known to be unknown", batch)
        return batch

    def dismiss(self, key: str) -> None:
        """Marks a cluster as of no interest.

        Raises:
            KeyError: There is no such cluster.
            PagesightError: It is not marked.
        """
        ids = self.cluster(key).image_ids[:TYPICAL]
        if self._kept:
            dismissed = DismissedCluster(kept_image_ids=tuple(ids))
        else:
            data, gone = self._desk.pictures.screenshots([self._waiting(one) for one in ids])
            if not data:
                raise NotFoundError("; ".join(gone))
            dismissed = DismissedCluster(images=tuple(data.values()))
        self._desk.client.dismiss_clusters(
            [dismissed], gallery=self._desk.gallery, author=self._author
        )
        self.done[key] = "dismissed"

    def _enrol(self, cluster: Cluster, label: str, pictures: int) -> Batch:
        chosen = [self._waiting(one) for one in cluster.image_ids[:pictures]]
        data, gone = self._desk.pictures.screenshots(chosen)
        if not data:
            raise NotFoundError("; ".join(gone))
        items = [enrol_item(image_id, screenshot, label) for image_id, screenshot in data.items()]
        batch = self._batches.enrol_items(items, tuple(data), gone)
        failed = {one for one, failed in zip(data, batch.failed, strict=True) if failed}
        missing = {one.image_id for one in chosen if one.image_id not in data}
        decisions = [
            Decision(
                decision_id=uuid.uuid4().hex,
                image_id=image_id,
                label=label,
                shown_label=OTHER,
                shown_closest_label=cluster.closest_label,
                revision=batch.revision_before,
                reviewer=self._desk.reviewer,
            )
            for image_id in cluster.image_ids
            if image_id not in missing | failed
        ]
        for decision in decisions:
            self._desk.outbox.record(decision)
        batch.cluster_decision_ids = tuple(one.decision_id for one in decisions)
        # What failed waits on, to be decided by itself; what is gone cannot be looked at.
        decided = [one for one in cluster.image_ids if one not in failed]
        batch.taken_out = tuple(self._desk.take_out(decided))
        return batch

    def _waiting(self, image_id: str) -> Waiting:
        if image_id in self._pictures:
            return self._pictures[image_id]
        return Waiting(image_id=image_id, origin="kept")


def _done(what: str, batch: Batch) -> str:
    """What became of a cluster that was enrolled, in words."""
    told = f"{what}, revision {batch.revision}: undo it under Batch"
    return f"{told}; left out: {'; '.join(batch.problems)}" if batch.problems else told
