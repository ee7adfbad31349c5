"""The values that the parts of the review page share.

    Waiting   a screenshot that nobody decided yet, and what is known of its answer so far
    Card      the same, ready to be looked at: the whole answer, its pictures at hand
    Question  a finding of the gallery's doctor, asked among the screenshots
    Decided   what the reviewer said of a card

A key names what is on the page and says nothing of it: a hidden known item looks like any other.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pagesight._classification import OTHER, Classification
from pagesight._curation import GalleryFinding

Origin: TypeAlias = Literal["folder", "kept", "known"]

Stage: TypeAlias = Literal["doubtful", "variety", "random", "rest"]
"""Why a screenshot is where it is in the queue."""


def new_key() -> str:
    """Returns a name for something on the page, which nobody can guess."""
    return secrets.token_urlsafe(9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A screenshot that waits to be looked at."""

    image_id: str
    """SHA-256 of its bytes, in hexadecimal."""
    origin: Origin
    label: str = ""
    """The answer: a label or `other`."""
    closest_label: str = ""
    doubt: float = 0.0
    doubtful: bool = False
    """The server said that a person should look."""
    path: str = ""
    """The file, where it comes from a folder."""
    known_label: str = ""
    """The label that it is known to have, of a hidden known item."""
    answer: Classification | None = None
    """The whole answer, where it is known already."""
    key: str = field(default_factory=new_key)

    @property
    def group(self) -> tuple[bool, str]:
        """What it seems to show: rejected or not, and the page that came closest."""
        return self.label == OTHER, self.closest_label


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A screenshot with its answer, ready to be looked at."""

    waiting: Waiting
    answer: Classification
    stage: Stage
    revealed: bool = False
    """Digits are shown, since the reviewer asked for them."""

    @property
    def key(self) -> str:
        """Names it on the page."""
        return self.waiting.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A finding of the doctor, to be settled or put right."""

    finding: GalleryFinding
    revealed: bool = False
    """Digits are shown, since the reviewer asked for them."""
    key: str = field(default_factory=new_key)


@dataclass(slots=True, kw_only=True)
class Decided:
    """What the reviewer said of a screenshot."""

    waiting: Waiting
    decision_id: str
    label: str
    """A label or `other`; empty where the reviewer could not tell."""
    shown_label: str
    """What the machine had answered."""
    teach: bool
    """To be enrolled with the next batch."""
    enrolled_revision: int = 0
    """The revision that enrolled it; 0 while none did."""

    @property
    def corrected(self) -> bool:
        """Whether the machine had answered something else."""
        return bool(self.label) and self.label != self.shown_label
