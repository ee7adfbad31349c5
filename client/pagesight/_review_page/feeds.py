"""Where the work comes from: each feed is a thread that adds what waits, until it is stopped.

    FolderFeed     pictures of a folder, answered in the background as a backfill
    KeptFeed       answers that the server kept (`review.keep`), asked for again and again
    KnownFeed      pictures of the gallery with a known label, hidden among the others
    DecisionsFeed  what other reviewers decided meanwhile, and took back
    QuestionsFeed  what the gallery's doctor found and nobody settled

A feed that meets a server that is away waits and goes on; one that is refused ends and says so.
"""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from pagesight._client import Client
from pagesight._errors import PagesightError, UnavailableError
from pagesight._requests import read_image
from pagesight._review_page.model import Question, Waiting
from pagesight._review_page.reach import PASSING, Reach

RETRY_S = 1.0
POLL_S = 2.0
"""How soon what another reviewer decided leaves the queue."""

IN_FLIGHT = 8
"""Pictures of a folder that are answered at a time: whoever waits for an answer goes first."""

FIRST_PAGE = 1_000

WHOLE_EVERY = 30
"""Rounds of which one reads all decisions: one that is taken back long after it was made is missed
for a minute at most, and a hundred thousand are read once in it."""


class Desk(Protocol):
    """Takes what feeds add."""

    reviewer: str

    def add(self, waiting: Waiting) -> None:
        """Adds a screenshot that waits."""

    def add_known(self, waiting: Waiting) -> None:
        """Adds a known item, to be hidden among the others."""

    def add_question(self, question: Question) -> None:
        """Adds a finding of the doctor."""

    def note_decision(self, image_id: str, reviewer: str, decision_id: str) -> None:
        """Notes that somebody decided a picture."""

    def forget_decision(self, image_id: str, decision_id: str) -> None:
        """Notes that somebody took a decision back."""

    def unusable(self, why: str) -> None:
        """Notes a picture that cannot be looked at."""

    @property
    def known_wanted(self) -> int:
        """How many known items are wanted."""


class Feed(ABC):
    """Adds work to a desk, in a thread of its own, until it is stopped."""

    polls = True
    """A round adds all that there is, and later ones what is new."""

    def __init__(self, client: Client, gallery: str, desk: Desk, reach: Reach) -> None:
        self.client = client
        self.gallery = gallery
        self.desk = desk
        self.reach = reach
        self.stopped = threading.Event()
        self.caught_up = threading.Event()
        """Set once all that there was at the start is added, or cannot be."""
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        """Starts to add."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the call under way."""
        self.stopped.set()

    @abstractmethod
    def round(self) -> float | None:
        """Adds what there is; returns the seconds until the next round, or None at the end."""

    def _run(self) -> None:
        try:
            self._rounds()
        finally:
            self.caught_up.set()

    def _rounds(self) -> None:
        while not self.stopped.is_set():
            try:
                wait_s = self.round()
            except PagesightError as error:
                if self.stopped.is_set() or not self.reach.failed(error):
                    return
                wait_s = RETRY_S
            else:
                self.reach.answered()
                if self.polls:
                    self.caught_up.set()
            if wait_s is None or self.stopped.wait(wait_s):
                return


class FolderFeed(Feed):
    """Answers the pictures of a folder."""

    polls = False

    def __init__(
        self, client: Client, gallery: str, desk: Desk, reach: Reach, paths: Sequence[Path]
    ) -> None:
        super().__init__(client, gallery, desk, reach)
        self.total = len(paths)
        self._answered = 0
        self._left = list(dict.fromkeys(paths))
        self._seen: set[str] = set()

    @property
    def answered(self) -> int:
        """How many pictures are done with."""
        return self._answered

    def round(self) -> float | None:
        """Goes on with what has no answer; a stream that broke is no end."""
        done: set[Path] = set()
        results = self.client.classify_stream(
            self._pictures(),
            max_in_flight=IN_FLIGHT,
            gallery=self.gallery,
            priority="low",
            keep=False,
        )
        try:
            for result in results:
                path, image_id = result.key
                if isinstance(result.error, UnavailableError):
                    raise result.error
                if isinstance(result.error, PASSING):
                    continue
                done.add(path)
                self._answered += 1
                self.reach.answered()
                if result.error is not None:
                    self.desk.unusable(f"{path.name}: {result.error.message}")
                elif image_id not in self._seen:
                    self._seen.add(image_id)
                    answer = result.unwrap()
                    self.desk.add(
                        Waiting(
                            image_id=image_id,
                            origin="folder",
                            path=str(path),
                            label=answer.label,
                            closest_label=answer.closest_label,
                            doubt=answer.doubt,
                            doubtful=answer.review,
                        )
                    )
                if self.stopped.is_set():
                    return None
        finally:
            results.close()
            self._left = [path for path in self._left if path not in done]
        return RETRY_S if self._left else None

    def _pictures(self) -> Iterator[tuple[tuple[Path, str], bytes | Path]]:
        for path in list(self._left):
            try:
                data = read_image(path)
            except PagesightError:
                # Sent as a path, so that it becomes the error of its own result.
                yield (path, ""), path
                continue
            yield (path, hashlib.sha256(data).hexdigest()), data


class KeptFeed(Feed):
    """Asks for the answers that the server kept, once it is known which of them are decided."""

    def __init__(
        self,
        client: Client,
        gallery: str,
        desk: Desk,
        reach: Reach,
        decisions_read: threading.Event,
    ) -> None:
        super().__init__(client, gallery, desk, reach)
        self._decisions_read = decisions_read
        self._seen: set[str] = set()
        self._listed_whole = False
        """A round has come to its end: what is older than a page of known answers is known too."""

    def round(self) -> float | None:
        """Adds what is new; once all was listed, it stops at the first page of nothing new."""
        self._decisions_read.wait()
        new_of_page = 0
        listed = self.client.list_kept(gallery=self.gallery, undecided_by=self.desk.reviewer)
        for at, kept in enumerate(listed, start=1):
            if kept.image_id not in self._seen:
                self._seen.add(kept.image_id)
                new_of_page += 1
                self.desk.add(
                    Waiting(
                        image_id=kept.image_id,
                        origin="kept",
                        label=kept.label,
                        closest_label=kept.closest_label,
                        doubt=kept.doubt,
                        doubtful=kept.kept_reason == "doubtful",
                    )
                )
            if at % FIRST_PAGE == 0:
                if self._listed_whole and not new_of_page:
                    break
                new_of_page = 0
            if self.stopped.is_set():
                return None
        self._listed_whole = True
        return POLL_S


class KnownFeed(Feed):
    """Keeps a few known items at hand."""

    def round(self) -> float | None:
        """Draws some where they are wanted."""
        wanted = self.desk.known_wanted
        if wanted:
            items = self.client.draw_known(wanted, gallery=self.gallery)
            if not items:
                return None
            for item in items:
                self.desk.add_known(
                    Waiting(
                        image_id=item.image_id,
                        origin="known",
                        label=item.answer.label,
                        closest_label=item.answer.closest_label,
                        doubt=item.answer.doubt,
                        known_label=item.label,
                        answer=item.answer,
                    )
                )
        return POLL_S


class DecisionsFeed(Feed):
    """Hears what others decide, and what they take back."""

    def __init__(self, client: Client, gallery: str, desk: Desk, reach: Reach) -> None:
        super().__init__(client, gallery, desk, reach)
        self._known: list[tuple[str, str]] = []
        """The decisions that there were, their ids and pictures, the newest first."""
        self._read_rounds = 0

    def round(self) -> float | None:
        """Reads the newest decisions, back to a page of which all are known already.

        What is known and missing among those that were read has been taken back. Now and then it
        reads all.
        """
        known = {decision_id: at for at, (decision_id, _) in enumerate(self._known)}
        whole = self._read_rounds % WHOLE_EVERY == 0
        listed: list[tuple[str, str]] = []
        new_of_page = 0
        reached = len(self._known)
        for decision in self.client.list_decisions(gallery=self.gallery):
            listed.append((decision.decision_id, decision.image_id))
            if decision.decision_id not in known:
                new_of_page += 1
                if not decision.known_label:
                    self.desk.note_decision(
                        decision.image_id, decision.reviewer, decision.decision_id
                    )
            if len(listed) % FIRST_PAGE == 0:
                if not whole and not new_of_page:
                    reached = known[decision.decision_id] + 1
                    break
                new_of_page = 0
            if self.stopped.is_set():
                return None
        there = {decision_id for decision_id, _ in listed}
        for decision_id, image_id in self._known[:reached]:
            if decision_id not in there:
                self.desk.forget_decision(image_id, decision_id)
        self._known = [*listed, *self._known[reached:]]
        self._read_rounds += 1
        return POLL_S


class QuestionsFeed(Feed):
    """Asks the doctor once."""

    def round(self) -> float | None:
        """Adds every finding that nobody settled and that a picture can show."""
        for finding in self.client.diagnose(gallery=self.gallery).findings:
            if finding.settled is None and finding.kind != "unknown":
                self.desk.add_question(Question(finding=finding))
        return None
