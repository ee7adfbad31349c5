"""What goes into the store and what comes out, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pagesight_server.common.arrays import Embedding
from pagesight_server.common.errors import RequestError
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.text.reading import Reading

Form: TypeAlias = Literal["original", "thumbnail", "none", "expired"]
"""In what form a picture is kept; of an expired one neither embedding nor text is either."""


ChangeKind: TypeAlias = Literal[
    "enrol", "remove", "relabel", "rollback", "labels", "delete", "purge", "restore", "reindex"
]
"""What a revision did, as the history keeps it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryInfo:
    """One gallery at its present revision."""

    name: str
    revision: int
    images: int
    """Examples of unknown pages included."""
    labels: int
    """Those that can be an answer."""
    encoder_bundle: str
    ocr_bundle: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What each gallery of a store may hold; None: as much as the disk."""

    max_pictures: int | None = None
    max_bytes: int | None = None
    """Of the pictures as they are kept; embeddings and text come on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Carries what every change does: which gallery, by whom, and what must hold before."""

    gallery: str = DEFAULT_GALLERY
    author: str = ""
    request_id: str = ""
    """A repeat within the gallery is not made again but told the first answer."""
    expected_revision: int | None = None
    """None: whatever it is at. 0: there must be no gallery of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a picture is, as far as it follows from its bytes."""

    image_id: str
    width_px: int
    height_px: int
    data: bytes | None
    """The bytes as received, or of a thumbnail; None where pictures are not kept."""
    embedding: Embedding
    reading: Reading
    is_thumbnail: bool = False

    @property
    def form(self) -> Form:
        """Says in what form the picture is kept."""
        if self.data is None:
            return "none"
        return "thumbnail" if self.is_thumbnail else "original"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A picture to enrol, or one that failed before it came here."""

    image_id: str
    label: str
    source: str = ""
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Says what became of one entry: added, there already, or failed and why."""

    image_id: str
    added: bool
    error: tuple[str, str, str] | None = None
    """Status, reason and message of the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Answers a change: the revision after it, counts, and what became of each entry."""

    revision: int
    counts: Mapping[str, int]
    outcomes: tuple[Outcome, ...] = ()

    def to_json(self) -> str:
        """Serialises for the store; `from_json` is its inverse."""
        outcomes = [[o.image_id, o.added, o.error] for o in self.outcomes]
        return json.dumps([self.revision, dict(self.counts), outcomes], ensure_ascii=False)

    @staticmethod
    def from_json(data: str) -> Applied:
        """Reads what `to_json` wrote."""
        revision, counts, outcomes = json.loads(data)
        return Applied(
            revision=revision,
            counts=counts,
            outcomes=tuple(
                Outcome(image_id=i, added=a, error=tuple(e) if e else None) for i, a, e in outcomes
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """Describes one change that was made, as the history has it."""

    revision: int
    made_at_ms: int
    author: str
    kind: ChangeKind
    summary: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedImage:
    """One picture of a listing, without what only recognition needs."""

    image_id: str
    label: str
    source: str
    author: str
    added_at_ms: int
    added_revision: int
    width_px: int
    height_px: int
    text_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A finding about a gallery that a person found to be well."""

    key: str
    """Names it within its gallery."""
    kind: str
    """What it is about, in one word."""
    labels: tuple[str, ...]
    """The labels that it is about, in their normal form; the store does not keep them."""
    image_ids: tuple[str, ...]
    """Whose purge takes the settlement along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Who settled a finding, when and why."""

    author: str
    note: str
    settled_at_ms: int
    """Unix time, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """Says which pictures a purge deleted, and the revisions that it made."""

    image_ids: tuple[str, ...]
    revisions: Mapping[str, int]
    """The new revision of each gallery that had ever held one of them, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """How much was let go of."""

    removed: int
    """Removed from every gallery long enough ago."""
    unused: int
    """Never enrolled, such as those of a run that was killed."""
    answers: int = 0
    """Answers that were kept for review, with their pictures."""
