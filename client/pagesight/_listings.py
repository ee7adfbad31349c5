"""What a gallery holds and how it came to it, as plain values.

list_galleries, get_gallery      -> GalleryInfo ── CalibrationInfo
list_images, history, get_labels -> ImageInfo, RevisionInfo, Labels ── LabelInfo
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

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
    """Describes one image of a gallery: what it shows, and who added it when."""

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
    """Describes one change that was made, and by whom; each made a revision."""

    revision: int
    made_at: datetime | None
    """UTC."""
    author: str
    kind: RevisionKind
    summary: str
    images: int
    """Images in the gallery after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelInfo:
    """What the operator knows of one label."""

    label: str
    brands: tuple[str, ...] = ()
    """A page of this label normally shows one of these names: at most 100, of at most 128
    characters each."""
    outputs: tuple[str, ...] = ()
    """Business labels of the reply, at most as many and as long. Empty: the label itself."""
    images: int = 0
    """Images that carry it; ignored by `set_labels`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Every label of a gallery at one revision."""

    revision: int
    labels: tuple[LabelInfo, ...]
