"""Messages to values, as `_replies` does, for the calls for a gallery's care."""

from __future__ import annotations

from collections.abc import Mapping

from pagesight import _replies
from pagesight._curation import (
    BrandSuggestion,
    Diagnosis,
    GalleryFinding,
    GalleryFindingKind,
    HardlyReadImage,
    ImageLabel,
    LabelHealth,
    LabelSuggestions,
    Settlement,
    SettleResult,
    Suspect,
)
from pagesight.v1 import gallery_pb2 as gallery

KINDS: Mapping[gallery.GalleryFindingKind.ValueType, GalleryFindingKind] = {
    gallery.GALLERY_FINDING_KIND_WRONG_LABEL: "wrong_label",
    gallery.GALLERY_FINDING_KIND_ODD_PICTURE: "odd_picture",
    gallery.GALLERY_FINDING_KIND_NEAR_DUPLICATES: "near_duplicates",
    gallery.GALLERY_FINDING_KIND_REJECTED_PICTURES: "rejected_pictures",
    gallery.GALLERY_FINDING_KIND_HARDLY_READ: "hardly_read",
    gallery.GALLERY_FINDING_KIND_NO_OWN_TEXT: "no_own_text",
    gallery.GALLERY_FINDING_KIND_FEW_PICTURES: "few_pictures",
    gallery.GALLERY_FINDING_KIND_UNLIKE_PICTURES: "unlike_pictures",
}
"""Each kind by its number; others are of a newer server."""


def diagnosis(message: gallery.Diagnosis) -> Diagnosis:
    """Reads the result of Diagnose."""
    return Diagnosis(
        revision=message.revision,
        images=message.images,
        examined=message.examined,
        suspects=tuple(map(_suspect, message.suspects)),
        duplicates=tuple(
            tuple(ImageLabel(image_id=image.image_id, label=image.label) for image in group.images)
            for group in message.duplicates
        ),
        labels=tuple(
            LabelHealth(
                label=label.label,
                images=label.images,
                distinct_images=label.distinct_images,
                unseen_bound=label.unseen_bound,
                few=label.few,
                left_out_images=label.left_out_images,
                rejected_image_ids=tuple(label.rejected_image_ids),
                mean_score=label.mean_score,
                least_score=label.least_score,
                least_looks=label.least_looks,
                unlike_image_ids=tuple(label.unlike_image_ids),
                text_shared_with=tuple(label.text_shared_with),
            )
            for label in message.labels
        ),
        rejection_bound=message.rejection_bound,
        left_out_images=message.left_out_images,
        rejected_images=message.rejected_images,
        hardly_read=tuple(
            HardlyReadImage(
                image_id=image.image_id,
                label=image.label,
                text_lines=image.text_lines,
                hardly_read_lines=image.hardly_read_lines,
            )
            for image in message.hardly_read
        ),
        findings=tuple(map(_finding, message.findings)),
    )


def _suspect(message: gallery.Suspect) -> Suspect:
    return Suspect(
        image_id=message.image_id,
        label=message.label,
        suggested_label=message.suggested_label,
        own_score=message.own_score,
        suggested_score=message.suggested_score,
        suggested_image_id=message.suggested_image_id,
        own_image_id=message.own_image_id,
        neighbours=message.neighbours,
        foreign_neighbours=message.foreign_neighbours,
        likely=message.likely,
    )


def suggestions(message: gallery.BrandSuggestions) -> tuple[LabelSuggestions, ...]:
    """Reads the result of SuggestBrands."""
    return tuple(
        LabelSuggestions(
            known=_replies.label_info(label.known),
            suggestions=tuple(
                BrandSuggestion(text=found.text, reason=found.reason, images=found.images)
                for found in label.suggestions
            ),
        )
        for label in message.labels
    )


def _finding(message: gallery.GalleryFinding) -> GalleryFinding:
    made = message.settlement
    return GalleryFinding(
        kind=KINDS.get(message.kind, "unknown"),
        labels=tuple(message.labels),
        image_ids=tuple(message.image_ids),
        key=message.key,
        settled=Settlement(
            author=made.author,
            note=made.note,
            settled_at=_replies.moment(made.settled_at) if made.HasField("settled_at") else None,
        )
        if message.HasField("settlement")
        else None,
    )


def settled(
    message: gallery.SettleFindingsResponse | gallery.UnsettleFindingsResponse,
) -> SettleResult:
    """Reads the reply to SettleFindings or UnsettleFindings."""
    return SettleResult(keys=tuple(message.keys))
