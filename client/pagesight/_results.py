"""What goes into the client and what comes out of it, as plain values.

    classify         -> Classification ─┬ Candidate ── ScoreTerm, MatchingLine
                                        └ Finding ── Box
    classify_stream  -> StreamResult: a key of the caller's, and a Classification or an error
    enrol(EnrolItem) -> EnrolResult ── EnrolOutcome
    remove, relabel, rollback, set_labels -> what changed, and the new revision
    delete_gallery                        -> DeleteResult
    list_galleries, get_gallery           -> GalleryInfo ── CalibrationInfo
    list_images, history, get_labels      -> ImageInfo, RevisionInfo, LabelInfo
    diagnose, suggest_brands              -> Diagnosis, LabelSuggestions

Callers keep, compare and print these; none of them knows protobuf, so the wire
format can move without breaking a caller.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, TypeAlias, TypedDict, TypeVar

from pagesight._errors import PagesightError
from pagesight._pixels import PilImage, PixelArray

K = TypeVar("K")

OTHER = "other"
"""The label of a screenshot that shows none of the known pages."""

ImageSource: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | PilImage | PixelArray"
)
"""The bytes of a JPEG, PNG or WebP picture, the path of a file that holds them, or pixels: a PIL
image or a numpy array (uint8, height x width, or x 3 RGB, or x 4 RGBA), sent as PNG.
A PIL image is turned as its EXIF says; one that cannot be sent is an `InvalidImageError`."""

DefaultKey: TypeAlias = "str | os.PathLike[str] | int"
"""The key of an input given without one: its path, or for bytes its position from 0."""

Priority: TypeAlias = Literal["low", "normal", "high"]
"""low: backfills, evaluations; high: a person is waiting."""


class ClassifyOptions(TypedDict, total=False):
    """What to do with each screenshot; everything left out is the server's default."""

    gallery: str
    """The gallery to look in. Empty: "default"."""
    top_k: int
    """How many candidates the reply names. 0: none."""
    ocr: bool | None
    """Whether text is read. None: the server's default."""
    explain: bool
    """Add reasons and matching lines: the reply then carries text of the screenshot."""
    deadline_ms: int | None
    """Milliseconds the server may take, counted from arrival. None: no budget."""
    priority: Priority | None
    """Who goes first when screenshots wait. None: normal."""
    traceparent: str | None
    """W3C trace context of this screenshot. None: the current OpenTelemetry span,
    if the program has loaded OpenTelemetry; else that of the call."""
    min_revision: int | None
    """Answer at this revision of the gallery or a later one, as a change returned it: what was
    enrolled is then found on any replica. The server waits for it as long as `deadline_ms` allows,
    without one 5 seconds. None: what the server knows now."""


class ChangeOptions(TypedDict, total=False):
    """What every change of a gallery may carry."""

    gallery: str
    """The gallery to change. Empty: "default". Enrolling creates it."""
    author: str
    """Who makes the change, for the history."""
    request_id: str
    """A change repeated under the same id is made once. Empty: a fresh id."""
    expected_revision: int | None
    """Fail with `AbortedError` unless the gallery is at it. 0: unless there is no gallery of this
    name. None: whatever it is at."""


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
    """An upright rectangle, in pixels of the picture; right and bottom are the first outside."""

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
    "near_threshold", "close_runner_up", "brand_not_visible", "looks_unlike", "unknown"
]
"""`near_threshold`: on the other side of the threshold the answer were another. `close_runner_up`:
another page fits nearly as well. `brand_not_visible`: the page normally shows one of its brands,
and the screenshot shows none. `looks_unlike`: it looks less like the page than nearly all of the
calibration set look like theirs. `unknown`: one that a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What a screenshot shows.

    `score` is held against `threshold`: together they say which side the answer is on, and on the
    scale of one gallery alone. `doubt` says how sure that is, on one scale for all galleries.
    """

    label: str
    """The label of the known page, or `OTHER` when it is none of them."""
    closest_label: str
    """The label that came closest, whatever the threshold; empty for an empty gallery."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolItem:
    """One labelled screenshot to teach."""

    image: ImageSource
    label: str
    """The page it shows: 1 to 128 characters, no "/", no control characters, line separators or
    marks that turn the direction of text."""
    source: str = ""
    """Where it came from, for the history: at most 1024 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a call has come."""

    done: int
    total: int
    """Steps in all: pictures, or apps whose brands are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """A picture of the gallery that is almost the same as another."""

    image_id: str
    label: str
    visual: float
    """How alike the two look: cosine of the embeddings, -1 to 1."""
    textual: float
    """How alike the two read, 0 to 1; 0 also when neither shows text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolOutcome:
    """What became of one item."""

    image_id: str
    """SHA-256 of the picture in hexadecimal; empty when it was never known."""
    added: bool
    """False when the gallery had it already under this label, or when it failed."""
    error: PagesightError | None = None
    near_duplicates: tuple[NearDuplicate, ...] = ()
    """Pictures that were almost there already, under this label or another: they teach
    nothing new. The most alike first, at most 5; empty unless added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolResult:
    """What became of an enrolment."""

    revision: int
    """After the call; unchanged when nothing was added."""
    outcomes: tuple[EnrolOutcome, ...]
    """One per item, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveResult:
    """What became of a removal."""

    revision: int
    removed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelResult:
    """What became of giving images another label."""

    revision: int
    relabelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackResult:
    """What became of going back to an earlier revision."""

    revision: int
    """The new one; going back is a change like any other."""
    restored: int
    removed: int
    lost_image_ids: tuple[str, ...] = ()
    """Images of the earlier revision that cannot come back: purged, or no longer kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLabelsResult:
    """What became of setting labels."""

    revision: int
    """After the call; unchanged when nothing was new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    """What became of deleting a gallery."""

    revision: int
    """Its last one."""
    removed: int
    """Images that were in it."""


CalibrationSource: TypeAlias = Literal["gallery", "validation", "unknown"]
"""`gallery`: its own pictures, left out in turn, placed the thresholds. `validation`: labelled
traffic did. `unknown`: what a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationInfo:
    """Where `other` begins in a gallery."""

    threshold_with_text: float
    """Least score of a known page where text was read."""
    threshold_without_text: float
    epsilon: float
    """Share of known pages that may be rejected."""
    source: CalibrationSource
    guaranteed: bool
    """Whether no more than that share is rejected where traffic looks like the gallery; an estimate
    otherwise, as with few pictures of each page."""
    images: int
    """Pictures behind it; 0 where none could be left out."""
    revision: int
    """The revision that it was made of. 0 while the gallery's own is being made and that of an
    earlier revision answers."""
    rejected_with_text: float = 0.0
    """Share of the pictures behind it that score below `threshold_with_text`, 0 to 1: how many of
    the gallery's own, each left out in turn, would be rejected. Above 0.1 look at `diagnose`."""
    rejected_without_text: float = 0.0
    """Share of them that score below `threshold_without_text` by looks alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryInfo:
    """A gallery at its present revision."""

    name: str
    revision: int
    images: int
    """Examples of unknown pages included."""
    labels: int
    """Those that can be an answer."""
    encoder_bundle: str
    """What made its embeddings; a server that runs another one does not answer from it."""
    ocr_bundle: str
    """What read its texts; as above."""
    calibration: CalibrationInfo | None = None
    """None while the server that was asked does not know the gallery yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """One image of a gallery."""

    image_id: str
    label: str
    source: str
    author: str
    added_at: datetime | None
    """UTC, when it got this label."""
    added_revision: int
    width_px: int
    height_px: int
    text_lines: int


RevisionKind: TypeAlias = Literal[
    "enrol",
    "remove",
    "relabel",
    "rollback",
    "set_labels",
    "delete",
    "purge",
    "restore",
    "reindex",
    "unknown",
]
"""What a change did; purge, restore and reindex are the operator's. `unknown`: what a newer server
sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionInfo:
    """One change that was made."""

    revision: int
    made_at: datetime | None
    """UTC."""
    author: str
    kind: RevisionKind
    summary: str
    images: int
    """Images in the gallery after it."""


LabelField: TypeAlias = Literal["brands", "outputs"]
"""What `set_labels` can set of a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInfo:
    """What the operator knows of one label."""

    label: str
    brands: tuple[str, ...] = ()
    """A page of this label normally shows one of these names."""
    outputs: tuple[str, ...] = ()
    """Business labels of the reply. Empty: the label itself."""
    images: int = 0
    """Images that carry it; ignored by `set_labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Every label of a gallery at one revision."""

    revision: int
    labels: tuple[LabelInfo, ...]
