"""Messages to values and values to messages; errors to `google.rpc.Status`. Pure functions."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.errors import InvalidRequestError, RequestError
from pagesight_server.common.priority import Priority
from pagesight_server.gallery import (
    Applied,
    Change,
    ChangeKind,
    GalleryInfo,
    ListedImage,
    Revision,
)
from pagesight_server.gallery.snapshot import (
    DEFAULT_GALLERY,
    LabelFacts,
    LabelUpdate,
    check_label,
    check_names,
    normal_form,
)
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Candidate, TermName
from pagesight_server.recognition.explanation import Explanation, explain
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.lines import digit_boxes
from pagesight_server.text.reading import Box, Reading

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 400
"""Of an error. It travels twice in the trailing metadata, of which gRPC takes 8 KiB, and may
quote what the caller sent."""

DOMAIN = "pagesight"
"""`domain` of google.rpc.ErrorInfo."""

MAX_TOP_K = 100
_OCR_MODES = frozenset(pb.OcrMode.values())
_READS: Mapping[int, bool] = {pb.OCR_MODE_FULL: True, pb.OCR_MODE_OFF: False}
_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    pb.PRIORITY_LOW: Priority.LOW,
    pb.PRIORITY_NORMAL: Priority.NORMAL,
    pb.PRIORITY_HIGH: Priority.HIGH,
}
_KINDS: Mapping[FindingKind, pb.FindingKind.ValueType] = {
    "agrees": pb.FINDING_KIND_AGREES,
    "forbids": pb.FINDING_KIND_FORBIDS,
    "missing": pb.FINDING_KIND_MISSING,
}
_TERMS: Mapping[TermName, pb.ScoreTermName.ValueType] = {
    "looks": pb.SCORE_TERM_NAME_LOOKS,
    "all_text": pb.SCORE_TERM_NAME_ALL_TEXT,
    "stable_text": pb.SCORE_TERM_NAME_STABLE_TEXT,
    "discriminative_text": pb.SCORE_TERM_NAME_DISCRIMINATIVE_TEXT,
    "explained_text": pb.SCORE_TERM_NAME_EXPLAINED_TEXT,
    "missing_brand": pb.SCORE_TERM_NAME_MISSING_BRAND,
    "replaced_names": pb.SCORE_TERM_NAME_REPLACED_NAMES,
    "siblings": pb.SCORE_TERM_NAME_SIBLINGS,
    "unknown_example": pb.SCORE_TERM_NAME_UNKNOWN_EXAMPLE,
}
_REVIEW_REASONS: Mapping[str, pb.ReviewReason.ValueType] = {
    "near_threshold": pb.REVIEW_REASON_NEAR_THRESHOLD,
    "close_runner_up": pb.REVIEW_REASON_CLOSE_RUNNER_UP,
    "brand_not_visible": pb.REVIEW_REASON_BRAND_NOT_VISIBLE,
    "looks_unlike": pb.REVIEW_REASON_LOOKS_UNLIKE,
}
_CHANGES: Mapping[ChangeKind, gpb.RevisionKind.ValueType] = {
    "enrol": gpb.REVISION_KIND_ENROL,
    "remove": gpb.REVISION_KIND_REMOVE,
    "relabel": gpb.REVISION_KIND_RELABEL,
    "rollback": gpb.REVISION_KIND_ROLLBACK,
    "labels": gpb.REVISION_KIND_SET_LABELS,
    "delete": gpb.REVISION_KIND_DELETE,
    "purge": gpb.REVISION_KIND_PURGE,
    "restore": gpb.REVISION_KIND_RESTORE,
    "reindex": gpb.REVISION_KIND_REINDEX,
}
_SOURCES: Mapping[str, gpb.CalibrationSource.ValueType] = {
    "gallery": gpb.CALIBRATION_SOURCE_GALLERY,
    "validation": gpb.CALIBRATION_SOURCE_VALIDATION,
}
LABEL_FIELDS = ("brands", "outputs")
"""Paths of SetLabelsRequest.update_mask."""

MAX_AUTHOR_CHARS = 256
"""Longest name of who makes a change, and longest request_id: an address or a UUID, with room."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_BY_NAME = {code.name: code for code in grpc.StatusCode}


# --- errors -------------------------------------------------------------------------------


def status_of(error: Exception) -> Status:
    """What a caller is told of an error; a bug is told nothing but that it is one."""
    if not isinstance(error, RequestError):
        log.error("a request failed on a bug", exc_info=error)
        return _status("INTERNAL", "INTERNAL", "internal error; the server's log has the details")
    return _status(error.status, error.reason, str(error), retry_after_ms=error.retry_after_ms)


def code_of(status: Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return _CODES[status.code]


def _status(code: str, reason: str, message: str, *, retry_after_ms: int | None = None) -> Status:
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 3] + "..."
    status = Status(code=_BY_NAME[code].value[0], message=message)
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


# --- classification -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a query asks for, defaults filled in."""

    gallery: str
    priority: Priority
    ocr: bool
    top_k: int
    explain: bool
    min_revision: int = 0
    """0: whatever the server knows."""


def options_of(query: pb.Query, *, default_ocr: bool) -> Options:
    """Reads the options of a query.

    Raises:
        InvalidRequestError: a value that this server does not know.
    """
    options = query.options
    if query.priority not in _PRIORITIES:
        raise InvalidRequestError(f"unknown priority {query.priority}")
    if options.ocr not in _OCR_MODES:
        raise InvalidRequestError(f"unknown ocr mode {options.ocr}")
    if options.top_k > MAX_TOP_K:
        raise InvalidRequestError(f"top_k is {options.top_k}, at most {MAX_TOP_K}")
    if query.min_revision < 0:
        raise InvalidRequestError("min_revision must not be negative; 0 means any")
    return Options(
        gallery=gallery_of(query.gallery),
        priority=_PRIORITIES[query.priority],
        ocr=_READS.get(options.ocr, default_ocr),
        top_k=options.top_k,
        explain=options.explain,
        min_revision=query.min_revision,
    )


def gallery_of(name: str) -> str:
    """The gallery that a message means."""
    return normal_form(name) or DEFAULT_GALLERY


def classification(answer: Answer, options: Options) -> pb.Classification:
    """The reply to a query."""
    decision, knowledge = answer.decision, answer.knowledge
    snapshot = knowledge.snapshot
    explanation = Explanation()
    reasons: tuple[str, ...] = ()
    if options.explain:
        explanation = explain(
            knowledge, answer.query, decision, pages=options.top_k, without=answer.left_out
        )
        reasons = (*explanation.reasons, *filter(None, (explanation.why_not,)))
    return pb.Classification(
        label=decision.label,
        closest_label=decision.closest_label,
        score=decision.score,
        threshold=decision.threshold,
        doubt=decision.doubt,
        review=decision.review,
        review_reasons=review_reasons(decision.review_reasons),
        outputs=snapshot.outputs(decision.label),
        candidates=[
            _candidate(candidate, answer, explanation, explained=options.explain)
            for candidate in decision.candidates[: options.top_k]
        ],
        reasons=reasons,
        gallery=snapshot.gallery,
        revision=snapshot.revision,
        encoder_bundle=snapshot.encoder_bundle,
        ocr_bundle=snapshot.ocr_bundle if answer.query.reading is not None else "",
        stage_ms=answer.stage_ms,
        findings=map(_finding, explanation.findings),
        digit_boxes=_digit_boxes(answer.query.reading) if options.explain else (),
    )


def review_reasons(reasons: Iterable[str]) -> list[pb.ReviewReason.ValueType]:
    """Why a person should look; reasons that this server does not know are left out."""
    return [_REVIEW_REASONS[reason] for reason in reasons if reason in _REVIEW_REASONS]


def _finding(finding: Finding) -> pb.Finding:
    return pb.Finding(
        kind=_KINDS[finding.kind],
        text=finding.text,
        query_box=_box(finding.query_box),
        gallery_box=_box(finding.gallery_box),
        note=finding.note,
    )


def _box(box: Box | None) -> pb.Box | None:
    return pb.Box(**box._asdict()) if box is not None else None


def _digit_boxes(reading: Reading | None) -> list[pb.Box]:
    return [pb.Box(**box._asdict()) for box in digit_boxes(reading)] if reading else []


def _candidate(
    candidate: Candidate, answer: Answer, explanation: Explanation, *, explained: bool
) -> pb.Candidate:
    picture = answer.knowledge.snapshot.pictures[candidate.row]
    return pb.Candidate(
        label=candidate.label,
        score=candidate.score,
        rank_score=candidate.rank_score,
        terms=[
            pb.ScoreTerm(name=_TERMS[term.name], score=term.score, rank_score=term.rank_score)
            for term in candidate.terms
        ],
        visual=candidate.visual,
        textual=candidate.textual,
        image_id=picture.image_id,
        matching_lines=[
            pb.MatchingLine(
                query_text=match.query_text,
                gallery_text=match.gallery_text,
                similarity=match.similarity,
            )
            for match in explanation.matching_lines.get(candidate.label, ())
        ],
        digit_boxes=_digit_boxes(picture.reading) if explained else (),
    )


# --- galleries ----------------------------------------------------------------------------


def change_of(change: gpb.Change) -> Change:
    """What every change carries.

    Raises:
        InvalidRequestError: a negative revision, a request_id or author that is too long.
    """
    expected = change.expected_revision if change.HasField("expected_revision") else None
    if expected is not None and expected < 0:
        raise InvalidRequestError(
            "expected_revision must not be negative; 0 means that the gallery must be new"
        )
    if len(change.request_id) > MAX_AUTHOR_CHARS or len(change.author) > MAX_AUTHOR_CHARS:
        raise InvalidRequestError(
            f"request_id and author have at most {MAX_AUTHOR_CHARS} characters"
        )
    return Change(
        gallery=gallery_of(change.gallery),
        author=change.author,
        request_id=change.request_id,
        expected_revision=expected,
    )


def gallery(info: GalleryInfo, knowledge: Knowledge | None) -> gpb.Gallery:
    """One gallery, and where `other` begins in it if this server knows it."""
    return gpb.Gallery(
        name=info.name,
        revision=info.revision,
        images=info.images,
        labels=info.labels,
        encoder_bundle=info.encoder_bundle,
        ocr_bundle=info.ocr_bundle,
        calibration=_calibration(knowledge) if knowledge is not None else None,
    )


def _calibration(knowledge: Knowledge) -> gpb.Calibration:
    made = knowledge.calibration
    own = knowledge.snapshot.revision if knowledge.settled else 0
    return gpb.Calibration(
        threshold_with_text=made.threshold_with_text,
        threshold_without_text=made.threshold_without_text,
        epsilon=made.epsilon,
        source=_SOURCES[made.source],
        guaranteed=made.guaranteed,
        images=made.pictures,
        revision=made.revision or own,
        rejected_with_text=made.share_rejected(with_text=True),
        rejected_without_text=made.share_rejected(with_text=False),
    )


def enrolled(applied: Applied) -> gpb.EnrolResult:
    """The answer to an Enrol call."""
    return gpb.EnrolResult(
        revision=applied.revision,
        outcomes=[
            gpb.EnrolOutcome(
                image_id=outcome.image_id,
                added=outcome.added,
                error=_status(*outcome.error) if outcome.error else None,
            )
            for outcome in applied.outcomes
        ],
    )


def image(listed: ListedImage) -> gpb.Image:
    """One image of a listing."""
    return gpb.Image(
        image_id=listed.image_id,
        label=listed.label,
        source=listed.source,
        author=listed.author,
        added_at=_timestamp(listed.added_at_ms),
        added_revision=listed.added_revision,
        width_px=listed.width_px,
        height_px=listed.height_px,
        text_lines=listed.text_lines,
    )


def revision(made: Revision) -> gpb.Revision:
    """One change of a history."""
    return gpb.Revision(
        revision=made.revision,
        made_at=_timestamp(made.made_at_ms),
        author=made.author,
        kind=_CHANGES.get(made.kind, gpb.REVISION_KIND_UNSPECIFIED),
        summary=made.summary,
        images=made.images,
    )


def labels(counts: Mapping[str, int], facts: Mapping[str, LabelFacts]) -> list[gpb.Label]:
    """What is known of each label."""
    return [
        gpb.Label(
            label=label,
            brands=facts.get(label, LabelFacts()).brands,
            outputs=facts.get(label, LabelFacts()).outputs,
            images=count,
        )
        for label, count in sorted(counts.items())
    ]


def updates_of(request: gpb.SetLabelsRequest) -> dict[str, LabelUpdate]:
    """What an operator says of labels: what the mask names, or without one what is not empty.

    Raises:
        InvalidRequestError: a label that cannot be or is named twice, an empty name, or a path
            of the mask that is no field of a label that can be set.
    """
    masked = request.HasField("update_mask")
    paths = set(request.update_mask.paths)
    if "*" in paths:
        paths = set(LABEL_FIELDS)
    if unknown := sorted(paths - set(LABEL_FIELDS)):
        raise InvalidRequestError(
            f"update_mask names {unknown[0]!r}: it may name {' and '.join(LABEL_FIELDS)}"
        )
    updates: dict[str, LabelUpdate] = {}
    for message in request.labels:
        label = check_label(message.label)
        if label in updates:
            raise InvalidRequestError(f"label {label!r} is named twice")
        fields = {"brands": message.brands, "outputs": message.outputs}
        updates[label] = LabelUpdate(
            **{
                field: check_names(names, f"{field} of label {label!r}")
                for field, names in fields.items()
                if (field in paths if masked else names)
            }
        )
    return updates


def _timestamp(unix_ms: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMilliseconds(unix_ms)
    return stamp


# --- pages --------------------------------------------------------------------------------

DEFAULT_PAGE, MAX_PAGE = 100, 1_000


def page_size(asked: int, default: int = DEFAULT_PAGE) -> int:
    """How many rows a page has.

    Raises:
        InvalidRequestError: a negative size.
    """
    if asked < 0:
        raise InvalidRequestError(f"page_size must not be negative; 0 means {default}")
    return min(asked or default, MAX_PAGE)


def page_token(*position: int | str) -> str:
    """Where the next page begins, opaque to callers."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def position_of(token: str, *types: type[int] | type[str]) -> tuple[Any, ...] | None:
    """Reads a token back; None for the first page.

    Raises:
        InvalidRequestError: not a token of this listing.
    """
    if not token:
        return None
    try:
        position = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, RecursionError):
        position = None
    if (
        not isinstance(position, list)
        or [type(part) for part in position] != list(types)
        or not all(map(_storable, position))
    ):
        raise InvalidRequestError("page_token is not one that this listing gave out")
    return tuple(position)


def _storable(value: int | str) -> bool:
    """Whether SQLite can compare with it: 64 bits, no lone surrogates."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return value.isprintable() or not any("\ud800" <= c <= "\udfff" for c in value)
