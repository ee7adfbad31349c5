"""Which finding asks about which part of a diagnosis, and what is left once some are settled.

Diagnosis.findings ──by what they are about──> the finding of a suspect, a group, a label
                   └──settled?──> the diagnosis without what is settled
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pagesight._curation import (
    Diagnosis,
    GalleryFinding,
    GalleryFindingKind,
    HardlyReadImage,
    ImageLabel,
    LabelHealth,
    Suspect,
)

KEY_DIGITS = 16
"""Hexadecimal digits of a key."""


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings of a diagnosis by what they ask about; none of them of an older server."""

    _by_subject: dict[tuple[str, str], GalleryFinding] = field(default_factory=dict)

    @staticmethod
    def of(diagnosis: Diagnosis) -> Findings:
        """Collects the findings of a diagnosis."""
        return Findings({_subject(found): found for found in diagnosis.findings})

    def suspect(self, one: Suspect) -> GalleryFinding | None:
        """Whether a label is right."""
        return self._by_subject.get(("suspect", one.image_id))

    def group(self, images: Sequence[ImageLabel]) -> GalleryFinding | None:
        """Whether pictures that are almost the same are all wanted."""
        return self._by_subject.get(("near_duplicates", min(image.image_id for image in images)))

    def hardly_read(self, image: HardlyReadImage) -> GalleryFinding | None:
        """Whether a picture may be hardly readable."""
        return self._by_subject.get(("hardly_read", image.image_id))

    def label(self, kind: GalleryFindingKind, label: LabelHealth) -> GalleryFinding | None:
        """What is asked about a label."""
        return self._by_subject.get((kind, label.label))


def _subject(found: GalleryFinding) -> tuple[str, str]:
    if found.kind in ("wrong_label", "odd_picture"):
        return "suspect", found.image_ids[0]
    if found.kind in ("near_duplicates", "hardly_read"):
        return found.kind, min(found.image_ids)
    return found.kind, found.labels[0] if found.labels else found.key


def settled(diagnosis: Diagnosis) -> int:
    """How many findings are settled."""
    return sum(found.settled is not None for found in diagnosis.findings)


def unsettled(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis without what is settled; its counts of pictures are as they were."""
    findings = Findings.of(diagnosis)

    def is_open(found: GalleryFinding | None) -> bool:
        return found is None or found.settled is None

    def of_label(label: LabelHealth) -> LabelHealth:
        asks = {
            kind: is_open(findings.label(kind, label))
            for kind in ("rejected_pictures", "no_own_text", "few_pictures", "unlike_pictures")
        }
        return replace(
            label,
            rejected_image_ids=label.rejected_image_ids if asks["rejected_pictures"] else (),
            text_shared_with=label.text_shared_with if asks["no_own_text"] else (),
            few=label.few and asks["few_pictures"],
            unlike_image_ids=label.unlike_image_ids if asks["unlike_pictures"] else (),
        )

    return replace(
        diagnosis,
        suspects=tuple(s for s in diagnosis.suspects if is_open(findings.suspect(s))),
        duplicates=tuple(g for g in diagnosis.duplicates if is_open(findings.group(g))),
        labels=tuple(map(of_label, diagnosis.labels)),
        hardly_read=tuple(i for i in diagnosis.hardly_read if is_open(findings.hardly_read(i))),
    )


def settle_command(found: GalleryFinding, gallery: str) -> str:
    """The command that settles a finding; what a server named is quoted, here as below."""
    return f"pagesight gallery doctor{gallery_option(gallery)} --settle {shlex.quote(found.key)}"


def relabel_command(one: Suspect, gallery: str) -> str:
    """The command that gives a suspect the label that it fits better."""
    label = shlex.quote(one.suggested_label)
    return f"pagesight gallery relabel{gallery_option(gallery)} {label} {shlex.quote(one.image_id)}"


def remove_command(images: Sequence[ImageLabel], gallery: str) -> str:
    """The command that keeps the first of some pictures alone."""
    rest = shlex.join(image.image_id for image in images[1:])
    return f"pagesight gallery remove{gallery_option(gallery)} {rest}"


def gallery_option(gallery: str) -> str:
    """What a command needs to be about this gallery."""
    return "" if gallery == "default" else f" --gallery {shlex.quote(gallery)}"


def who_settled(found: GalleryFinding | None) -> str:
    """Says who settled a finding, when and why; empty where nobody has."""
    if found is None or (made := found.settled) is None:
        return ""
    day = f" on {made.settled_at.date().isoformat()}" if made.settled_at else ""
    return f"settled by {made.author or 'somebody'}{day}" + (f": {made.note}" if made.note else "")


_WELL: Mapping[GalleryFindingKind, str] = {
    "wrong_label": "the label {} is right",
    "odd_picture": "the label {} is right",
    "near_duplicates": "the pictures of {} are all wanted",
    "rejected_pictures": "the rejected pictures of {} are well as they are",
    "hardly_read": "the hardly read picture of {} is well as it is",
    "no_own_text": "{} needs no text of its own",
    "few_pictures": "{} has pictures enough",
    "unlike_pictures": "the unlike pictures of {} are well as they are",
}


def well(found: GalleryFinding) -> str:
    """Says what is said of a finding by settling it."""
    labels = found.labels if found.kind == "near_duplicates" else found.labels[:1]
    return _WELL.get(found.kind, "{} is well as it is").format(", ".join(labels))
