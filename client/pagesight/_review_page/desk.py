"""The reviewer's desk: what waits, what lies on top, what was decided.

    feeds ──add──> waiting ──order──> hand: the next six, made ready ahead ──deal──> the page
                                        ├─ now and then a hidden known item, or a question
                                        └─ gone, once another reviewer decided it
    decide ──> decided, outbox          undo ──> back on top

The page shows the first of the hand and holds the other five, so that a press needs no answer of
anybody to go on. Safe to use from many threads.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from pagesight._client import Client
from pagesight._errors import NotFoundError, PagesightError
from pagesight._review import Decision
from pagesight._review_page.model import Card, Decided, Question, Stage, Waiting
from pagesight._review_page.order import in_order, share_of
from pagesight._review_page.outbox import Outbox
from pagesight._review_page.pictures import Pictures
from pagesight._review_page.reach import Reach

HAND = 6
"""The one that is looked at and the next five."""

AT_ONCE = 3
"""Screenshots made ready at a time."""

CANDIDATES = 5
FIRST_CARD_S = 2.0
"""How long a deal waits for the first card before it says that there is none yet."""

EVERY_QUESTION = 8
"""One question of the doctor's among so many screenshots."""

CARDS_KEPT = 60
"""Cards whose whole answer stays in memory: those on the page, and those that undo brings back."""

KNOWN_AT_HAND = 5
SECOND_OPINION_SALT = 1
"""Draws second opinions independently of the random tenth (`share_of`)."""


@dataclass(frozen=True, slots=True)
class Deal:
    """What the page is to show next."""

    cards: tuple[Card | Question, ...]
    gone: tuple[str, ...]
    """Keys that the page still has, and that need not be looked at any more."""
    coming: bool
    """More is being made ready."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the work stands."""

    waiting: int
    """Those that are worth looking at."""
    rest: int
    """Those beyond."""
    decided: int
    unsent: int
    teach: int
    unusable: int


class Desk:
    """One reviewer's work on one gallery."""

    def __init__(
        self,
        client: Client,
        *,
        gallery: str,
        reviewer: str,
        reach: Reach,
        known_share: float = 0.05,
        second_opinions: float = 0.1,
        show_digits: bool = False,
        draw: random.Random | None = None,
    ) -> None:
        self.client = client
        self.gallery = gallery
        self.reviewer = reviewer
        self.reach = reach
        self.pictures = Pictures(client, gallery)
        self.outbox = Outbox(client, gallery, reach)
        self.feeding = False
        """Whether feeds may still add something."""
        self.with_rest = False
        """Whether what is beyond the most useful is looked at too."""
        self._known_share = known_share
        self._second_opinions = second_opinions
        self._show_digits = show_digits
        self._draw = draw or random.Random()
        self._lock = threading.RLock()
        self._waiting: dict[str, Waiting] = {}
        """By hash of the picture."""
        self._known: dict[str, Waiting] = {}
        """By key."""
        self._questions: OrderedDict[str, Question] = OrderedDict()
        self._closed: dict[str, tuple[Question, bool]] = {}
        """Questions that were answered, and whether they are settled."""
        self._decided: list[Decided] = []
        self._own_ids: set[str] = set()
        """Of decisions made here."""
        self._decided_by: dict[str, set[str]] = {}
        self._hand: list[tuple[Waiting | Question, Stage]] = []
        self._ordered: list[tuple[Waiting, Stage]] | None = None
        self._futures: dict[str, Future[Card]] = {}
        self._cards: OrderedDict[str, Card] = OrderedDict()
        self._keys: dict[str, Waiting] = {}
        """Of what was on the page."""
        self._dealt = 0
        self._unusable: list[str] = []
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="review-prepare")

    # --- what feeds add ---

    def add(self, waiting: Waiting) -> None:
        """Adds a screenshot, unless it waits already or need not be looked at."""
        with self._lock:
            if waiting.image_id in self._waiting or self._settled(waiting.image_id):
                return
            self._waiting[waiting.image_id] = waiting
            self._ordered = None

    def add_known(self, waiting: Waiting) -> None:
        """Adds a known item, to be hidden among the others."""
        with self._lock:
            self._known[waiting.key] = waiting

    def add_question(self, question: Question) -> None:
        """Adds a finding of the doctor."""
        with self._lock:
            self._questions[question.key] = question

    def note_decision(self, image_id: str, reviewer: str, decision_id: str = "") -> None:
        """Notes that somebody decided a picture, so that it may leave the queue."""
        with self._lock:
            if decision_id in self._own_ids:  # it may have been taken back since
                return
            self._decided_by.setdefault(image_id, set()).add(reviewer)
            if image_id in self._waiting and self._settled(image_id):
                del self._waiting[image_id]
                self._ordered = None

    def unusable(self, why: str) -> None:
        """Notes a picture that cannot be looked at."""
        with self._lock:
            self._unusable.append(why)

    @property
    def known_wanted(self) -> int:
        """How many known items are to be drawn."""
        with self._lock:
            return max(0, KNOWN_AT_HAND - len(self._known)) if self._known_share else 0

    def _settled(self, image_id: str) -> bool:
        """Whether nobody need look at a picture here: a share is decided by two."""
        by = self._decided_by.get(image_id, set())
        if any(is_of(name, self.reviewer) for name in by):
            return True
        second = share_of(image_id, SECOND_OPINION_SALT) < self._second_opinions
        return len(by) > (1 if second else 0)

    # --- what the page takes ---

    def deal(self, on_page: Collection[str]) -> Deal:
        """Returns what the page lacks, as soon as some of it is ready.

        Args:
            on_page: Keys of what it has.
        """
        with self._lock:
            self._fill_hand()
            keys = [item.key for item, _ in self._hand]
            gone = tuple(key for key in on_page if key not in keys)
            cards: list[Card | Question] = []
            pending: dict[Future[Card], Waiting] = {}
            for item, stage in self._hand:
                if item.key in on_page:
                    continue
                if isinstance(item, Question):
                    cards.append(item)
                else:
                    pending[self._making(item, stage)] = item
        if pending and not cards and not on_page:
            wait(pending, FIRST_CARD_S, return_when=FIRST_COMPLETED)
        late = False
        for future, waiting in pending.items():
            if future.done():
                card = self._made(future, waiting)
                late |= card is None
                cards += [card] if card is not None else []
            else:
                late = True
        return Deal(tuple(cards), gone, coming=late or self.feeding)

    def card(self, key: str) -> Card:
        """Returns what is on the page under a key, or was.

        Raises:
            KeyError: Nothing was.
            PagesightError: It cannot be made ready again.
        """
        with self._lock:
            if key in self._cards:
                return self._cards[key]
            waiting = self._keys[key]
        return self._keep(self._prepare(waiting, "rest"))

    def question(self, key: str) -> Question:
        """Returns a question on the page.

        Raises:
            KeyError: It is none, or is answered.
        """
        with self._lock:
            return self._questions[key]

    def waiting(self, key: str) -> Waiting:
        """Returns the screenshot under a key.

        Raises:
            KeyError: There is none.
        """
        with self._lock:
            return self._keys[key]

    def close_question(self, key: str, *, settled: bool = False) -> None:
        """Takes a question off the desk.

        Args:
            key: Of the question.
            settled: It is settled with the server, so that to reopen it is to unsettle it.
        """
        with self._lock:
            question = self._questions.pop(key, None)
            if question is not None:
                self._closed[key] = question, settled
            self._drop(key)

    def reopen_question(self, key: str) -> bool:
        """Puts a question back on top.

        Returns:
            Whether it was settled, so that this is to be taken back.

        Raises:
            KeyError: It was not closed.
        """
        with self._lock:
            question, settled = self._closed.pop(key)
            self._questions[key] = question
            self._hand.insert(0, (question, "variety"))
            return settled

    def reveal(self, key: str) -> Card:
        """Shows the digits of a card.

        Raises:
            KeyError: There is no such card.
        """
        card = self.card(key)
        return self._keep(replace(card, revealed=True))

    def decide(self, key: str, label: str, *, teach: bool = False, seconds: float = 0.0) -> Decided:
        """Records what the reviewer says of a card; the same twice is once.

        Args:
            key: Of the card.
            label: What it shows: a label or `other`; empty: cannot tell.
            teach: Enrol it with the next batch.
            seconds: Between showing and deciding.

        Raises:
            KeyError: There is no such card.
        """
        card = self.card(key)
        waiting, answer = card.waiting, card.answer
        with self._lock:
            for before in self._decided:
                if before.waiting.key == key:
                    return before
            decided = Decided(
                waiting=waiting,
                decision_id=uuid.uuid4().hex,
                label=label,
                shown_label=answer.label,
                # What a known item shows, the gallery holds already.
                teach=teach and bool(label) and waiting.origin != "known",
            )
            self._decided.append(decided)
            self._own_ids.add(decided.decision_id)
            self._waiting.pop(waiting.image_id, None)
            self._known.pop(key, None)
            self._ordered = None
            self._drop(key)
        self.outbox.record(
            Decision(
                decision_id=decided.decision_id,
                image_id=waiting.image_id,
                label=label,
                shown_label=answer.label,
                shown_closest_label=answer.closest_label,
                shown_doubt=answer.doubt,
                revision=answer.revision,
                reviewer=self.reviewer,
                known_label=waiting.known_label,
                seconds=seconds,
            )
        )
        return decided

    def undo(self) -> Decided | None:
        """Takes the last decision back and puts its card on top; None where there is none.

        Raises:
            ValueError: It is enrolled: the batch must be rolled back first.
        """
        with self._lock:
            if not self._decided:
                return None
            decided = self._decided[-1]
            if decided.enrolled_revision:
                raise ValueError(
                    f"it is enrolled, as revision {decided.enrolled_revision}: undo that first, "
                    "under Batch"
                )
            self._decided.pop()
            waiting = decided.waiting
            if waiting.origin == "known":
                self._known[waiting.key] = waiting
            else:
                self._waiting[waiting.image_id] = waiting
                self._ordered = None
            stage = self._cards[waiting.key].stage if waiting.key in self._cards else "rest"
            self._hand.insert(0, (waiting, stage))
        self.outbox.withdraw(decided.decision_id)
        return decided

    # --- where the work stands ---

    @property
    def decided(self) -> tuple[Decided, ...]:
        """What was decided in this run, the oldest first."""
        with self._lock:
            return tuple(self._decided)

    @property
    def counts(self) -> Counts:
        """Where the work stands."""
        with self._lock:
            ordered = self._in_order()
            rest = sum(stage == "rest" for _, stage in ordered)
            return Counts(
                waiting=len(ordered) - (0 if self.with_rest else rest) + len(self._questions),
                rest=0 if self.with_rest else rest,
                decided=len(self._decided),
                unsent=self.outbox.unsent,
                teach=sum(one.teach and not one.enrolled_revision for one in self._decided),
                unusable=len(self._unusable),
            )

    @property
    def unusable_pictures(self) -> tuple[str, ...]:
        """What cannot be looked at, and why."""
        with self._lock:
            return tuple(self._unusable)

    def rejected(self) -> list[Waiting]:
        """Returns the screenshots that were answered `other`, decided ones apart."""
        with self._lock:
            return [one for one in self._waiting.values() if one.label == "other"]

    def take_out(self, image_ids: Collection[str]) -> None:
        """Takes screenshots out of the queue, since their cluster was decided as a whole."""
        with self._lock:
            for image_id in image_ids:
                self._waiting.pop(image_id, None)
            self._ordered = None

    def answer_anew(self) -> None:
        """Forgets the answers that are made ready, since the gallery has changed."""
        with self._lock:
            self._futures.clear()

    def close(self) -> None:
        """Ends what makes cards ready."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- inside ---

    def _in_order(self) -> list[tuple[Waiting, Stage]]:
        if self._ordered is None:
            self._ordered = in_order(self._waiting.values())
        return self._ordered

    def _fill_hand(self) -> None:
        self._hand = [
            (item, stage)
            for item, stage in self._hand
            if item.key in (self._questions if isinstance(item, Question) else self._known)
            or (isinstance(item, Waiting) and self._waiting.get(item.image_id) is item)
        ]
        held = {item.key for item, _ in self._hand}
        if len(held) >= HAND:
            return
        following = iter(
            [
                (item, stage)
                for item, stage in self._in_order()
                if item.key not in held and (self.with_rest or stage != "rest")
            ]
        )
        questions = iter([one for one in self._questions.values() if one.key not in held])
        hidden = iter([one for one in self._known.values() if one.key not in held])
        while len(self._hand) < HAND:
            self._dealt += 1
            if self._dealt % EVERY_QUESTION == 0 and (question := next(questions, None)):
                self._hand.append((question, "variety"))
                continue
            upcoming = next(following, None)
            if upcoming is None:
                if (question := next(questions, None)) is None:
                    return
                self._hand.append((question, "variety"))
                continue
            # A known item looks like the one that it comes before.
            if self._draw.random() < self._known_share and (known := next(hidden, None)):
                self._hand.append((known, upcoming[1]))
            self._hand.append(upcoming)

    def _drop(self, key: str) -> None:
        self._hand = [(item, stage) for item, stage in self._hand if item.key != key]
        self._futures.pop(key, None)

    def _making(self, waiting: Waiting, stage: Stage) -> Future[Card]:
        self._keys[waiting.key] = waiting
        future = self._futures.get(waiting.key)
        if future is None:
            future = self._futures[waiting.key] = self._pool.submit(self._prepare, waiting, stage)
        return future

    def _made(self, future: Future[Card], waiting: Waiting) -> Card | None:
        """Takes what was made ready; None where it was not, now or for good."""
        try:
            card = future.result()
        except PagesightError as error:
            with self._lock:
                self._futures.pop(waiting.key, None)
                # One picture that is gone or unreadable is no matter of the server's.
                if isinstance(error, NotFoundError) or not self.reach.failed(error):
                    self._waiting.pop(waiting.image_id, None)
                    self._known.pop(waiting.key, None)
                    self._ordered = None
                    self._unusable.append(f"{waiting.path or waiting.image_id}: {error.message}")
            return None
        return self._keep(card)

    def _prepare(self, waiting: Waiting, stage: Stage) -> Card:
        data = self.pictures.screenshot(waiting)
        answer = waiting.answer
        if answer is None:
            answer = self.client.classify(
                data, gallery=self.gallery, top_k=CANDIDATES, explain=True, priority="high"
            )
            self.reach.answered()
        for candidate in answer.candidates[:2]:
            try:
                self.pictures.of_gallery(candidate.image_id)
                self.pictures.learn_sizes(candidate.label, answer.revision)
            except NotFoundError:  # not kept: the page says so in its place
                continue
        return Card(waiting=waiting, answer=answer, stage=stage, revealed=self._show_digits)

    def _keep(self, card: Card) -> Card:
        with self._lock:
            before = self._cards.get(card.key)
            if before is not None and before.revealed and not card.revealed:
                card = before
            self._cards[card.key] = card
            self._cards.move_to_end(card.key)
            while len(self._cards) > CARDS_KEPT:
                self._cards.popitem(last=False)
        return card


def is_of(name: str, reviewer: str) -> bool:
    """Whether a reviewer's name as the server gives it, a token's before it, is this one's."""
    return name == reviewer or name.endswith(f"/{reviewer}")
