"""The part of the fake server that keeps answers for a person, and what persons decide of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import timestamp_pb2

from pagesight.v1 import classifier_pb2
from pagesight.v1 import review_pb2 as pb
from tests.support.fake_discovery import FakeDiscovery, Find
from tests.support.refusals import abort, invalid, normal, not_found

MAX_DECISIONS, MAX_ID_CHARS, MAX_REVIEWER_CHARS = 1_000, 128, 256
_ID = re.compile("[0-9a-f]{64}")
_NOON = datetime(2025, 11, 22, 12, tzinfo=UTC)


class FakeReview(FakeDiscovery):
    """Keeps every answer, at noon and a minute later each; figures have no kappa.

    Args:
        find: Finds the state of a gallery, which holds what is kept and decided of it.
        peek: Returns the state of a gallery, an empty one where there is none.
        refusal: Why a label cannot be one, if it cannot.
    """

    def __init__(
        self, find: Find, peek: Callable[[str], Any], refusal: Callable[[str], Any]
    ) -> None:
        super().__init__(find, peek, refusal)
        self.capacity = 100
        """Answers of each gallery that are kept."""
        self.revealed: list[pb.RecordRevealRequest] = []
        self._made = 0

    def keep(self, image: bytes, answer: classifier_pb2.Classification, state: Any) -> None:
        """Keeps an answer, in place of an earlier one to the same picture."""
        image_id = hashlib.sha256(image).hexdigest()
        reason = (
            "REJECTED" if answer.label == "other" else "DOUBTFUL" if answer.review else "RANDOM"
        )
        state.kept.pop(image_id, None)
        state.kept[image_id] = pb.KeptAnswer(
            image_id=image_id,
            gallery=answer.gallery,
            revision=answer.revision,
            label=answer.label,
            closest_label=answer.closest_label,
            score=answer.score,
            threshold=answer.threshold,
            doubt=answer.doubt,
            review_reasons=answer.review_reasons,
            kept_reason=pb.KeptReason.Value(f"KEPT_REASON_{reason}"),
            kept_at=self._now(),
        )
        self.images[image_id] = image
        while len(state.kept) > self.capacity:
            del state.kept[next(iter(state.kept))]

    def _now(self) -> timestamp_pb2.Timestamp:
        stamp = timestamp_pb2.Timestamp()
        stamp.FromDatetime(_NOON + timedelta(minutes=self._made))
        self._made += 1
        return stamp

    def ListKept(  # noqa: N802
        self, request: pb.ListKeptRequest, context: Any
    ) -> pb.ListKeptResponse:
        """Lists, newest first."""
        state = self._find(request.gallery, context)
        answers = []
        for kept in reversed(state.kept.values()):
            names = [
                made.reviewer
                for made in state.decisions.values()
                if made.image_id == kept.image_id and not made.known_label
            ]
            if request.undecided_by in names:
                continue
            told = pb.KeptAnswer(decisions=len(names), reviewers=sorted(set(names)))
            told.MergeFrom(kept)
            answers.append(told)
        page, token = _page(answers, request, context)
        return pb.ListKeptResponse(
            answers=page,
            next_page_token=token,
            capacity=self.capacity,
            keep_days=14,
            reviewer=request.undecided_by,
        )

    def GetKeptImage(  # noqa: N802
        self, request: pb.GetKeptImageRequest, context: Any
    ) -> pb.GetKeptImageResponse:
        """The bytes that came, whatever size is asked for."""
        state = self._find(request.gallery, context)
        _check_ids([request.image_id], context)
        if not 0 <= request.max_side_px <= 4096:
            abort(context, invalid("max_side_px is 0 to 4096"))
        if request.image_id.lower() not in state.kept:
            abort(context, not_found(f"nothing is kept of {request.image_id}"))
        return pb.GetKeptImageResponse(image=self.images[request.image_id.lower()])

    def DrawKnown(  # noqa: N802
        self, request: pb.DrawKnownRequest, context: Any
    ) -> pb.DrawKnownResponse:
        """The first pictures whose label has others, answered rightly by the last of these."""
        state = self._find(request.gallery, context)
        if not 0 <= request.count <= 20:
            abort(context, invalid("count is 1 to 20"))
        counts = Counter(state.images.values())
        items = []
        for image_id, label in sorted(state.images.items()):
            if counts[label] < 2 or label == "other" or label.startswith("other_"):
                continue
            others = [i for i, name in state.images.items() if name == label and i != image_id]
            candidate = classifier_pb2.Candidate(
                label=label, score=0.875, rank_score=0.75, image_id=max(others)
            )
            answer = classifier_pb2.Classification(
                label=label,
                closest_label=label,
                score=0.875,
                threshold=0.625,
                candidates=[candidate],
                reasons=["as if it were not enrolled"],
                gallery=normal(request.gallery) or "default",
                revision=state.revision,
            )
            items.append(pb.KnownItem(image_id=image_id, label=label, answer=answer))
        return pb.DrawKnownResponse(items=items[: request.count or 1])

    def RecordDecisions(  # noqa: N802
        self, request: pb.RecordDecisionsRequest, context: Any
    ) -> pb.RecordDecisionsResponse:
        """Notes them once by id."""
        state = self._find(request.gallery, context)
        _check_number(request.decisions, context)
        _check_ids((made.image_id for made in request.decisions), context)
        for made in request.decisions:
            _check_decision_id(made.decision_id, context)
            named = (made.label, made.shown_label, made.shown_closest_label, made.known_label)
            for label in filter(None, map(normal, named)):
                if (refusal := self._refusal(label)) is not None:
                    abort(context, refusal)
            sound = 0 <= made.shown_doubt <= 1 and made.seconds >= 0 and made.revision >= 0
            if not sound or len(made.reviewer) > MAX_REVIEWER_CHARS or "\0" in made.reviewer:
                abort(context, invalid("a number or the reviewer cannot be"))
        recorded = 0
        for made in request.decisions:
            if made.decision_id not in state.decisions:
                noted = pb.Decision()
                noted.CopyFrom(made)
                noted.image_id = made.image_id.lower()
                noted.label = normal(made.label)
                noted.decided_at.CopyFrom(self._now())
                state.decisions[made.decision_id] = noted
                recorded += 1
        return pb.RecordDecisionsResponse(recorded=recorded)

    def WithdrawDecisions(  # noqa: N802
        self, request: pb.WithdrawDecisionsRequest, context: Any
    ) -> pb.WithdrawDecisionsResponse:
        """Forgets them."""
        state = self._find(request.gallery, context)
        _check_number(request.decision_ids, context)
        for decision_id in request.decision_ids:
            _check_decision_id(decision_id, context)
        gone = [state.decisions.pop(one, None) for one in request.decision_ids]
        return pb.WithdrawDecisionsResponse(withdrawn=sum(one is not None for one in gone))

    def RecordReveal(  # noqa: N802
        self, request: pb.RecordRevealRequest, context: Any
    ) -> pb.RecordRevealResponse:
        """Remembers who saw what."""
        _check_ids([request.image_id], context)
        if len(request.reviewer) > MAX_REVIEWER_CHARS:
            abort(context, invalid("reviewer is too long"))
        self.revealed.append(request)
        return pb.RecordRevealResponse()

    def ListDecisions(  # noqa: N802
        self, request: pb.ListDecisionsRequest, context: Any
    ) -> pb.ListDecisionsResponse:
        """Lists, newest first."""
        state = self._find(request.gallery, context)
        _check_ids(request.image_ids, context)
        wanted = {image_id.lower() for image_id in request.image_ids}
        made = [
            one
            for one in reversed(state.decisions.values())
            if not wanted or one.image_id in wanted
        ]
        page, token = _page(made, request, context)
        return pb.ListDecisionsResponse(decisions=page, next_page_token=token)

    def GetReviewFigures(  # noqa: N802
        self, request: pb.GetReviewFiguresRequest, context: Any
    ) -> pb.GetReviewFiguresResponse:
        """Counts."""
        state = self._find(request.gallery, context)
        made = list(state.decisions.values())
        real = [one for one in made if not one.known_label]
        known = [one for one in made if one.known_label]
        last = {one.image_id: one for one in real}
        waiting = [kept for image_id, kept in state.kept.items() if image_id not in last]
        figures = pb.GetReviewFiguresResponse(
            decided=len(last),
            agreed=sum(one.label == one.shown_label for one in last.values()),
            waiting=len(waiting),
            oldest_waiting=waiting[0].kept_at if waiting else None,
            reviewers=[
                pb.ReviewerFigures(
                    reviewer=name,
                    decided=sum(one.reviewer == name for one in real),
                    known_items=sum(one.reviewer == name for one in known),
                    known_right=sum(
                        one.reviewer == name and one.label == one.known_label for one in known
                    ),
                )
                for name in sorted({one.reviewer for one in made})
            ],
            labels=[
                pb.LabelFigures(
                    label=label,
                    decided=sum(one.shown_label == label for one in real),
                    corrected=sum(
                        one.shown_label == label and one.label not in ("", label) for one in real
                    ),
                )
                for label in sorted({one.shown_label for one in real})
            ],
        )
        if real:
            agreed = sum(one.label == one.shown_label for one in real)
            figures.days.add(day=f"{_NOON.date()}", decided=len(real), agreed=agreed)
        return figures


def _page(rows: list[Any], request: Any, context: Any) -> tuple[list[Any], str]:
    """The rows that are asked for, and where the next page begins."""
    if request.page_size < 0:
        abort(context, invalid("page_size is negative"))
    if request.page_token and not request.page_token.isdecimal():
        abort(context, invalid("page_token is none of this listing"))
    begin = int(request.page_token or 0)
    end = begin + (request.page_size or 1_000)
    return rows[begin:end], str(end) if end < len(rows) else ""


def _check_ids(image_ids: Iterable[str], context: Any) -> None:
    for image_id in image_ids:
        if not _ID.fullmatch(image_id.lower()):
            abort(context, invalid(f"{image_id!r} is no image id"))


def _check_decision_id(decision_id: str, context: Any) -> None:
    if not 1 <= len(decision_id) <= MAX_ID_CHARS or "\0" in decision_id:
        abort(context, invalid("a decision_id has 1 to 128 characters"))


def _check_number(values: Any, context: Any) -> None:
    if not 1 <= len(values) <= MAX_DECISIONS:
        abort(context, invalid("give 1 to 1000"))
