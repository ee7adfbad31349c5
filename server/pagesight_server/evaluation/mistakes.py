"""Wrong answers, counted by kind: what no rate over known pages alone may hide.

Micro F1 ranks the known pages whatever the threshold: it is 1 where known pages are rejected and
unknown ones accepted, as long as the closest page is always right. So it never stands alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pagesight_server.evaluation.prediction import Prediction
from pagesight_server.gallery.snapshot import OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """How many answers of a run are wrong, and how."""

    answers: int
    """All of them, right ones too."""
    wrong_page: int
    """Known pages that were answered with another page."""
    rejected: int
    """Known pages that were answered `other`."""
    accepted: int
    """Unknown pages that were answered with a page."""
    unreadable: int
    """Images without an answer, known and unknown."""

    @staticmethod
    def of(predictions: Iterable[Prediction]) -> Mistakes:
        """Counts those of a run."""
        answers = list(predictions)
        wrong = [p for p in answers if not p.right]
        read = [p for p in wrong if not p.error]
        return Mistakes(
            answers=len(answers),
            wrong_page=sum(p.known and p.label != OTHER for p in read),
            rejected=sum(p.known and p.label == OTHER for p in read),
            accepted=sum(not p.known for p in read),
            unreadable=len(wrong) - len(read),
        )

    @property
    def wrong(self) -> int:
        """How many answers are wrong."""
        return self.wrong_page + self.rejected + self.accepted + self.unreadable

    @property
    def kinds(self) -> str:
        """How many of each kind, in words; unreadable images where there are any."""
        parts = [
            f"{self.wrong_page} with the wrong page",
            f"{_pages(self.rejected, 'known')} rejected",
            f"{_pages(self.accepted, 'unknown')} accepted",
        ]
        if self.unreadable:
            parts.append(f"{self.unreadable} unreadable")
        return ", ".join(parts)

    @property
    def sentence(self) -> str:
        """All of it in one sentence, without a full stop."""
        if not self.wrong:
            return (
                f"all {self.answers} answers are right" if self.answers > 1 else "no wrong answer"
            )
        verb = "is" if self.wrong == 1 else "are"
        return f"{self.wrong} of {self.answers} answers {verb} wrong: {self.kinds}"


def _pages(number: int, what: str) -> str:
    return f"{number} {what} {'page' if number == 1 else 'pages'}"
