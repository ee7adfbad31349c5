"""Messages to values: the only way from a reply to what callers see.

Both clients and the stream share these functions; each takes one message and
returns one value of `_results`. An absent timestamp is None, never 1970.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from pagesight._errors import InternalError, PagesightError, from_status
from pagesight._results import (
    Box,
    BrandSuggestion,
    Candidate,
    Classification,
    Diagnosis,
    EnrolOutcome,
    Finding,
    FindingKind,
    ImageInfo,
    ImageLabel,
    LabelHealth,
    LabelInfo,
    Labels,
    LabelSuggestions,
    MatchingLine,
    NearDuplicate,
    RelabelResult,
    RemoveResult,
    RevisionInfo,
    RollbackResult,
    SetLabelsResult,
    Suspect,
)
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1 import gallery_pb2 as gallery

_Message = TypeVar("_Message")

_KINDS: dict[int, FindingKind] = {
    classifier.FINDING_KIND_AGREES: "agrees",
    classifier.FINDING_KIND_FORBIDS: "forbids",
    classifier.FINDING_KIND_MISSING: "missing",
}


def as_it_is(message: _Message) -> _Message:
    """Returns a page of a listing, whose parts are read one by one."""
    return message


def classification(message: classifier.Classification) -> Classification:
    """Reads what a screenshot shows."""
    return Classification(
        label=message.label,
        closest_label=message.closest_label,
        score=message.score,
        threshold=message.threshold,
        outputs=tuple(message.outputs),
        review=message.review,
        candidates=tuple(_candidate(candidate) for candidate in message.candidates),
        reasons=tuple(message.reasons),
        gallery=message.gallery,
        revision=message.revision,
        encoder_bundle=message.encoder_bundle,
        ocr_bundle=message.ocr_bundle,
        stage_ms=dict(message.stage_ms),
        findings=tuple(_finding(finding) for finding in message.findings),
    )


def _finding(message: classifier.Finding) -> Finding:
    return Finding(
        kind=_KINDS.get(message.kind, "unknown"),
        text=message.text,
        query_box=_box(message.query_box) if message.HasField("query_box") else None,
        gallery_box=_box(message.gallery_box) if message.HasField("gallery_box") else None,
        note=message.note,
    )


def _box(message: classifier.Box) -> Box:
    return Box(left=message.left, top=message.top, right=message.right, bottom=message.bottom)


def _candidate(message: classifier.Candidate) -> Candidate:
    return Candidate(
        label=message.label,
        score=message.score,
        visual=message.visual,
        textual=message.textual,
        image_id=message.image_id,
        matching_lines=tuple(
            MatchingLine(
                query_text=line.query_text,
                gallery_text=line.gallery_text,
                similarity=line.similarity,
            )
            for line in message.matching_lines
        ),
    )


def classified(message: classifier.ClassifyResponse) -> Classification:
    """Reads the reply to Classify.

    Raises:
        InternalError: It says nothing.
    """
    if not message.HasField("classification"):
        raise InternalError("the server's reply holds no classification")
    return classification(message.classification)


def stream_outcome(message: classifier.ClassifyStreamResponse) -> Classification | PagesightError:
    """Reads one reply of ClassifyStream; the error is returned, not raised."""
    match message.WhichOneof("outcome"):
        case "classification":
            return classification(message.classification)
        case "error":
            return from_status(message.error)
        case _:
            return InternalError("the server's reply holds neither classification nor error")


def enrol_outcome(message: gallery.EnrolOutcome) -> EnrolOutcome:
    """Reads what became of one item."""
    return EnrolOutcome(
        image_id=message.image_id,
        added=message.added,
        error=from_status(message.error) if message.HasField("error") else None,
        near_duplicates=tuple(
            NearDuplicate(
                image_id=near.image_id, label=near.label, visual=near.visual, textual=near.textual
            )
            for near in message.near_duplicates
        ),
    )


def removed(message: gallery.RemoveResponse) -> RemoveResult:
    """Reads the reply to Remove."""
    return RemoveResult(revision=message.revision, removed=message.removed)


def relabelled(message: gallery.RelabelResponse) -> RelabelResult:
    """Reads the reply to Relabel."""
    return RelabelResult(revision=message.revision, relabelled=message.relabelled)


def rolled_back(message: gallery.RollbackResponse) -> RollbackResult:
    """Reads the reply to Rollback."""
    return RollbackResult(
        revision=message.revision,
        restored=message.restored,
        removed=message.removed,
        lost_image_ids=tuple(message.lost_image_ids),
    )


def labels_set(message: gallery.SetLabelsResponse) -> SetLabelsResult:
    """Reads the reply to SetLabels."""
    return SetLabelsResult(revision=message.revision)


def labels(message: gallery.GetLabelsResponse) -> Labels:
    """Reads the reply to GetLabels."""
    return Labels(
        revision=message.revision,
        labels=tuple(map(_label, message.labels)),
    )


def _label(message: gallery.Label) -> LabelInfo:
    return LabelInfo(
        label=message.label,
        brands=tuple(message.brands),
        outputs=tuple(message.outputs),
        images=message.images,
    )


def diagnosis(message: gallery.DiagnoseResponse) -> Diagnosis:
    """Reads the reply to Diagnose."""
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
            )
            for label in message.labels
        ),
        rejection_bound=message.rejection_bound,
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


def suggestions(message: gallery.SuggestBrandsResponse) -> tuple[LabelSuggestions, ...]:
    """Reads the reply to SuggestBrands."""
    return tuple(
        LabelSuggestions(
            known=_label(label.known),
            suggestions=tuple(
                BrandSuggestion(text=found.text, reason=found.reason, images=found.images)
                for found in label.suggestions
            ),
        )
        for label in message.labels
    )


def picture(message: gallery.GetImageResponse) -> bytes:
    """Reads the reply to GetImage."""
    return message.image


def image(message: gallery.Image) -> ImageInfo:
    """Reads one image of a listing."""
    return ImageInfo(
        image_id=message.image_id,
        label=message.label,
        source=message.source,
        author=message.author,
        added_at=_moment(message.added_at) if message.HasField("added_at") else None,
        added_revision=message.added_revision,
        width_px=message.width_px,
        height_px=message.height_px,
        text_lines=message.text_lines,
    )


def revision(message: gallery.Revision) -> RevisionInfo:
    """Reads one change of the history."""
    return RevisionInfo(
        revision=message.revision,
        made_at=_moment(message.made_at) if message.HasField("made_at") else None,
        author=message.author,
        kind=message.kind,
        summary=message.summary,
        images=message.images,
    )


def _moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
