"""What became of a change of a gallery, as plain values.

enrol(EnrolItem) -> EnrolResult ── EnrolOutcome ── NearDuplicate
remove, relabel, rollback, set_labels -> what changed, and the new revision
delete_gallery                        -> DeleteResult
Progress: how far a call has come that takes long
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from pagesight._errors import PagesightError

LabelField: TypeAlias = Literal["brands", "outputs"]
"""What `set_labels` can set of a label."""


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
    """Says what became of one item: added, there already, or failed and why."""

    image_id: str
    """SHA-256 of the picture in hexadecimal; empty when it was never known."""
    added: bool
    """False when the gallery had it already under this label, or when it failed."""
    error: PagesightError | None = None
    near_duplicates: tuple[NearDuplicate, ...] = ()
    """Pictures that were almost there already, under this label or another: they teach
    nothing new. The most alike first, at most 5; empty unless added, and when the store went away
    before they were compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolResult:
    """Says what became of an enrolment, item by item, and at which revision the gallery is."""

    revision: int
    """After the call; unchanged when nothing was added."""
    outcomes: tuple[EnrolOutcome, ...]
    """One per item, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveResult:
    """Says how many pictures a removal took out, and the revision it made."""

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
    """Says at which revision a gallery is once labels were set."""

    revision: int
    """After the call; unchanged when nothing was new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    """What became of deleting a gallery."""

    revision: int
    """Its last one."""
    removed: int
    """Images that were in it."""
