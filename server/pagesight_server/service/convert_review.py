"""The review of answers as messages: what was kept, what was decided, and the figures of that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pagesight.v1 import review_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.common.priority import Priority
from pagesight_server.curation.known_items import KnownItem
from pagesight_server.curation.review_figures import ReviewFigures
from pagesight_server.gallery.review_model import (
    Decision,
    KeptReason,
    ListedAnswer,
    Waiting,
)
from pagesight_server.gallery.snapshot import check_label
from pagesight_server.service import convert
from pagesight_server.service.auth import CALLER
from pagesight_server.service.convert_galleries import MAX_AUTHOR_CHARS

MAX_DECISIONS = 1_000
"""Decisions that one call may record or withdraw."""

MAX_ID_CHARS = 128
"""Longest id of a decision: a UUID, with room."""

MAX_KNOWN_ITEMS = 20
"""Known items of one call; each costs what an answer costs after its text is read."""

KNOWN_ITEM_CANDIDATES = 5
"""Candidates that a known item is shown with."""

_REASONS: Mapping[KeptReason, pb.KeptReason.ValueType] = {
    "doubtful": pb.KEPT_REASON_DOUBTFUL,
    "rejected": pb.KEPT_REASON_REJECTED,
    "random": pb.KEPT_REASON_RANDOM,
}


def kept(listed: ListedAnswer) -> pb.KeptAnswer:
    """Makes one kept answer of a listing."""
    answer = listed.answer
    return pb.KeptAnswer(
        image_id=answer.image_id,
        gallery=answer.gallery,
        revision=answer.revision,
        label=answer.label,
        closest_label=answer.closest_label,
        score=answer.score,
        threshold=answer.threshold,
        doubt=answer.doubt,
        review_reasons=convert.review_reasons(answer.review_reasons),
        kept_reason=_REASONS[answer.kept_reason],
        kept_at=convert.timestamp(answer.kept_at_ms),
        decisions=listed.decisions,
        reviewers=listed.reviewers,
    )


def undecided_by(reviewer: str) -> tuple[str, ...]:
    """The names under which a reviewer's decisions may be written down; none for nobody."""
    _check_reviewer(reviewer)
    return (reviewer, recorded_name(reviewer)) if reviewer else ()


def known_count(asked: int) -> int:
    """How many known items to draw.

    Raises:
        InvalidRequestError: a number that cannot be.
    """
    if not 0 <= asked <= MAX_KNOWN_ITEMS:
        raise InvalidRequestError(f"count is 1 to {MAX_KNOWN_ITEMS}; 0 means 1")
    return asked or 1


def known_item(item: KnownItem) -> pb.KnownItem:
    """A known item, with all that a person is shown of an answer."""
    options = convert.Options(
        gallery=item.answer.knowledge.snapshot.gallery,
        priority=Priority.NORMAL,
        ocr=True,
        top_k=KNOWN_ITEM_CANDIDATES,
        explain=True,
    )
    return pb.KnownItem(
        image_id=item.picture.image_id,
        label=item.picture.label,
        answer=convert.classification(item.answer, options),
    )


def decisions_of(request: pb.RecordDecisionsRequest) -> list[Decision]:
    """The decisions that a caller records.

    Raises:
        InvalidRequestError: none or too many, or one with a value that cannot be.
    """
    _check_number(request.decisions, "decisions")
    return [_decision(message) for message in request.decisions]


def _decision(message: pb.Decision) -> Decision:
    _check_id(message.decision_id)
    _check_reviewer(message.reviewer)
    doubt, seconds = message.shown_doubt, message.seconds
    if not (0 <= doubt <= 1 and 0 <= seconds < math.inf and message.revision >= 0):
        raise InvalidRequestError(
            f"decision {message.decision_id!r}: shown_doubt is 0 to 1, seconds and revision are "
            "not negative"
        )
    return Decision(
        decision_id=message.decision_id,
        image_id=message.image_id.lower(),
        label=_label(message.label),
        shown_label=_label(message.shown_label),
        shown_closest_label=_label(message.shown_closest_label),
        shown_doubt=doubt,
        revision=message.revision,
        reviewer=recorded_name(message.reviewer),
        known_label=_label(message.known_label),
        seconds=seconds,
    )


def _label(label: str) -> str:
    """A label in its normal form; empty where none is meant."""
    return check_label(label) if label else ""


def recorded_name(reviewer: str) -> str:
    """The name of a reviewer behind that of the token of the present call."""
    return "/".join(filter(None, (CALLER.get(), reviewer)))


def decision_ids_of(request: pb.WithdrawDecisionsRequest) -> list[str]:
    """The decisions that a caller takes back.

    Raises:
        InvalidRequestError: none, too many, or one that cannot be an id.
    """
    _check_number(request.decision_ids, "decision_ids")
    for decision_id in request.decision_ids:
        _check_id(decision_id)
    return list(request.decision_ids)


def image_ids_of(request: pb.ListDecisionsRequest) -> list[str]:
    """The pictures whose decisions are listed; all when empty.

    Raises:
        InvalidRequestError: too many.
    """
    if len(request.image_ids) > MAX_DECISIONS:
        raise InvalidRequestError(f"image_ids: give at most {MAX_DECISIONS:,}")
    return [image_id.lower() for image_id in request.image_ids]


def reviewer_of(request: pb.RecordRevealRequest) -> str:
    """Who saw a picture whole.

    Raises:
        InvalidRequestError: a name that is too long.
    """
    _check_reviewer(request.reviewer)
    return request.reviewer


def decision(made: Decision) -> pb.Decision:
    """Makes one decision of a listing."""
    return pb.Decision(
        decision_id=made.decision_id,
        image_id=made.image_id,
        label=made.label,
        shown_label=made.shown_label,
        shown_closest_label=made.shown_closest_label,
        shown_doubt=made.shown_doubt,
        revision=made.revision,
        reviewer=made.reviewer,
        decided_at=convert.timestamp(made.decided_at_ms),
        known_label=made.known_label,
        seconds=made.seconds,
    )


def figures(made: ReviewFigures, waiting: Waiting) -> pb.GetReviewFiguresResponse:
    """How much was decided, and how well."""
    oldest_ms = waiting.oldest_ms
    return pb.GetReviewFiguresResponse(
        decided=made.decided,
        agreed=made.agreed,
        waiting=waiting.answers,
        oldest_waiting=None if oldest_ms is None else convert.timestamp(oldest_ms),
        doubly_decided=made.doubly_decided,
        kappa=made.kappa,
        reviewers=[
            pb.ReviewerFigures(
                reviewer=one.reviewer,
                decided=one.decided,
                known_items=one.known_items,
                known_right=one.known_right,
                median_seconds=one.median_seconds,
            )
            for one in made.reviewers
        ],
        labels=[
            pb.LabelFigures(label=one.label, decided=one.decided, corrected=one.corrected)
            for one in made.labels
        ],
        days=[
            pb.DayFigures(day=one.day, decided=one.decided, agreed=one.agreed) for one in made.days
        ],
    )


def _check_number(values: Sequence[object], what: str) -> None:
    if not 1 <= len(values) <= MAX_DECISIONS:
        raise InvalidRequestError(f"{what}: give 1 to {MAX_DECISIONS:,}, not {len(values):,}")


def _check_id(decision_id: str) -> None:
    if not 1 <= len(decision_id) <= MAX_ID_CHARS or "\0" in decision_id:
        raise InvalidRequestError(f"a decision_id has 1 to {MAX_ID_CHARS} characters, none NUL")


def _check_reviewer(reviewer: str) -> None:
    if len(reviewer) > MAX_AUTHOR_CHARS or "\0" in reviewer:
        raise InvalidRequestError(
            f"reviewer has at most {MAX_AUTHOR_CHARS} characters, none of them NUL"
        )
