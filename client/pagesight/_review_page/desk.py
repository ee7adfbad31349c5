"""The reviewer's desk: what lies on top, what was decided.

    feeds ──add──> queue ──hand of six──> made ready ahead ──deal──> the page
    decide ──> decided, outbox            undo ──> back on top

The page shows the first of the hand and holds the other five, so that a press needs no answer of
anybody to go on. Safe to use from many threads.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, replace

from pagesight._client import Client
from pagesight._errors import PagesightError
from pagesight._review import Decision
from pagesight._review_page.model import Card, Decided, Question, Waiting
from pagesight._review_page.outbox import Outbox
from pagesight._review_page.pictures import Pictures
from pagesight._review_page.prepare import Preparer
from pagesight._review_page.queue import Queue
from pagesight._review_page.reach import PASSING, Reach
from pagesight._review_page.reveals import Reveals

FIRST_CARD_S = 2.0
"""How long a deal waits for the first card before it says that there is none yet."""

CARDS_KEPT = 60
"""Cards whose whole answer stays in memory: those on the page, and those that undo brings back."""


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
    """How much waits, is decided and is to be enrolled."""

    waiting: int
    """Those that are worth looking at."""
    rest: int
    """Those beyond."""
    decided: int
    unsent: int
    teach: int
    """Those that are marked to be enrolled, and are not."""


class Desk:
    """One reviewer's work on one gallery.

    Args:
        client: Makes the calls.
        gallery: Which gallery.
        reviewer: Who decides, as the server is told.
        recorded_name: The same, as the server lists decisions: two persons of one account name
            are told apart by their tokens.
        reach: Is told whether the server answers.
        known_share: Share of known items among the screenshots, 0 to 1.
        second_opinions: Share of what others decided that is decided here too, 0 to 1.
        show_digits: Mask nothing; the server notes each picture that is made ready.
        draw: Draws where known items go.
    """

    def __init__(
        self,
        client: Client,
        *,
        gallery: str,
        reviewer: str,
        recorded_name: str,
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
        self.reveals = Reveals(client, gallery, reviewer)
        self.prepare = Preparer(
            client, gallery, self.pictures, reach, self.reveals, show_digits=show_digits
        )
        self.outbox = Outbox(client, gallery, reach)
        self.feeding: Callable[[], bool] = lambda: False
        """Whether screenshots are still to be added."""
        self._lock = threading.RLock()
        self._queue = Queue(
            recorded_name,
            known_share=known_share,
            second_opinions=second_opinions,
            draw=draw or random.Random(),
        )
        self._decided: list[Decided] = []
        self._own_ids: set[str] = set()
        """Ids of the decisions made here."""
        self._cards: OrderedDict[str, Card] = OrderedDict()
        self._keys: dict[str, Waiting] = {}
        """What was on the page, by its key there."""
        self._unusable: list[str] = []

    # --- what feeds add ---

    def add(self, waiting: Waiting) -> None:
        """Adds a screenshot, unless it waits already; it waits while it need be looked at."""
        with self._lock:
            self._queue.add(waiting)

    def add_known(self, waiting: Waiting) -> None:
        """Adds a known item, to be hidden among the others."""
        with self._lock:
            self._queue.add_known(waiting)

    def add_question(self, question: Question) -> None:
        """Adds a finding of the doctor."""
        with self._lock:
            self._queue.add_question(question)

    def note_decision(self, image_id: str, reviewer: str, decision_id: str) -> None:
        """Notes that somebody decided a picture, so that it may leave the queue."""
        with self._lock:
            if decision_id not in self._own_ids:  # one of our own may have been taken back since
                self._queue.note_decision(image_id, reviewer, decision_id)

    def forget_decision(self, image_id: str, decision_id: str) -> None:
        """Notes that somebody took a decision back, so that its picture may wait again."""
        with self._lock:
            self._queue.forget_decision(image_id, decision_id)

    def unusable(self, why: str) -> None:
        """Notes a picture that cannot be looked at."""
        with self._lock:
            self._unusable.append(why)

    @property
    def known_wanted(self) -> int:
        """How many known items are to be drawn."""
        with self._lock:
            return self._queue.known_wanted

    # --- what the page takes ---

    def deal(self, on_page: Collection[str]) -> Deal:
        """Returns what the page lacks, as soon as some of it is ready.

        Args:
            on_page: Keys of what it has.
        """
        with self._lock:
            self._queue.fill_hand(more_to_come=self.feeding())
            keys = [item.key for item, _ in self._queue.hand]
            gone = tuple(key for key in on_page if key not in keys)
            pending: dict[Future[Card | Question], Waiting | Question] = {}
            for item, stage in self._queue.hand:
                if item.key in on_page:
                    continue
                if isinstance(item, Waiting):
                    self._keys[item.key] = item
                pending[self.prepare.start(item, stage)] = item
        if pending and not on_page:
            wait(pending, FIRST_CARD_S, return_when=FIRST_COMPLETED)
        made = [self._made(future, item) for future, item in pending.items() if future.done()]
        cards = tuple(card for card in made if card is not None)
        return Deal(cards, gone, coming=len(cards) < len(pending) or self.feeding())

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
        return self._keep(self.prepare.card(waiting, "rest"))

    def waiting(self, key: str) -> Waiting:
        """Returns the screenshot under a key.

        Raises:
            KeyError: There is none.
        """
        with self._lock:
            return self._keys[key]

    def reveal(self, key: str) -> Card:
        """Shows the digits of a card.

        Raises:
            KeyError: There is no such card.
        """
        return self._keep(replace(self.card(key), revealed=True))

    def decide(self, key: str, label: str, *, teach: bool = False, seconds: float = 0.0) -> Decided:
        """Records what the reviewer says of a card; the same twice is once.

        Args:
            key: Of the card.
            label: What it shows: a label or `other`; empty: cannot tell.
            teach: Enrol it with the next batch.
            seconds: Between showing and deciding.

        Raises:
            KeyError: There is no such card.
            ValueError: It is decided otherwise, as in another window.
        """
        card = self.card(key)
        waiting, answer = card.waiting, card.answer
        with self._lock:
            for before in self._decided:
                if before.waiting.key == key:
                    if before.label != label:
                        said = before.label or "cannot tell"
                        raise ValueError(f"it is decided already, as: {said}")
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
            self._queue.remove(waiting)
        self.prepare.forget(key)
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

    def undo(self, key: str = "") -> Decided | None:
        """Takes the last decision back and puts its card on top; None where there is none.

        Args:
            key: Of the card that the reviewer means; empty: whichever was the last.

        Raises:
            ValueError: It is enrolled: the batch must be rolled back first. Or the last decision
                is another one, as of another window.
        """
        with self._lock:
            if not self._decided:
                return None
            decided = self._decided[-1]
            if key and decided.waiting.key != key:
                raise ValueError("another decision was the last, as in another window: reload")
            if decided.enrolled_revision:
                raise ValueError(
                    f"it is enrolled, as revision {decided.enrolled_revision}: undo that first, "
                    "under Batch"
                )
            self._decided.pop()
            waiting = decided.waiting
            card = self._cards.get(waiting.key)
            self._queue.put_back(waiting, card.stage if card is not None else "rest")
        self.outbox.withdraw(decided.decision_id)
        return decided

    # --- questions of the doctor ---

    def question(self, key: str) -> Question:
        """Returns a question on the page.

        Raises:
            KeyError: It is none, or is answered.
        """
        with self._lock:
            return self._queue.question(key)

    def reveal_question(self, key: str) -> Question:
        """Shows the digits of a question's pictures.

        Raises:
            KeyError: There is no such question.
        """
        with self._lock:
            return self._queue.reveal_question(key)

    def close_question(self, key: str, *, settled: bool = False) -> None:
        """Takes a question off the desk.

        Args:
            key: Of the question.
            settled: It is settled with the server, so that to reopen it is to unsettle it.
        """
        with self._lock:
            self._queue.close_question(key, settled=settled)

    def reopen_question(self, key: str) -> bool:
        """Puts a question back on top.

        Returns:
            Whether it was settled, so that this is to be taken back.

        Raises:
            KeyError: It was not closed.
        """
        with self._lock:
            return self._queue.reopen_question(key)

    # --- where the work stands ---

    def go_on(self) -> None:
        """Looks at what is beyond the most useful, too."""
        with self._lock:
            self._queue.with_rest = True

    @property
    def decided(self) -> tuple[Decided, ...]:
        """What was decided in this run, the oldest first."""
        with self._lock:
            return tuple(self._decided)

    @property
    def counts(self) -> Counts:
        """How much waits, is decided and is to be enrolled."""
        with self._lock:
            waiting, rest = self._queue.counts
            return Counts(
                waiting=waiting,
                rest=rest,
                decided=len(self._decided),
                unsent=self.outbox.unsent,
                teach=sum(one.teach and not one.enrolled_revision for one in self._decided),
            )

    @property
    def unusable_pictures(self) -> tuple[str, ...]:
        """What cannot be looked at, and why."""
        with self._lock:
            return tuple(self._unusable)

    def rejected(self) -> list[Waiting]:
        """Returns the screenshots that were answered `other`, decided ones apart."""
        with self._lock:
            return self._queue.rejected()

    def take_out(self, image_ids: Collection[str]) -> list[Waiting]:
        """Takes screenshots out of the queue, since their cluster was decided as a whole.

        Returns:
            Those that waited, for `bring_back`.
        """
        with self._lock:
            return self._queue.take_out(image_ids)

    def bring_back(self, waiting: Collection[Waiting]) -> None:
        """Puts screenshots into the queue that were taken out."""
        with self._lock:
            self._queue.bring_back(waiting)

    def answer_anew(self) -> None:
        """Forgets the answers that are made ready, since the gallery has changed."""
        self.prepare.forget()

    def close(self) -> None:
        """Ends what makes cards ready."""
        self.prepare.close()

    # --- inside ---

    def _made(
        self, future: Future[Card | Question], item: Waiting | Question
    ) -> Card | Question | None:
        """Takes what was made ready; None where it was not, now or for good."""
        try:
            made = future.result()
        except PagesightError as error:
            self.prepare.forget(item.key)
            if isinstance(error, PASSING):
                self.reach.failed(error)
            else:
                # One picture that is gone or unreadable is no matter of the server's.
                with self._lock:
                    if isinstance(item, Question):
                        self._queue.close_question(item.key, settled=False)
                    else:
                        self._queue.remove(item)
                        self._unusable.append(f"{item.path or item.image_id}: {error.message}")
            return None
        except CancelledError:  # the desk is closed
            return None
        return self._keep(made) if isinstance(made, Card) else made

    def _keep(self, card: Card) -> Card:
        with self._lock:
            before = self._cards.get(card.key)
            if before is not None and before.revealed and not card.revealed:
                card = replace(card, revealed=True)
            self._cards[card.key] = card
            self._cards.move_to_end(card.key)
            while len(self._cards) > CARDS_KEPT:
                self._cards.popitem(last=False)
        return card
