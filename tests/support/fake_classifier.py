"""The part of the fake server that answers screenshots.

A picture is its own instruction: b"login" is labelled "login"; b"other" is none of
the known pages; b"bad ..." cannot be decoded; b"busy ..." is shed with a hint;
b"hold ..." waits until the test calls `release()`; b"mute ..." is never answered.
b"foreign" is answered in a stream under a request_id that is nobody's. b"hang up" ends the stream
with an error, b"leave" without one. So do b"break ..." and b"part ..." the first `breaks` times
that they come, and b"shed ..." is shed the first `sheds` times; then they are answered.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import grpc
from google.rpc import status_pb2

from pagesight.v1 import classifier_pb2
from pagesight.v1.classifier_pb2_grpc import ClassifierServiceServicer
from tests.support import WAIT_S
from tests.support.refusals import abort, not_found, status

_Replies: TypeAlias = (
    "queue.SimpleQueue[classifier_pb2.ClassifyStreamRequest | Literal['all read', 'over']]"
)


class FakeClassifier(ClassifierServiceServicer):
    """Answers what the bytes say, and counts what it owes to streams.

    Args:
        revision: The revision of a gallery.
        keep: Told of each answer, and of the picture.
    """

    def __init__(
        self,
        revision: Callable[[str], int],
        keep: Callable[[bytes, classifier_pb2.Classification], None] = lambda _i, _a: None,
    ) -> None:
        self._revision = revision
        self._keep = keep
        self.queries: list[classifier_pb2.Query] = []
        self.most_owed = 0
        self.release_after: int | None = None
        """Queries after which it releases by itself."""
        self.stream_ended = threading.Event()
        self.asked = threading.Event()
        self.breaks = 0
        self.sheds = 0
        self.retry_after_ms = 250
        """What whoever is shed is told."""
        self.request_ids: list[str] = []
        self._broken: Counter[bytes] = Counter()
        self._changed = threading.Condition()
        self._held: list[tuple[_Replies, classifier_pb2.ClassifyStreamRequest]] = []
        self._released = False
        self._owed = 0

    def release(self) -> None:
        """Lets the pictures that begin with "hold" have their answers, newest first."""
        with self._changed:
            self._released = True
            self._changed.notify_all()
            for replies, request in reversed(self._held):
                if request.query.image.startswith(b"hold"):
                    replies.put(request)
            self._held = [held for held in self._held if held[1].query.image.startswith(b"mute")]

    def wait_until_owed(self, count: int) -> None:
        """Waits until so many screenshots of streams wait for their answers."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._owed >= count, WAIT_S):
                raise AssertionError(f"only {self._owed} of {count} screenshots arrived")

    def wait_until_asked(self, count: int) -> None:
        """Waits until so many screenshots have come in all."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.queries) >= count, WAIT_S):
                raise AssertionError(f"only {len(self.queries)} of {count} screenshots came")

    def owes_no_more_than(self, count: int, *, for_s: float) -> bool:
        """Tells whether no more than so many arrive in this time."""
        with self._changed:
            return not self._changed.wait_for(lambda: self._owed > count, for_s)

    def Classify(  # noqa: N802
        self, request: classifier_pb2.ClassifyRequest, context: Any
    ) -> classifier_pb2.ClassifyResponse:
        """Answers one screenshot."""
        with self._changed:
            self.queries.append(request.query)
            self._changed.notify_all()
        self.asked.set()
        if request.query.image.startswith((b"mute", b"hold")):
            with self._changed:
                self._changed.wait_for(lambda: self._released, WAIT_S)
        outcome = self._outcome(request.query)
        if not isinstance(outcome, classifier_pb2.Classification):
            abort(context, outcome)
        return classifier_pb2.ClassifyResponse(
            request_id=request.request_id, classification=outcome
        )

    def ClassifyStream(  # noqa: N802
        self, request_iterator: Iterator[classifier_pb2.ClassifyStreamRequest], context: Any
    ) -> Iterator[classifier_pb2.ClassifyStreamResponse]:
        """Answers as screenshots come, and what it holds when it is released."""
        replies: _Replies = queue.SimpleQueue()
        context.add_callback(lambda: replies.put("over"))
        context.add_callback(self.stream_ended.set)
        reader = threading.Thread(
            target=self._read, args=(request_iterator, replies), name="fake-server-reader"
        )
        reader.start()
        all_read = False
        while not (all_read and replies.empty() and not self._holds_any_of(replies)):
            match replies.get(timeout=WAIT_S):
                case "over":
                    return
                case "all read":
                    all_read = True
                case classifier_pb2.ClassifyStreamRequest() as request:
                    if request.query.image == b"hang up":
                        why = "the server is shutting down"
                        abort(context, status(grpc.StatusCode.UNAVAILABLE, why, "SHUTTING_DOWN"))
                    if request.query.image == b"leave":
                        return
                    if self._breaks(request.query.image):
                        if request.query.image.startswith(b"part"):
                            return
                        abort(context, status(grpc.StatusCode.UNAVAILABLE, "away", "AWAY"))
                    yield self._answer(request)

    def _read(
        self, requests: Iterator[classifier_pb2.ClassifyStreamRequest], replies: _Replies
    ) -> None:
        # The iterator raises a bare Exception when the caller gives the stream up.
        with contextlib.suppress(Exception):
            for request in requests:
                self.queries.append(request.query)
                self.request_ids.append(request.request_id)
                self._owe(1)
                with self._changed:
                    held = b"mute" if self._released else (b"mute", b"hold")
                    if request.query.image.startswith(held):
                        self._held.append((replies, request))
                    else:
                        replies.put(request)
                if len(self.queries) == self.release_after:
                    self.release()
        replies.put("all read")

    def _holds_any_of(self, replies: _Replies) -> bool:
        with self._changed:
            return any(held[0] is replies for held in self._held)

    def _breaks(self, image: bytes) -> bool:
        self._broken[image] += 1
        return image.startswith((b"break", b"part")) and self._broken[image] <= self.breaks

    def _answer(
        self, request: classifier_pb2.ClassifyStreamRequest
    ) -> classifier_pb2.ClassifyStreamResponse:
        self._owe(-1)
        outcome = self._outcome(request.query)
        if request.query.image.startswith(b"shed") and self.sheds:
            self.sheds -= 1
            why = "the queue is full"
            outcome = status(grpc.StatusCode.RESOURCE_EXHAUSTED, why, "OVERLOADED", 20)
        if isinstance(outcome, classifier_pb2.Classification):
            request_id = "abc" if request.query.image == b"foreign" else request.request_id
            return classifier_pb2.ClassifyStreamResponse(
                request_id=request_id, classification=outcome
            )
        return classifier_pb2.ClassifyStreamResponse(request_id=request.request_id, error=outcome)

    def _outcome(
        self, query: classifier_pb2.Query
    ) -> classifier_pb2.Classification | status_pb2.Status:
        if query.image.startswith(b"bad"):
            message = "the picture is neither JPEG, PNG nor WebP"
            return status(grpc.StatusCode.INVALID_ARGUMENT, message, "IMAGE_UNUSABLE")
        if query.image.startswith(b"busy"):
            full = "the queue is full"
            code = grpc.StatusCode.RESOURCE_EXHAUSTED
            return status(code, full, "OVERLOADED", self.retry_after_ms)
        if query.gallery == "nowhere":
            return not_found('there is no gallery "nowhere"')
        revision = self._revision(query.gallery or "default")
        if query.min_revision > revision:
            behind = f"the gallery is not at revision {query.min_revision} here yet"
            if query.deadline_ms:
                return status(grpc.StatusCode.DEADLINE_EXCEEDED, behind, "BUDGET_SPENT")
            return status(grpc.StatusCode.UNAVAILABLE, behind, "REVISION_BEHIND", 20)
        answer = _classification(query, revision)
        if not query.do_not_keep:
            self._keep(query.image, answer)
        return answer

    def _owe(self, count: int) -> None:
        with self._changed:
            self._owed += count
            self.most_owed = max(self.most_owed, self._owed)
            self._changed.notify_all()


def _classification(query: classifier_pb2.Query, revision: int) -> classifier_pb2.Classification:
    """What the bytes of a picture say."""
    label = query.image.decode(errors="replace")
    known = not label.startswith("other")
    closest = label if known else "dxm_user_info"
    lines = [
        classifier_pb2.MatchingLine(query_text="个人信息", gallery_text="个人信息", similarity=1.0)
    ]
    score = 0.875 if known else 0.5
    candidates = [
        classifier_pb2.Candidate(
            label=name,
            score=score,
            rank_score=score - 0.125,
            terms=[
                _term("LOOKS", 0.75, 0.5),
                _term("STABLE_TEXT", score - 0.5, score - 0.625),
                _term("MISSING_BRAND", -0.25, 0.0),
            ],
            visual=0.75,
            textual=0.5,
            image_id="a1" * 32,
            matching_lines=lines if query.options.explain else [],
        )
        for name, score in [(closest, score), ("zsyh_user_info", 0.25)]
    ]
    unsure = label.startswith("unsure")
    return classifier_pb2.Classification(
        label=label if known else "other",
        closest_label=closest,
        score=score,
        threshold=0.625,
        doubt=0.5 if unsure else 0.125,
        review=unsure,
        review_reasons=[classifier_pb2.REVIEW_REASON_CLOSE_RUNNER_UP] if unsure else [],
        outputs=[label, "page"] if known else [],
        candidates=candidates[: query.options.top_k],
        reasons=["brand 度小满: visible"] if query.options.explain else [],
        gallery=query.gallery or "default",
        revision=revision,
        encoder_bundle="builtin-1",
        ocr_bundle="" if query.options.ocr == classifier_pb2.OCR_MODE_OFF else "ppocr-6",
        stage_ms={"decode": 2.5, "total": 40.0},
    )


def _term(name: str, score: float, rank_score: float) -> classifier_pb2.ScoreTerm:
    number = classifier_pb2.ScoreTermName.Value(f"SCORE_TERM_NAME_{name}")
    return classifier_pb2.ScoreTerm(name=number, score=score, rank_score=rank_score)
