"""Values to messages and messages to values for the review of answers; both clients share them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pagesight import _replies
from pagesight._review import (
    DayFigures,
    Decision,
    KeepLimits,
    KeptAnswer,
    KeptReason,
    KnownItem,
    LabelFigures,
    ReviewerFigures,
    ReviewFigures,
)
from pagesight.v1 import review_pb2 as review

_REASONS: Mapping[int, KeptReason] = {
    review.KEPT_REASON_DOUBTFUL: "doubtful",
    review.KEPT_REASON_REJECTED: "rejected",
    review.KEPT_REASON_RANDOM: "random",
}


def kept(message: review.KeptAnswer) -> KeptAnswer:
    """Reads one kept answer."""
    return KeptAnswer(
        image_id=message.image_id,
        gallery=message.gallery,
        revision=message.revision,
        label=message.label,
        closest_label=message.closest_label,
        score=message.score,
        threshold=message.threshold,
        doubt=message.doubt,
        review_reasons=_replies.review_reasons(message.review_reasons),
        kept_reason=_REASONS.get(message.kept_reason, "unknown"),
        kept_at=_replies.moment(message.kept_at) if message.HasField("kept_at") else None,
        decisions=message.decisions,
        reviewers=tuple(message.reviewers),
    )


def keep_limits(message: review.ListKeptResponse) -> KeepLimits:
    """Reads how much a server keeps."""
    return KeepLimits(capacity=message.capacity, keep_days=message.keep_days)


def recorded_name(message: review.ListKeptResponse) -> str:
    """Reads the name under which a reviewer's decisions are listed."""
    return message.reviewer


def kept_picture(message: review.GetKeptImageResponse) -> bytes:
    """Reads the reply to GetKeptImage."""
    return message.image


def known_items(message: review.DrawKnownResponse) -> tuple[KnownItem, ...]:
    """Reads the reply to DrawKnown."""
    return tuple(
        KnownItem(
            image_id=item.image_id,
            label=item.label,
            answer=_replies.classification(item.answer),
        )
        for item in message.items
    )


def record_decisions(decisions: Iterable[Decision], where: str) -> review.RecordDecisionsRequest:
    """Builds what to record."""
    return review.RecordDecisionsRequest(
        gallery=where,
        decisions=[
            review.Decision(
                decision_id=made.decision_id,
                image_id=made.image_id,
                label=made.label,
                shown_label=made.shown_label,
                shown_closest_label=made.shown_closest_label,
                shown_doubt=made.shown_doubt,
                revision=made.revision,
                reviewer=made.reviewer,
                known_label=made.known_label,
                seconds=made.seconds,
            )
            for made in decisions
        ],
    )


def recorded(message: review.RecordDecisionsResponse) -> int:
    """Reads the reply to RecordDecisions."""
    return message.recorded


def withdraw_decisions(decision_ids: Iterable[str], where: str) -> review.WithdrawDecisionsRequest:
    """Builds what to take back."""
    if isinstance(decision_ids, str):
        raise TypeError("decision_ids is several ids; put a single one into a list")
    return review.WithdrawDecisionsRequest(gallery=where, decision_ids=decision_ids)


def withdrawn(message: review.WithdrawDecisionsResponse) -> int:
    """Reads the reply to WithdrawDecisions."""
    return message.withdrawn


def revealed(_message: review.RecordRevealResponse) -> None:
    """Reads the reply to RecordReveal, which says nothing."""


def list_decisions(
    image_ids: Iterable[str], where: str, page_size: int
) -> review.ListDecisionsRequest:
    """Builds which decisions to list."""
    if isinstance(image_ids, str):
        raise TypeError("image_ids is several ids; put a single one into a list")
    return review.ListDecisionsRequest(gallery=where, image_ids=image_ids, page_size=page_size)


def decision(message: review.Decision) -> Decision:
    """Reads one decision."""
    return Decision(
        decision_id=message.decision_id,
        image_id=message.image_id,
        label=message.label,
        shown_label=message.shown_label,
        shown_closest_label=message.shown_closest_label,
        shown_doubt=message.shown_doubt,
        revision=message.revision,
        reviewer=message.reviewer,
        decided_at=_replies.moment(message.decided_at) if message.HasField("decided_at") else None,
        known_label=message.known_label,
        seconds=message.seconds,
    )


def figures(message: review.GetReviewFiguresResponse) -> ReviewFigures:
    """Reads the reply to GetReviewFigures."""
    return ReviewFigures(
        decided=message.decided,
        agreed=message.agreed,
        waiting=message.waiting,
        oldest_waiting=_replies.moment(message.oldest_waiting)
        if message.HasField("oldest_waiting")
        else None,
        doubly_decided=message.doubly_decided,
        kappa=message.kappa if message.HasField("kappa") else None,
        reviewers=tuple(
            ReviewerFigures(
                reviewer=one.reviewer,
                decided=one.decided,
                known_items=one.known_items,
                known_right=one.known_right,
                median_seconds=one.median_seconds,
            )
            for one in message.reviewers
        ),
        labels=tuple(
            LabelFigures(label=one.label, decided=one.decided, corrected=one.corrected)
            for one in message.labels
        ),
        days=tuple(
            DayFigures(day=one.day, decided=one.decided, agreed=one.agreed) for one in message.days
        ),
    )
