"""What a screenshot shows, as plain values.

    classify        -> Classification ─┬ Candidate ── ScoreTerm, MatchingLine
                                       └ Finding ── Box
    classify_stream -> StreamResult: a key of the caller's, and a Classification or an error

Callers keep, compare and print these; none of them knows protobuf, so the wire
format can move without breaking a caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from pagesight._errors import PagesightError

K = TypeVar("K")

OTHER = "other"
"""The label of a screenshot that shows none of the known pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchingLine:
    """A line of the screenshot and the line of the gallery image that it matches."""

    query_text: str
    gallery_text: str
    similarity: float
    """0 to 1."""


ScoreTermName: TypeAlias = Literal[
    "looks",
    "all_text",
    "stable_text",
    "discriminative_text",
    "explained_text",
    "missing_brand",
    "replaced_names",
    "siblings",
    "unknown_example",
    "unknown",
]
"""`looks`: how alike the pictures look. `all_text`: how alike all their text is. `stable_text`: how
much of what the page always shows is there. `discriminative_text`: how much of what tells the page
from all others is there. `explained_text`: how much of the screenshot's text the page has ever
shown. `missing_brand`: none of the page's brands is visible. `replaced_names`: names stand where
the page shows others. `siblings`: the words in which the page and its like differ are the page's,
or not. `unknown_example`: it looks more like an example of an unknown page. `unknown`: one that a
newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTerm:
    """What one kind of evidence adds to the scores of a candidate."""

    name: ScoreTermName
    score: float
    """What it adds to the candidate's `score`; below 0 it speaks against the page."""
    rank_score: float
    """What it adds to the candidate's `rank_score`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An upright rectangle, in pixels of the picture; right and bottom are the first outside.

    A picture with an EXIF orientation is turned by it first.
    """

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One known page that the screenshot might show.

    `score` decides whether the closest page is the answer, `rank_score` which page is the closest:
    the two weigh the same evidence differently, so that a later candidate may have the higher
    score. `terms` says what both are made of.
    """

    label: str
    score: float
    """What is held against `threshold` if this page is the closest; higher is better."""
    rank_score: float
    """By which candidates are ranked; higher is better."""
    visual: float
    """Cosine of the embeddings, -1 to 1."""
    textual: float
    """0 to 1; 0 also when no text was read."""
    image_id: str
    """The gallery image that speaks for this page: SHA-256 in hexadecimal."""
    terms: tuple[ScoreTerm, ...] = ()
    """Their scores add up to `score`, their rank_scores to `rank_score`, but for rounding."""
    matching_lines: tuple[MatchingLine, ...] = ()
    """Empty unless asked to explain."""
    digit_boxes: tuple[Box, ...] = ()
    """Where lines that hold a digit stand in the gallery image, as in `Classification`."""


FindingKind: TypeAlias = Literal["agrees", "forbids", "missing", "unknown"]
"""`unknown`: one that a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A text that speaks for `closest_label` or against it, to be boxed in both pictures."""

    kind: FindingKind
    """`agrees`: screenshot and page both show it. `forbids`: the screenshot shows it and no picture
    of the page does. `missing`: the page mostly shows it and the screenshot does not."""
    text: str
    """As read; from the screenshot where that shows it."""
    query_box: Box | None = None
    """Where it stands in the screenshot; None when that does not show it."""
    gallery_box: Box | None = None
    """Where it stands in the gallery image of the first candidate; None when that does not."""
    note: str = ""
    """Why it counts, in words."""


ReviewReason: TypeAlias = Literal[
    "near_threshold",
    "close_runner_up",
    "brand_not_visible",
    "looks_unlike",
    "uncalibrated",
    "unknown",
]
"""`near_threshold`: on the other side of the threshold the answer were another. `close_runner_up`:
another page fits nearly as well. `brand_not_visible`: the page normally shows one of its brands,
and the screenshot shows none. `looks_unlike`: it looks less like the page than nearly all of the
calibration set look like theirs. `uncalibrated`: no label of the gallery has two pictures, so that
nothing says how well a known page fits. `unknown`: one that a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Says which known page a screenshot shows or that it shows none, and on what evidence.

    `score` is held against `threshold`: together they say which side the answer is on, and on the
    scale of one gallery alone. `doubt` says how sure that is, on one scale for all galleries.
    """

    label: str
    """The label of the known page, or `OTHER` when it is none of them."""
    closest_label: str
    """The label that came closest, whatever the threshold; empty when the gallery knows no page."""
    score: float
    """How well the screenshot fits `closest_label`: the score of the first candidate. Compare it
    with `threshold` alone."""
    threshold: float
    """`closest_label` is the answer exactly when score >= threshold."""
    outputs: tuple[str, ...] = ()
    """Business labels of the page; empty for `OTHER`."""
    doubt: float = 0.0
    """0 to 1, of a rejection too: the share of the calibration set (the gallery's own pictures,
    each left out in turn, or labelled traffic) that was farther from the other answer than this is.
    The other answer of a known page is `OTHER` or the runner-up, whichever is nearer, of a
    rejection `closest_label`. Of a known page at least the share of the set that looks more like
    its page, and 1 where a brand of the page was expected and none is visible."""
    review: bool = False
    """A person should look: there is a review reason."""
    review_reasons: tuple[ReviewReason, ...] = ()
    """What makes `doubt` greater than the server's setting (`recognition.review_above`, 0.95);
    empty for `OTHER`."""
    candidates: tuple[Candidate, ...] = ()
    """Best first, as many as `top_k` asked for."""
    reasons: tuple[str, ...] = ()
    """Why, in words, one finding each. Empty unless asked to explain."""
    findings: tuple[Finding, ...] = ()
    """Texts for and against `closest_label`, and where they are. Empty unless asked to explain."""
    digit_boxes: tuple[Box, ...] = ()
    """Where lines that hold a digit stand in the screenshot, for whoever shows it to a person: the
    phone's status bar apart, and only as far as text was read. Empty unless asked to explain."""
    gallery: str = ""
    revision: int = 0
    """Revision of the gallery that was looked in."""
    encoder_bundle: str = ""
    ocr_bundle: str = ""
    """Empty when no text was read."""
    stage_ms: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Milliseconds by stage, and `total` from arrival to answer; stages overlap."""

    @property
    def is_other(self) -> bool:
        """Whether the screenshot shows none of the known pages."""
        return self.label == OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult(Generic[K]):
    """The answer to one input of `classify_stream`: exactly one of the two is set."""

    key: K
    """The caller's own key of the input, or its path or position (`DefaultKey`)."""
    classification: Classification | None = None
    error: PagesightError | None = None

    def unwrap(self) -> Classification:
        """Returns the classification.

        Raises:
            PagesightError: `error`, when that is what came of this input.
        """
        if self.classification is None:
            raise self.error or PagesightError("a result without classification or error")
        return self.classification
