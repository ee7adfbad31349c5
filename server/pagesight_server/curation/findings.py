"""A diagnosis as questions to a person, each with a key by which it is settled.

    Diagnosis ──> (kind, labels, pictures) ──SHA-256──> key ──settlements of the store──> settled?

The key follows from what the question is about. Where a picture gets another label, goes or comes,
or a question turns into one of another kind, the key is another one: what was settled before says
nothing of it.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pagesight_server.curation.diagnostics import Diagnosis
from pagesight_server.gallery import Settled
from pagesight_server.gallery.snapshot import Picture, Snapshot

FindingKind: TypeAlias = Literal[
    "wrong_label",
    "odd_picture",
    "near_duplicates",
    "rejected_pictures",
    "hardly_read",
    "no_own_text",
    "few_pictures",
    "unlike_pictures",
]
"""What a question is about; `GalleryFindingKind` of the contract says which labels and pictures."""

KEY_DIGITS = 16
"""Hexadecimal digits of a key: 64 bits, so that of a million findings two share one with a chance
of 3 in 10^8, and a person can copy it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One question to a person about a gallery."""

    kind: FindingKind
    labels: tuple[str, ...]
    """The label concerned first."""
    image_ids: tuple[str, ...]
    """SHA-256 in hexadecimal; the key is the same in any order of them."""

    @property
    def key(self) -> str:
        """Names the finding: `KEY_DIGITS` hexadecimal digits."""
        # Which labels share a text, or a group of pictures, has no order worth a new question.
        first, *others = self.labels
        about = [self.kind, first, sorted(others), sorted(set(self.image_ids))]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:KEY_DIGITS]

    @property
    def settled(self) -> Settled:
        """What the store keeps of it once it is settled."""
        return Settled(key=self.key, kind=self.kind, labels=self.labels, image_ids=self.image_ids)


def findings(diagnosis: Diagnosis, snapshot: Snapshot) -> tuple[Finding, ...]:
    """The questions of a diagnosis, in the order of its fields.

    Args:
        diagnosis: What was found.
        snapshot: The gallery that was examined.
    """
    return tuple(_findings(diagnosis, snapshot))


def _findings(diagnosis: Diagnosis, snapshot: Snapshot) -> Iterator[Finding]:
    for suspect in diagnosis.suspects:
        yield Finding(
            kind="wrong_label" if suspect.likely else "odd_picture",
            labels=(suspect.picture.label, suspect.suggested.label),
            image_ids=(suspect.picture.image_id,),
        )
    for group in diagnosis.duplicates:
        labels = tuple(sorted({picture.label for picture in group}))
        yield Finding(kind="near_duplicates", labels=labels, image_ids=_ids(group))
    of_label: defaultdict[str, list[Picture]] = defaultdict(list)
    for picture in snapshot.pictures:
        of_label[picture.label].append(picture)
    for label in diagnosis.labels:
        own = (label.label,)
        if label.rejected:
            yield Finding(kind="rejected_pictures", labels=own, image_ids=_ids(label.rejected))
        if label.text_shared_with:
            shared = (label.label, *label.text_shared_with)
            yield Finding(kind="no_own_text", labels=shared, image_ids=())
        if label.few:
            yield Finding(kind="few_pictures", labels=own, image_ids=_ids(of_label[label.label]))
        if label.unlike:
            yield Finding(kind="unlike_pictures", labels=own, image_ids=_ids(label.unlike))
    for read in diagnosis.hardly_read:
        yield Finding(
            kind="hardly_read",
            labels=(read.picture.label,),
            image_ids=(read.picture.image_id,),
        )


def _ids(pictures: Sequence[Picture]) -> tuple[str, ...]:
    return tuple(picture.image_id for picture in pictures)
