"""What became of one test image; every figure follows from a list of these.

An unreadable image counts as wrong everywhere: it names no page (`closed_label` and
`label` are empty, which is neither its page nor `other`), so it is a miss of its
class, an unknown that was not rejected, and never right in the overall accuracy.
It is no false rejection, for nothing judged it.
Its score is below every other when it shows a known page and above every other when
it does not, the worst rank either way, and its threshold equals its score: a row
contradicts nothing that is true of other rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from pagesight_server.gallery.snapshot import OTHER, is_reserved

NO_ANSWER = ""
"""The label of an image for which no page was named."""

LOWEST_SCORE, HIGHEST_SCORE = -1e9, 1e9
"""Of unreadable images; beyond every score that a method gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What became of one test image: a line of `predictions.jsonl`."""

    path: str
    """Relative to the test folder, with "/"."""
    truth: str
    """Name of its folder: a known page, or a kind of unknown page (`other`, `other_...`)."""
    closed_label: str
    """The page ranked first whatever the threshold; empty when none was named."""
    score: float
    """Comparable between labels."""
    label: str
    """closed_label when score >= threshold, else `other`."""
    threshold: float
    error: str = ""
    """Why the image could not be used; empty when it could."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.score) and math.isfinite(self.threshold)):
            raise ValueError(f"{self.path}: score {self.score}, threshold {self.threshold}")
        if self.label != (self.closed_label if self.score >= self.threshold else OTHER):
            raise ValueError(
                f"{self.path}: answered {self.label!r} at score {self.score}, "
                f"threshold {self.threshold}, closest {self.closed_label!r}"
            )

    @staticmethod
    def unreadable(path: str, truth: str, error: str) -> Prediction:
        """An image that could not be used; see the module's docstring."""
        worst = HIGHEST_SCORE if is_reserved(truth) else LOWEST_SCORE
        return Prediction(
            path=path,
            truth=truth,
            closed_label=NO_ANSWER,
            score=worst,
            label=NO_ANSWER,
            threshold=worst,
            error=error,
        )

    @property
    def known(self) -> bool:
        """Whether the image shows a page that has a label."""
        return not is_reserved(self.truth)

    @property
    def right(self) -> bool:
        """Whether the final answer is right: the page, or `other` for an unknown one."""
        return self.label == (self.truth if self.known else OTHER)

    def to_row(self) -> dict[str, str | float]:
        """Its JSON object; `error` is there only for unreadable images."""
        row: dict[str, str | float] = asdict(self)
        if not self.error:
            del row["error"]
        return row
