"""The answer for one test image, beside the truth; every figure follows from a list of these.

An unreadable image counts as wrong everywhere. Its `closed_label` and `label` are empty, which
is neither its page nor `other`: a false negative of its class, an unknown page that was not
rejected, and an error in the overall accuracy. It is no false rejection, as no decision was made.
Its score has the worst possible rank, below all others for a known page and above all others for
an unknown one, and its threshold equals its score, so that the row is consistent with
`label = closed_label if score >= threshold else other`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from pagesight_server.gallery.snapshot import OTHER, is_reserved

NO_ANSWER = ""
"""The label of an image without an answer."""

MAX_CANDIDATES = 5
"""Candidates that a line of `predictions.jsonl` names, as many as a reviewer may take."""

LOWEST_SCORE, HIGHEST_SCORE = -1e9, 1e9
"""Scores of unreadable images, known and unknown: beyond every score that a method gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer for one test image: a line of `predictions.jsonl`."""

    path: str
    """Path of the image, relative to the test folder, with "/"."""
    truth: str
    """The true label, its folder's name: a page, or a kind of unknown page (`other_...`)."""
    closed_label: str
    """The closed-set answer: the page ranked first, whatever the threshold; empty when none was."""
    score: float
    """Score of the closest page; comparable between labels."""
    label: str
    """The open-set answer: `closed_label` when score >= threshold, else `other`."""
    threshold: float
    doubt: float = 0.0
    """Share of the calibration set that was farther from the other answer, 0 to 1."""
    review: tuple[str, ...] = ()
    """Why a person should look; empty when nobody need."""
    candidates: tuple[tuple[str, float, float], ...] = ()
    """Label, score and rank score of the best pages, best first; at most `MAX_CANDIDATES`."""
    error: str = ""
    """Why the image could not be read; empty when it could."""

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
        """The prediction of an unreadable image: wrong, with the worst rank (module docstring)."""
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

    def to_row(self) -> dict[str, object]:
        """The JSON object of its line; `error` is left out when empty."""
        row: dict[str, object] = asdict(self)
        row["candidates"] = [
            {"label": label, "score": score, "rank_score": rank_score}
            for label, score, rank_score in self.candidates
        ]
        if not self.error:
            del row["error"]
        return row
