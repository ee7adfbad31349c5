"""What waits, and the hand that is dealt from it. Not safe to use from several threads by itself.

    waiting ──in order──> hand of six
    known items           one before a screenshot, now and then
    questions             one after so many screenshots, and at the end

The hand stays as it is while something better comes in: it is loaded already.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import replace

from pagesight._curation import GalleryFindingKind
from pagesight._review_page.model import Question, Stage, Waiting
from pagesight._review_page.order import in_order, share_of

HAND = 6
"""The one that is looked at and the next five."""

EVERY_QUESTION = 8
"""One question of the doctor's among so many screenshots."""

KNOWN_AT_HAND = 5
SECOND_OPINION_SALT = 1
"""Draws second opinions independently of the random tenth (`share_of`)."""

QUESTIONS: tuple[GalleryFindingKind, ...] = (
    "wrong_label",
    "near_duplicates",
    "hardly_read",
    "odd_picture",
    "rejected_pictures",
    "unlike_pictures",
    "no_own_text",
    "few_pictures",
)
"""The order of the doctor's questions: first what a look can put right."""


class Queue:
    """Holds one reviewer's undecided work, and deals a hand from it.

    Args:
        reviewer: Whose, by the name under which the server records decisions.
        known_share: Share of known items among the screenshots, 0 to 1.
        second_opinions: Share of what others decided that this reviewer decides too, 0 to 1.
        draw: Draws where known items go.
    """

    def __init__(
        self,
        reviewer: str,
        *,
        known_share: float,
        second_opinions: float,
        draw: random.Random,
    ) -> None:
        self.with_rest = False
        """Whether what is beyond the most useful is looked at too."""
        self.hand: list[tuple[Waiting | Question, Stage]] = []
        self._reviewer = reviewer
        self._known_share = known_share
        self._second_opinions = second_opinions
        self._draw = draw
        self._waiting: dict[str, Waiting] = {}
        """Screenshots that wait, by their SHA-256."""
        self._known: dict[str, Waiting] = {}
        """Known items that wait, by their keys."""
        self._questions: OrderedDict[str, Question] = OrderedDict()
        self._closed: dict[str, tuple[Question, bool]] = {}
        """Questions that were answered, and whether they are settled."""
        self._decided_by: dict[str, dict[str, str]] = {}
        """By picture the reviewers who decided it, each by the id of the decision."""
        self._left: dict[str, Waiting] = {}
        """Screenshots that wait no more since others decided them, by their SHA-256."""
        self._ordered: list[tuple[Waiting, Stage]] | None = None
        self._dealt = 0

    # --- screenshots ---

    def add(self, waiting: Waiting) -> None:
        """Adds a screenshot, unless it waits already; it waits while it need be looked at."""
        if waiting.image_id in self._waiting:
            return
        if self._settled(waiting.image_id):
            self._left[waiting.image_id] = waiting
        else:
            self._waiting[waiting.image_id] = waiting
            self._ordered = None

    def add_known(self, waiting: Waiting) -> None:
        """Adds a known item."""
        self._known[waiting.key] = waiting

    @property
    def known_wanted(self) -> int:
        """How many known items are to be drawn."""
        return max(0, KNOWN_AT_HAND - len(self._known)) if self._known_share else 0

    def note_decision(self, image_id: str, reviewer: str, decision_id: str) -> None:
        """Notes that somebody decided a picture, so that it may leave."""
        self._decided_by.setdefault(image_id, {})[decision_id] = reviewer
        if image_id in self._waiting and self._settled(image_id):
            self._left[image_id] = self._waiting.pop(image_id)
            self._ordered = None

    def forget_decision(self, image_id: str, decision_id: str) -> None:
        """Notes that a decision was taken back, so that its picture may wait again."""
        self._decided_by.get(image_id, {}).pop(decision_id, None)
        if image_id in self._left and not self._settled(image_id):
            self._waiting.setdefault(image_id, self._left.pop(image_id))
            self._ordered = None

    def take_out(self, image_ids: Collection[str]) -> list[Waiting]:
        """Takes screenshots out for good; returns those that waited."""
        self._ordered = None
        for image_id in image_ids:
            self._left.pop(image_id, None)
        taken = [self._waiting.pop(image_id, None) for image_id in image_ids]
        return [one for one in taken if one is not None]

    def bring_back(self, waiting: Collection[Waiting]) -> None:
        """Has screenshots wait again that were taken out, whoever decided them since."""
        self._waiting |= {one.image_id: one for one in waiting}
        self._ordered = None

    def remove(self, waiting: Waiting) -> None:
        """Takes a screenshot or a known item out, since it is decided or cannot be looked at."""
        if waiting.origin == "known":
            self._known.pop(waiting.key, None)
        else:
            self.take_out([waiting.image_id])
        self._drop(waiting.key)

    def put_back(self, waiting: Waiting, stage: Stage) -> None:
        """Puts a screenshot or a known item back, on top."""
        if waiting.origin == "known":
            self._known[waiting.key] = waiting
        else:
            self._waiting[waiting.image_id] = waiting
            self._ordered = None
        self.hand.insert(0, (waiting, stage))

    def rejected(self) -> list[Waiting]:
        """Returns the screenshots that were answered `other`."""
        return [one for one in self._waiting.values() if one.label == "other"]

    @property
    def counts(self) -> tuple[int, int]:
        """How many are worth looking at, questions included, and how many there are beyond."""
        ordered = self._in_order()
        rest = 0 if self.with_rest else sum(stage == "rest" for _, stage in ordered)
        return len(ordered) - rest + len(self._questions), rest

    # --- questions ---

    def add_question(self, question: Question) -> None:
        """Adds a finding of the doctor."""
        self._questions[question.key] = question

    def question(self, key: str) -> Question:
        """Returns a question that is open.

        Raises:
            KeyError: There is none.
        """
        return self._questions[key]

    def reveal_question(self, key: str) -> Question:
        """Shows the digits of a question's pictures.

        Raises:
            KeyError: There is no such question.
        """
        question = replace(self._questions[key], revealed=True)
        self._questions[key] = question
        self.hand = [(question if item.key == key else item, stage) for item, stage in self.hand]
        return question

    def close_question(self, key: str, *, settled: bool) -> None:
        """Takes a question off; one that is none is no error."""
        question = self._questions.pop(key, None)
        if question is not None:
            self._closed[key] = question, settled
        self._drop(key)

    def reopen_question(self, key: str) -> bool:
        """Puts a question back on top, and returns whether it was settled.

        Raises:
            KeyError: It was not closed.
        """
        question, settled = self._closed.pop(key)
        self._questions[key] = question
        self.hand.insert(0, (question, "variety"))
        return settled

    # --- the hand ---

    def fill_hand(self, *, more_to_come: bool) -> None:
        """Drops what need not be looked at any more, and draws until the hand is full."""
        self.hand = [(item, stage) for item, stage in self.hand if self._is_open(item)]
        held = {item.key for item, _ in self.hand}
        if len(held) >= HAND:
            return
        following = self._following(held)
        questions = iter(
            sorted(
                (one for one in self._questions.values() if one.key not in held),
                key=lambda one: QUESTIONS.index(one.finding.kind),
            )
        )
        hidden = iter([one for one in self._known.values() if one.key not in held])
        while len(self.hand) < HAND:
            upcoming = next(following, None)
            # Screenshots first, where some are still to come.
            if upcoming is None and more_to_come:
                return
            asks = upcoming is None or (self._dealt + 1) % EVERY_QUESTION == 0
            question = next(questions, None) if asks else None
            if question is not None:
                self.hand.append((question, "variety"))
                self._dealt += 1
            if upcoming is None:
                if question is None:
                    return
                continue
            # A known item looks like the one that it comes before.
            if self._draw.random() < self._known_share:
                self.hand += [(known, upcoming[1]) for known in [next(hidden, None)] if known]
            self.hand.append(upcoming)
            self._dealt += 1

    def _following(self, held: Collection[str]) -> Iterator[tuple[Waiting, Stage]]:
        return iter(
            [
                (item, stage)
                for item, stage in self._in_order()
                if item.key not in held and (self.with_rest or stage != "rest")
            ]
        )

    def _is_open(self, item: Waiting | Question) -> bool:
        if isinstance(item, Question):
            return item.key in self._questions
        return item.key in self._known or self._waiting.get(item.image_id) is item

    def _in_order(self) -> list[tuple[Waiting, Stage]]:
        if self._ordered is None:
            self._ordered = in_order(self._waiting.values())
        return self._ordered

    def _drop(self, key: str) -> None:
        self.hand = [(item, stage) for item, stage in self.hand if item.key != key]

    def _settled(self, image_id: str) -> bool:
        """Whether nobody need look at a picture here: a share is decided by two."""
        by = set(self._decided_by.get(image_id, {}).values())
        if self._reviewer in by:
            return True
        second = share_of(image_id, SECOND_OPINION_SALT) < self._second_opinions
        return len(by) > (1 if second else 0)
