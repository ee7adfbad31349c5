"""Queries to values, and answers to messages. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from pagesight.v1 import classifier_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.common.priority import Priority
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, normal_form
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Candidate, TermName
from pagesight_server.recognition.explanation import Explanation, explain
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.text.lines import digit_boxes
from pagesight_server.text.reading import Box, Reading

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
    "uncalibrated": pb.REVIEW_REASON_UNCALIBRATED,
}


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
    keep: bool = True
    """Whether the answer may be kept for review."""


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
        keep=not query.do_not_keep,
    )


def gallery_of(name: str) -> str:
    """The gallery that a message means."""
    return normal_form(name) or DEFAULT_GALLERY


def timestamp(unix_ms: int) -> Timestamp:
    """A moment, given by its Unix time in milliseconds."""
    stamp = Timestamp()
    stamp.FromMilliseconds(unix_ms)
    return stamp


def classification(
    answer: Answer, options: Options, step: Callable[[], None] = lambda: None
) -> pb.Classification:
    """Makes the reply to a query.

    Args:
        answer: The answer.
        options: What the query asks for. To explain takes up to seconds of Python.
        step: Called between the parts of an explanation; what it raises ends it.
    """
    decision, knowledge = answer.decision, answer.knowledge
    snapshot = knowledge.snapshot
    explanation = Explanation()
    reasons: tuple[str, ...] = ()
    if options.explain:
        explanation = explain(
            knowledge,
            answer.query,
            decision,
            pages=options.top_k,
            without=answer.left_out,
            step=step,
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
