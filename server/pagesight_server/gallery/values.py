"""What goes into the store and what comes out, as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pagesight_server.arrays import Embedding
from pagesight_server.errors import RequestError
from pagesight_server.snapshot import DEFAULT_GALLERY
from pagesight_server.text import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What every change carries."""

    gallery: str = DEFAULT_GALLERY
    author: str = ""
    request_id: str = ""
    """A repeat within the gallery is not made again but told the first answer."""
    expected_revision: int = 0
    """0: whatever it is at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a picture is, as far as it follows from its bytes."""

    image_id: str
    width_px: int
    height_px: int
    data: bytes | None
    """The bytes as received; None where pictures are not kept."""
    embedding: Embedding
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A picture to enrol, or one that failed before it came here."""

    image_id: str
    label: str
    source: str = ""
    error: RequestError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one entry."""

    image_id: str
    added: bool
    error: tuple[str, str, str] | None = None
    """Status, reason and message of the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The answer to a change."""

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
    """One change that was made."""

    revision: int
    made_at_ms: int
    author: str
    kind: str
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
