"""Decided screenshots become pictures of the gallery: a batch at a time, one revision each.

    chosen ──preview──> what would turn        nothing is changed
           ──enrol────> one revision           under one request_id, however often it is sent
    batch  ──undo─────> rollback               unless the gallery has moved on since

A batch is made of decisions, or of a cluster of a discovery.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pagesight._client import Client
from pagesight._discovery import PreviewPicture, PreviewResult
from pagesight._errors import AbortedError, NotFoundError, PagesightError
from pagesight._inputs import EnrolItem
from pagesight._review_page.desk import Desk
from pagesight._review_page.export import ExportFolder
from pagesight._review_page.jobs import Job
from pagesight._review_page.model import Decided, Waiting

MAX_VALIDATION = 500
"""Pictures that a preview answers before and after; each is sent."""

ATTEMPTS = 3
"""How often an enrolment begins anew because somebody else changed the gallery meanwhile."""

SOURCE = "review"
"""What the history names as the source of these pictures."""


@dataclass(slots=True, kw_only=True)
class Batch:
    """Notes an enrolment that was made, and what undoing it takes back."""

    revision_before: int
    revision: int
    labels: tuple[str, ...]
    pictures: int
    problems: tuple[str, ...] = ()
    """Pictures that were not enrolled, and why."""
    failed: tuple[bool, ...] = ()
    """Whether each picture that was sent is one of them, in the order of sending."""
    decision_ids: frozenset[str] = frozenset()
    """Ids of the decisions that it enrolled; none where it is of a cluster."""
    cluster_decision_ids: tuple[str, ...] = ()
    """Ids of the decisions that were recorded with it; none where it is of no cluster."""
    taken_out: tuple[Waiting, ...] = ()
    """Pictures of its cluster that left the queue with it."""
    undone: bool = False
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


class Batches:
    """What is enrolled from one review."""

    def __init__(
        self,
        desk: Desk,
        *,
        author: str,
        export: ExportFolder | None = None,
        validation: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self.preview: Job[PreviewResult] | None = None
        self.preview_without: tuple[str, ...] = ()
        """Pictures that the preview had to leave out, and why."""
        self.made: list[Batch] = []
        self.export = export
        self.changing = threading.RLock()
        """Held while the gallery is changed from here: a button pressed twice changes it once."""
        self._desk = desk
        self._client: Client = desk.client
        self._author = author
        self._validation = tuple(validation)
        self._begun: dict[frozenset[str], tuple[str, int]] = {}
        """Request id and revision before, by the pictures: the same enrolment sent again is the
        same change, made of the same revision."""
        self._stands_at: dict[int, int] = {}
        """The revision that holds the same since, by the one that was gone back to."""

    def teachable(self) -> list[Decided]:
        """What could be enrolled: decided, labelled, and not there already; corrections first."""
        found = [
            one
            for one in self._desk.decided
            if one.label and not one.enrolled_revision and one.waiting.origin != "known"
        ]
        return sorted(found, key=lambda one: (not one.teach, not one.corrected))

    def start_preview(self, decision_ids: Collection[str]) -> None:
        """Begins to ask what enrolling these would change."""
        chosen, others = self._split(decision_ids)
        others = others[:MAX_VALIDATION]
        data, self.preview_without = self._desk.pictures.screenshots(
            [one.waiting for one in (*chosen, *others)]
        )
        items = _enrol_items(chosen, data)
        pictures = [
            *(PreviewPicture(image=path, truth=label) for path, label in self._validation),
            *(
                PreviewPicture(image=data[one.waiting.image_id], truth=one.label)
                for one in others
                if one.waiting.image_id in data
            ),
        ]
        gallery = self._desk.gallery
        self.preview = Job(
            lambda note: self._client.preview(
                items, pictures, gallery=gallery, kept=True, progress=note
            )
        )

    def enrol(self, decision_ids: Collection[str]) -> Batch:
        """Enrols decided screenshots, as one revision; those that are gone are left out and said.

        Returns:
            What was enrolled; where these are enrolled already, as by a button pressed twice, the
            batch that did it.

        Raises:
            PagesightError: Nothing is enrolled.
            ValueError: Nothing is chosen, or nothing of it is there any more.
        """
        with self.changing:
            chosen, _ = self._split(decision_ids)
            if not chosen:
                for made in reversed(self.made):
                    if not made.undone and not made.decision_ids.isdisjoint(decision_ids):
                        return made
            return self._enrol(chosen)

    def _enrol(self, chosen: list[Decided]) -> Batch:
        data, gone = self._desk.pictures.screenshots([one.waiting for one in chosen])
        chosen = [one for one in chosen if one.waiting.image_id in data]
        batch = self.enrol_items(
            _enrol_items(chosen, data), [one.waiting.image_id for one in chosen], gone
        )
        taken = [one for one, failed in zip(chosen, batch.failed, strict=True) if not failed]
        batch.decision_ids = frozenset(one.decision_id for one in taken)
        for one in taken:
            one.enrolled_revision = batch.revision
        if self.export is not None:
            for one in taken:
                self.export.take_back(one.waiting.image_id)
        self.preview = None
        return batch

    def enrol_items(
        self, items: Sequence[EnrolItem], image_ids: Sequence[str], gone: Sequence[str] = ()
    ) -> Batch:
        """Enrols pictures, as one revision; whoever calls it holds `changing`.

        Args:
            items: What to send.
            image_ids: Of each the screenshot that it is of.
            gone: What had to be left out, and why: told with the problems of the batch.

        Raises:
            PagesightError: Nothing is enrolled.
            ValueError: There is none.
        """
        if not items:
            raise ValueError("; ".join(gone) or "choose at least one picture")
        sent = frozenset(
            f"{image_id}:{item.label}" for image_id, item in zip(image_ids, items, strict=True)
        )
        for left in range(ATTEMPTS - 1, -1, -1):
            if sent not in self._begun:
                self._begun[sent] = uuid.uuid4().hex, self._revision()
            request_id, before = self._begun[sent]
            try:
                result = self._client.enrol(
                    items,
                    gallery=self._desk.gallery,
                    author=self._author,
                    request_id=request_id,
                    expected_revision=before,
                )
            except AbortedError:
                self._begun.pop(sent, None)
                if not left:
                    raise
                continue
            break
        self._begun.pop(sent, None)
        batch = Batch(
            revision_before=before,
            revision=result.revision,
            labels=tuple(dict.fromkeys(item.label for item in items)),
            pictures=sum(outcome.added for outcome in result.outcomes),
            problems=(
                *gone,
                *(
                    f"{outcome.image_id[:12]}: {outcome.error.message}"
                    for outcome in result.outcomes
                    if outcome.error is not None
                ),
            ),
            failed=tuple(outcome.error is not None for outcome in result.outcomes),
        )
        self.made.append(batch)
        self._desk.answer_anew()
        return batch

    def undo(self, key: str) -> Batch:
        """Rolls a batch back.

        Raises:
            PagesightError: It could not be; `AbortedError` where the gallery has moved on.
            KeyError: There is no such batch.
        """
        with self.changing:
            return self._undo(key)

    def _undo(self, key: str) -> Batch:
        batch = next((one for one in self.made if one.key == key), None)
        if batch is None:
            raise KeyError(key)
        if batch.undone:
            return batch
        if batch.pictures:
            # A later batch that was undone leaves what this one made, under another number.
            now = batch.revision
            while now in self._stands_at:
                now = self._stands_at[now]
            result = self._client.rollback(
                batch.revision_before,
                gallery=self._desk.gallery,
                author=self._author,
                expected_revision=now,
            )
            if result.revision > batch.revision_before:
                self._stands_at[batch.revision_before] = result.revision
        batch.undone = True
        for decision_id in batch.cluster_decision_ids:
            self._desk.outbox.withdraw(decision_id)
        self._desk.bring_back(batch.taken_out)
        for one in self._desk.decided:
            if one.decision_id in batch.decision_ids:
                one.enrolled_revision = 0
                with suppress(OSError, PagesightError):
                    self.put_aside(one)
        self._desk.answer_anew()
        return batch

    def put_aside(self, decided: Decided) -> None:
        """Keeps a decided screenshot as labelled traffic, where a folder for it was named.

        Raises:
            OSError: It cannot be written.
            PagesightError: Its picture cannot be read any more.
        """
        if self.export is not None and decided.label and decided.waiting.origin != "known":
            data = self._desk.pictures.screenshot(decided.waiting)
            self.export.put(decided.waiting.image_id, decided.label, data)

    def _split(self, decision_ids: Collection[str]) -> tuple[list[Decided], list[Decided]]:
        teachable = self.teachable()
        chosen = [one for one in teachable if one.decision_id in decision_ids]
        return chosen, [one for one in teachable if one.decision_id not in decision_ids]

    def _revision(self) -> int:
        try:
            return self._client.get_gallery(gallery=self._desk.gallery).revision
        except NotFoundError:
            return 0


def _enrol_items(decided: Sequence[Decided], data: Mapping[str, bytes]) -> list[EnrolItem]:
    """What is enrolled of those whose bytes are at hand, by their image ids."""
    return [
        enrol_item(one.waiting.image_id, data[one.waiting.image_id], one.label)
        for one in decided
        if one.waiting.image_id in data
    ]


def enrol_item(image_id: str, data: bytes, label: str) -> EnrolItem:
    """Gives what is enrolled of a screenshot; its source says so where it is but a thumbnail of it.

    Args:
        image_id: SHA-256 of the screenshot as it was received.
        data: Its bytes as they are kept.
        label: What it shows.
    """
    whole = hashlib.sha256(data).hexdigest() == image_id
    source = SOURCE if whole else f"{SOURCE}, thumbnail of {image_id}"
    return EnrolItem(image=data, label=label, source=source)


def in_words(error: PagesightError) -> str:
    """What a change that failed means for the reviewer."""
    if isinstance(error, AbortedError):
        return (
            f"{error.message}. Somebody changed the gallery since: look at it with `pagesight "
            "gallery history` and go back with `pagesight gallery rollback` where that is right"
        )
    return error.message
