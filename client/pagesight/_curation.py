"""What the calls for a gallery's care return: diagnoses, their findings, suggested brands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from pagesight._listings import LabelInfo

GalleryFindingKind: TypeAlias = Literal[
    "wrong_label",
    "odd_picture",
    "near_duplicates",
    "rejected_pictures",
    "hardly_read",
    "no_own_text",
    "few_pictures",
    "unlike_pictures",
    "unknown",
]
"""What a finding asks. `wrong_label`, `odd_picture`: a `Suspect`, likely or not. `near_duplicates`:
a group. `rejected_pictures`, `no_own_text`, `few_pictures`, `unlike_pictures`: the `LabelHealth` of
the first label. `hardly_read`: a `HardlyReadImage`. `unknown`: what a newer server sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Says that a person looked at a finding, and that all is well."""

    author: str
    """Empty where unknown."""
    note: str
    """Why, in that person's words; may be empty."""
    settled_at: datetime | None
    """UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryFinding:
    """One thing that a diagnosis asks a person to look at."""

    kind: GalleryFindingKind
    labels: tuple[str, ...]
    """The label concerned, then the suggested one, or those that share its text. Of near
    duplicates: all their labels."""
    image_ids: tuple[str, ...]
    """The pictures concerned; of `few_pictures` all of the label, of `no_own_text` none."""
    key: str
    """Names it, and changes with what it is about: 16 hexadecimal digits."""
    settled: Settlement | None = None
    """Who found it to be well; None while nobody has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettleResult:
    """What became of settling findings, or of taking that back."""

    keys: tuple[str, ...]
    """Keys of the findings that are settled now, or that were until this took it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLabel:
    """A picture and the label it carries."""

    image_id: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardlyReadImage:
    """A picture whose text was found and hardly read."""

    image_id: str
    label: str
    text_lines: int
    """Lines of text that were found, below the phone's status bar."""
    hardly_read_lines: int
    """How many of them were read with a confidence below 0.9."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A picture that fits another label better than its own."""

    image_id: str
    label: str
    suggested_label: str
    """What it would be answered with, or come closest to, if it were not enrolled."""
    own_score: float
    """How well it fits its own label's other pictures; compare with `suggested_score` alone."""
    suggested_score: float
    suggested_image_id: str
    """The picture that speaks for `suggested_label`."""
    own_image_id: str
    """The picture of its own label that speaks for that; empty when none is near."""
    neighbours: int
    """Nearest pictures that were asked for their label."""
    foreign_neighbours: int
    """How many of them carry another one."""
    likely: bool
    """Most likely a mistake; otherwise it may just be unlike the rest of its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHealth:
    """How much can be said of one label."""

    label: str
    images: int
    distinct_images: int
    """Pictures, those that are almost the same counted once."""
    unseen_bound: float
    """With confidence 0.95, at most this share of its screenshots fits worse than its worst
    picture does."""
    few: bool
    """More pictures should be enrolled."""
    left_out_images: int = 0
    """Its pictures that were taken for queries and left out; 0 where it has but one. Then the next
    four are 0 or empty too."""
    rejected_image_ids: tuple[str, ...] = ()
    """Those of these that would be answered `OTHER`, the least score first."""
    mean_score: float = 0.0
    """Mean of what these score, to be held against the calibration's `threshold_with_text`."""
    least_score: float = 0.0
    """The least that one of these scores."""
    least_looks: float = 0.0
    """Cosine of the one that looks least like the label's other pictures with the most alike of
    them, -1 to 1."""
    unlike_image_ids: tuple[str, ...] = ()
    """Pictures that no other one of the label resembles, the least alike first: more pictures of
    such looks help most."""
    text_shared_with: tuple[str, ...] = ()
    """Labels whose pages show, between them, all that this one's page always shows, so that the
    label has no text of its own; those that show most of it first. Empty where it has, or where
    there is no text that most of its pictures show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What may be wrong with a gallery, for a person to put right."""

    revision: int
    images: int
    examined: int
    """Pictures that were looked at: drawn at random from a large gallery."""
    suspects: tuple[Suspect, ...]
    """Likely mistakes first, the most doubtful first."""
    duplicates: tuple[tuple[ImageLabel, ...], ...]
    """Groups of pictures that are almost the same; groups of several labels first."""
    labels: tuple[LabelHealth, ...]
    """Those with fewest pictures first."""
    rejection_bound: float
    """With confidence 0.95, at most this share of known pages is rejected, where traffic
    looks like the gallery. 1 where nothing can be said."""
    left_out_images: int = 0
    """Pictures of known pages that were taken for queries and left out."""
    rejected_images: int = 0
    """How many of these would be answered `OTHER`."""
    hardly_read: tuple[HardlyReadImage, ...] = ()
    """Pictures whose text was found and hardly read: the OCR bundle may not know their script.
    Those with the greatest share of such lines first."""
    findings: tuple[GalleryFinding, ...] = ()
    """All of the above once more, each as one question with the key by which it is settled; those
    that are settled too. Empty of a server that cannot settle any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrandSuggestion:
    """A string that may be a brand."""

    text: str
    reason: str
    """Why, in words for a person."""
    images: int
    """Pictures of the label that show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSuggestions:
    """The brands proposed for one label; none is used until a person sets it."""

    known: LabelInfo
    """The label and what is set already."""
    suggestions: tuple[BrandSuggestion, ...]
    """The most likely first."""
