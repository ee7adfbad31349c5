"""Messages to values: the only way from a reply to what callers see.

Both clients and the stream share these functions; each takes one message and
returns one value. An absent timestamp is None, never 1970.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from pagesight._changes import (
    DeleteResult,
    EnrolOutcome,
    NearDuplicate,
    Progress,
    RelabelResult,
    RemoveResult,
    RollbackResult,
    SetLabelsResult,
)
from pagesight._classification import (
    Box,
    Candidate,
    Classification,
    Finding,
    FindingKind,
    MatchingLine,
    ReviewReason,
    ScoreTerm,
    ScoreTermName,
)
from pagesight._errors import InternalError, PagesightError, from_status
from pagesight._listings import (
    CalibrationInfo,
    CalibrationSource,
    GalleryInfo,
    ImageInfo,
    LabelInfo,
    Labels,
    RevisionInfo,
    RevisionKind,
)
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1 import gallery_pb2 as gallery

_Message = TypeVar("_Message")

_KINDS: dict[int, FindingKind] = {
    classifier.FINDING_KIND_AGREES: "agrees",
    classifier.FINDING_KIND_FORBIDS: "forbids",
    classifier.FINDING_KIND_MISSING: "missing",
}


_TERMS: dict[int, ScoreTermName] = {
    classifier.SCORE_TERM_NAME_LOOKS: "looks",
    classifier.SCORE_TERM_NAME_ALL_TEXT: "all_text",
    classifier.SCORE_TERM_NAME_STABLE_TEXT: "stable_text",
    classifier.SCORE_TERM_NAME_DISCRIMINATIVE_TEXT: "discriminative_text",
    classifier.SCORE_TERM_NAME_EXPLAINED_TEXT: "explained_text",
    classifier.SCORE_TERM_NAME_MISSING_BRAND: "missing_brand",
    classifier.SCORE_TERM_NAME_REPLACED_NAMES: "replaced_names",
    classifier.SCORE_TERM_NAME_SIBLINGS: "siblings",
    classifier.SCORE_TERM_NAME_UNKNOWN_EXAMPLE: "unknown_example",
}
_REVIEW_REASONS: dict[int, ReviewReason] = {
    classifier.REVIEW_REASON_NEAR_THRESHOLD: "near_threshold",
    classifier.REVIEW_REASON_CLOSE_RUNNER_UP: "close_runner_up",
    classifier.REVIEW_REASON_BRAND_NOT_VISIBLE: "brand_not_visible",
    classifier.REVIEW_REASON_LOOKS_UNLIKE: "looks_unlike",
    classifier.REVIEW_REASON_UNCALIBRATED: "uncalibrated",
}
_CHANGES: dict[int, RevisionKind] = {
    gallery.REVISION_KIND_ENROL: "enrol",
    gallery.REVISION_KIND_REMOVE: "remove",
    gallery.REVISION_KIND_RELABEL: "relabel",
    gallery.REVISION_KIND_ROLLBACK: "rollback",
    gallery.REVISION_KIND_SET_LABELS: "set_labels",
    gallery.REVISION_KIND_DELETE: "delete",
    gallery.REVISION_KIND_PURGE: "purge",
    gallery.REVISION_KIND_RESTORE: "restore",
    gallery.REVISION_KIND_REINDEX: "reindex",
}
_SOURCES: dict[int, CalibrationSource] = {
    gallery.CALIBRATION_SOURCE_GALLERY: "gallery",
    gallery.CALIBRATION_SOURCE_VALIDATION: "validation",
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
        doubt=message.doubt,
        review=message.review,
        review_reasons=review_reasons(message.review_reasons),
        candidates=tuple(_candidate(candidate) for candidate in message.candidates),
        reasons=tuple(message.reasons),
        gallery=message.gallery,
        revision=message.revision,
        encoder_bundle=message.encoder_bundle,
        ocr_bundle=message.ocr_bundle,
        stage_ms=dict(message.stage_ms),
        findings=tuple(_finding(finding) for finding in message.findings),
        digit_boxes=tuple(map(_box, message.digit_boxes)),
    )


def review_reasons(numbers: Iterable[int]) -> tuple[ReviewReason, ...]:
    """Reads why a person should look."""
    return tuple(_REVIEW_REASONS.get(number, "unknown") for number in numbers)


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
        rank_score=message.rank_score,
        terms=tuple(
            ScoreTerm(
                name=_TERMS.get(term.name, "unknown"), score=term.score, rank_score=term.rank_score
            )
            for term in message.terms
        ),
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
        digit_boxes=tuple(map(_box, message.digit_boxes)),
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
        labels=tuple(map(label_info, message.labels)),
    )


def label_info(message: gallery.Label) -> LabelInfo:
    return LabelInfo(
        label=message.label,
        brands=tuple(message.brands),
        outputs=tuple(message.outputs),
        images=message.images,
    )


ProgressCallback: TypeAlias = Callable[[Progress], None]


def no_result() -> InternalError:
    """Returns the error of a call that ended in good order, and too early."""
    return InternalError("the server ended the call without a result")


def last(replies: Iterable[Any], progress: ProgressCallback | None) -> Any:
    """Returns the result of a call that answers with progress, once it has told all of that.

    Raises:
        InternalError: The last message is no result.
    """
    result = None
    # To the end: a call that is left in the midst holds its connection.
    for reply in replies:
        result = _result(reply, progress)
    if result is None:
        raise no_result()
    return result


async def last_async(replies: AsyncIterable[Any], progress: ProgressCallback | None) -> Any:
    """Does what `last` does, for event loops."""
    result = None
    async for reply in replies:
        result = _result(reply, progress)
    if result is None:
        raise no_result()
    return result


def _result(reply: Any, progress: ProgressCallback | None) -> Any | None:
    if reply.WhichOneof("message") == "result":
        return reply.result
    if progress is not None and reply.WhichOneof("message") == "progress":
        progress(Progress(done=reply.progress.done, total=reply.progress.total))
    return None


def gallery_info(message: gallery.Gallery) -> GalleryInfo:
    """Reads one gallery."""
    made = message.calibration
    return GalleryInfo(
        name=message.name,
        revision=message.revision,
        images=message.images,
        labels=message.labels,
        encoder_bundle=message.encoder_bundle,
        ocr_bundle=message.ocr_bundle,
        calibration=CalibrationInfo(
            threshold_with_text=made.threshold_with_text,
            threshold_without_text=made.threshold_without_text,
            epsilon=made.epsilon,
            source=_SOURCES.get(made.source, "unknown"),
            guaranteed=made.guaranteed,
            images=made.images,
            revision=made.revision,
            rejected_with_text=made.rejected_with_text,
            rejected_without_text=made.rejected_without_text,
        )
        if message.HasField("calibration")
        else None,
    )


def gallery_shown(message: gallery.GetGalleryResponse) -> GalleryInfo:
    """Reads the reply to GetGallery."""
    return gallery_info(message.gallery)


def deleted(message: gallery.DeleteGalleryResponse) -> DeleteResult:
    """Reads the reply to DeleteGallery."""
    return DeleteResult(revision=message.revision, removed=message.removed)


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
        added_at=moment(message.added_at) if message.HasField("added_at") else None,
        added_revision=message.added_revision,
        width_px=message.width_px,
        height_px=message.height_px,
        text_lines=message.text_lines,
    )


def revision(message: gallery.Revision) -> RevisionInfo:
    """Reads one change of the history."""
    return RevisionInfo(
        revision=message.revision,
        made_at=moment(message.made_at) if message.HasField("made_at") else None,
        author=message.author,
        kind=_CHANGES.get(message.kind, "unknown"),
        summary=message.summary,
        images=message.images,
    )


def moment(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
