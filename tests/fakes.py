"""A pagesight server without a model: real sockets, answers that tests can foresee.

    FakeServer ── FakeClassifier   the picture's bytes say what the answer is
               ├─ FakeGallery      galleries in dicts, with the contract's refusals
               │    └ FakeCuration what is wrong with them, and what is settled
               └─ FakeReview       answers kept for a person, and decisions
                    └ FakeDiscovery new pages and previews

A picture is its own instruction: b"login" is labelled "login"; b"other" is none of
the known pages; b"bad ..." cannot be decoded; b"busy ..." is shed with a hint;
b"hold ..." waits until the test calls `release()`; b"mute ..." is never answered.
b"hang up" ends the stream with an error, b"leave" without one. b"break ..." does the first
`breaks` times that it comes, b"shed ..." is shed the first `sheds` times; then they are answered.

That both obey the contract is tested together with the real server: tests/contract.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TypeAlias, TypeVar

import grpc
from google.protobuf import timestamp_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from pagesight.v1 import classifier_pb2, gallery_pb2, review_pb2
from pagesight.v1.classifier_pb2_grpc import (
    ClassifierServiceServicer,
    add_ClassifierServiceServicer_to_server,
)
from pagesight.v1.gallery_pb2_grpc import (
    add_GalleryServiceServicer_to_server,
)
from pagesight.v1.review_pb2_grpc import add_ReviewServiceServicer_to_server
from tests.support import WAIT_S
from tests.support.fake_curation import FakeCuration
from tests.support.fake_review import FakeReview
from tests.support.refusals import abort, invalid, normal, not_found, status

R = TypeVar("R", bound=Any)
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
        return image.startswith(b"break") and self._broken[image] <= self.breaks

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
            return classifier_pb2.ClassifyStreamResponse(
                request_id=request.request_id, classification=outcome
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


_LABEL = re.compile(
    r"[^/\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]{1,128}"
)
MAX_SOURCE_CHARS = 1_024


def _refusal(label: str, source: str = "") -> status_pb2.Status | None:
    """Why a picture cannot be enrolled under a label, whatever it shows."""
    if not _LABEL.fullmatch(label) or label != label.strip() or label in {".", ".."}:
        return invalid(f"{label!r} cannot be a label")
    if len(source) > MAX_SOURCE_CHARS:
        return invalid(f"source has {len(source)} characters")
    return None


@dataclass
class FakeState:
    """One gallery."""

    revision: int = 0
    exists: bool = False
    images: dict[str, str] = field(default_factory=dict)
    """Label by image id."""
    labels: dict[str, gallery_pb2.Label] = field(default_factory=dict)
    """What is known of each label."""
    history: list[gallery_pb2.Revision] = field(default_factory=list)
    past: dict[int, tuple[dict[str, str], dict[str, gallery_pb2.Label]]] = field(
        default_factory=lambda: {0: ({}, {})}
    )
    """Images and labels by revision."""
    answers: dict[str, Any] = field(default_factory=dict)
    """By request_id."""
    settled: dict[str, gallery_pb2.Settlement] = field(default_factory=dict)
    """Settlements by the key of the finding."""
    kept: dict[str, review_pb2.KeptAnswer] = field(default_factory=dict)
    """Answers kept for review by image id, the oldest first."""
    decisions: dict[str, review_pb2.Decision] = field(default_factory=dict)
    """By id, in the order in which they were made."""
    dismissed: list[bytes] = field(default_factory=list)
    """Pictures of dismissed clusters."""


class FakeGallery(FakeCuration):
    """Galleries in memory; pages hold two entries so that paging happens."""

    def __init__(self) -> None:
        self.galleries: dict[str, FakeState] = {}
        """By name; deleted ones stay, to go on from their last revision."""
        self.changes: list[gallery_pb2.Change] = []
        """Those that were made, of all galleries."""
        self.sources: list[str] = []
        self.page_size = 2
        self.max_enrol_items = 1_000
        """Pictures of one Enrol call."""
        self.refuse_next = 0
        """Changes to answer with UNAVAILABLE before one is made."""
        self.refused: list[gallery_pb2.Change] = []
        self.expects_to_be_left = False
        """Whether an enrolment waits, its items over, for the call to be cancelled. gRPC tells of
        a cancelled call that its items are over, and only a moment later that it is."""
        self.enrol_ended = threading.Event()

    def __getitem__(self, name: str) -> FakeState:
        """A gallery; an empty one where there is none."""
        return self.galleries.get(name, FakeState())

    @property
    def images(self) -> dict[str, str]:
        """Label by image id, of the default gallery."""
        return self["default"].images

    @property
    def labels(self) -> dict[str, gallery_pb2.Label]:
        """What is known of each label of the default gallery."""
        return self["default"].labels

    # --- galleries ---

    def ListGalleries(  # noqa: N802
        self, request: gallery_pb2.ListGalleriesRequest, context: Any
    ) -> gallery_pb2.ListGalleriesResponse:
        """Lists by name."""
        names = sorted(name for name, state in self.galleries.items() if state.exists)
        page, token = self._page(names, request, context)
        return gallery_pb2.ListGalleriesResponse(
            galleries=map(self._shown, page), next_page_token=token
        )

    def GetGallery(  # noqa: N802
        self, request: gallery_pb2.GetGalleryRequest, context: Any
    ) -> gallery_pb2.GetGalleryResponse:
        """Shows one."""
        name, _ = self._find(request.gallery, context)
        return gallery_pb2.GetGalleryResponse(gallery=self._shown(name))

    def DeleteGallery(  # noqa: N802
        self, request: gallery_pb2.DeleteGalleryRequest, context: Any
    ) -> gallery_pb2.DeleteGalleryResponse:
        """Deletes one."""
        if not request.change.gallery:
            abort(context, invalid("change.gallery is empty"))

        def work(state: FakeState) -> tuple[str, gallery_pb2.DeleteGalleryResponse]:
            removed = len(state.images)
            state.images, state.labels, state.answers, state.settled = {}, {}, {}, {}
            state.kept, state.decisions, state.dismissed = {}, {}, []
            state.exists = False
            return f"deleted with {removed}", gallery_pb2.DeleteGalleryResponse(removed=removed)

        return self._change(request.change, "DELETE", context, work)

    def _shown(self, name: str) -> gallery_pb2.Gallery:
        state = self.galleries[name]
        labels = set(state.images.values())
        return gallery_pb2.Gallery(
            name=name,
            revision=state.revision,
            images=len(state.images),
            labels=sum(not (label == "other" or label.startswith("other_")) for label in labels),
            encoder_bundle="builtin-1",
            ocr_bundle="ppocr-6",
            calibration=gallery_pb2.Calibration(
                threshold_with_text=0.625,
                threshold_without_text=0.5,
                epsilon=0.05,
                source=gallery_pb2.CALIBRATION_SOURCE_GALLERY,
                images=len(state.images),
                revision=state.revision,
                rejected_with_text=0.25,
                rejected_without_text=0.5,
            ),
        )

    # --- changes ---

    def Enrol(  # noqa: N802
        self, request_iterator: Iterator[gallery_pb2.EnrolRequest], context: Any
    ) -> Iterator[gallery_pb2.EnrolResponse]:
        """Adds what is not "bad"; nothing at all unless the items end properly."""
        left = threading.Event()
        for callback in (left.set, self.enrol_ended.set):
            if not context.add_callback(callback):
                callback()
        header = next(request_iterator)
        if header.WhichOneof("message") != "header":
            abort(context, invalid("no header"))
        items: list[gallery_pb2.EnrolItem] = []
        for message in request_iterator:
            if message.item.image == b"too many":
                why = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", "LIMIT_REACHED")
                abort(context, why)
            if len(items) == self.max_enrol_items:
                told = (
                    f"one call enrols at most {self.max_enrol_items} pictures and 268,435,456 bytes"
                )
                abort(context, status(grpc.StatusCode.RESOURCE_EXHAUSTED, told, "LIMIT_REACHED"))
            items.append(message.item)
        if left.wait(WAIT_S if self.expects_to_be_left else 0):
            return
        for done in range(len(items) + 1):
            progress = gallery_pb2.Progress(done=done, total=len(items))
            yield gallery_pb2.EnrolResponse(progress=progress)

        def work(state: FakeState) -> tuple[str, gallery_pb2.EnrolResult]:
            outcomes = [self._enrolled(item, state) for item in items]
            added = sum(outcome.added for outcome in outcomes)
            return f"enrolled {added}" if added else "", gallery_pb2.EnrolResult(outcomes=outcomes)

        result = self._change(header.header, "ENROL", context, work, create=True)
        yield gallery_pb2.EnrolResponse(result=result)

    def _enrolled(self, item: gallery_pb2.EnrolItem, state: FakeState) -> gallery_pb2.EnrolOutcome:
        label = normal(item.label)
        if item.image.startswith(b"bad"):
            why = status(grpc.StatusCode.INVALID_ARGUMENT, "not a picture", "IMAGE_UNUSABLE")
            return gallery_pb2.EnrolOutcome(error=why)
        image_id = hashlib.sha256(item.image).hexdigest()
        refusal = _refusal(label, item.source)
        present = state.images.get(image_id)
        if refusal is None and present not in (None, label):
            why_not = f"the same picture is enrolled as {present!r}"
            refusal = status(grpc.StatusCode.ALREADY_EXISTS, why_not, "OTHER_LABEL")
        if refusal is not None:
            return gallery_pb2.EnrolOutcome(image_id=image_id, error=refusal)
        self.sources.append(item.source)
        state.images[image_id] = label
        return gallery_pb2.EnrolOutcome(image_id=image_id, added=present is None)

    def Remove(  # noqa: N802
        self, request: gallery_pb2.RemoveRequest, context: Any
    ) -> gallery_pb2.RemoveResponse:
        """Takes images out."""

        def work(state: FakeState) -> tuple[str, gallery_pb2.RemoveResponse]:
            self._check(request.image_ids, state, context)
            for image_id in request.image_ids:
                del state.images[image_id]
            removed = len(request.image_ids)
            return f"removed {removed}", gallery_pb2.RemoveResponse(removed=removed)

        return self._change(request.change, "REMOVE", context, work)

    def Relabel(  # noqa: N802
        self, request: gallery_pb2.RelabelRequest, context: Any
    ) -> gallery_pb2.RelabelResponse:
        """Gives images another label."""
        label = normal(request.label)
        if (refusal := _refusal(label)) is not None:
            abort(context, refusal)

        def work(state: FakeState) -> tuple[str, gallery_pb2.RelabelResponse]:
            self._check(request.image_ids, state, context)
            others = [i for i in request.image_ids if state.images[i] != label]
            state.images |= dict.fromkeys(others, label)
            summary = f"relabelled {len(others)}" if others else ""
            return summary, gallery_pb2.RelabelResponse(relabelled=len(others))

        return self._change(request.change, "RELABEL", context, work)

    def Rollback(  # noqa: N802
        self, request: gallery_pb2.RollbackRequest, context: Any
    ) -> gallery_pb2.RollbackResponse:
        """Goes back to any revision."""
        if not request.HasField("to_revision"):
            abort(context, invalid("to_revision is absent"))

        def work(state: FakeState) -> tuple[str, gallery_pb2.RollbackResponse]:
            if request.to_revision not in state.past:
                abort(context, not_found(f"there is no revision {request.to_revision}"))
            images, labels = state.past[request.to_revision]
            restored = sum(state.images.get(i) != label for i, label in images.items())
            removed = len(state.images.keys() - images.keys())
            state.images, state.labels = dict(images), dict(labels)
            response = gallery_pb2.RollbackResponse(restored=restored, removed=removed)
            return f"rolled back to {request.to_revision}", response

        return self._change(request.change, "ROLLBACK", context, work)

    def SetLabels(  # noqa: N802
        self, request: gallery_pb2.SetLabelsRequest, context: Any
    ) -> gallery_pb2.SetLabelsResponse:
        """Sets what the mask names, or without one what is not empty."""
        fields = ("brands", "outputs")
        masked = set(request.update_mask.paths)
        if masked - {*fields, "*"}:
            abort(context, invalid(f"update_mask names {masked}"))
        if "*" in masked:
            masked = set(fields)
        names = [normal(row.label) for row in request.labels]
        for row in request.labels:
            refusal = _refusal(normal(row.label))
            if refusal is None and not all(n.strip() for n in (*row.brands, *row.outputs)):
                refusal = invalid("a name is empty")
            if refusal is not None or len(set(names)) < len(names):
                abort(context, refusal or invalid("a label is named twice"))

        def work(state: FakeState) -> tuple[str, gallery_pb2.SetLabelsResponse]:
            for label in names:
                if label not in state.images.values():
                    abort(context, not_found(f'the gallery has no label "{label}"'))
            changed = 0
            for label, row in zip(names, request.labels, strict=True):
                before = state.labels.get(label, gallery_pb2.Label(label=label))
                after = gallery_pb2.Label()
                after.CopyFrom(before)
                for name in fields:
                    given = [normal(value) for value in getattr(row, name)]
                    if name in masked if request.HasField("update_mask") else given:
                        del getattr(after, name)[:]
                        getattr(after, name).extend(given)
                changed += after != before
                state.labels[label] = after
            return f"set {changed}" if changed else "", gallery_pb2.SetLabelsResponse()

        return self._change(request.change, "SET_LABELS", context, work)

    def _change(
        self,
        change: gallery_pb2.Change,
        kind: str,
        context: Any,
        work: Callable[[FakeState], tuple[str, R]],
        *,
        create: bool = False,
    ) -> R:
        """Makes a change once: `work` returns what it did, nothing if nothing, and the response."""
        if self.refuse_next:
            self.refuse_next -= 1
            self.refused.append(change)
            abort(context, status(grpc.StatusCode.UNAVAILABLE, "not now", "SHUTTING_DOWN"))
        name = normal(change.gallery) or "default"
        state = self.galleries.get(name, FakeState())
        if change.request_id in state.answers:
            answer: R
            asked, answer = state.answers[change.request_id]
            if asked != kind:
                abort(context, invalid("request_id was used for another kind of change"))
            return answer
        if not state.exists and not create:
            abort(context, not_found(f'there is no gallery "{name}"'))
        now = state.revision if state.exists else 0
        if change.HasField("expected_revision") and change.expected_revision != now:
            if change.expected_revision < 0:
                abort(context, invalid("expected_revision is negative"))
            why = f"the gallery is at revision {now}"
            abort(context, status(grpc.StatusCode.ABORTED, why, "REVISION_MOVED"))
        existed, state.exists = state.exists, True
        summary, response = work(state)
        if summary:
            state.revision += 1
            state.past[state.revision] = (dict(state.images), dict(state.labels))
            state.history.append(
                gallery_pb2.Revision(
                    revision=state.revision,
                    made_at=_stamp(state.revision),
                    author=change.author,
                    kind=gallery_pb2.RevisionKind.Value(f"REVISION_KIND_{kind}"),
                    summary=summary,
                    images=len(state.images),
                )
            )
            self.galleries[name] = state
            self.changes.append(change)
        elif not existed:
            state.exists = False
        response.revision = state.revision if summary or existed else 0
        if change.request_id and (summary or existed):
            state.answers[change.request_id] = (kind, response)
        return response

    # --- reading ---

    def ListImages(  # noqa: N802
        self, request: gallery_pb2.ListImagesRequest, context: Any
    ) -> gallery_pb2.ListImagesResponse:
        """Lists by label and id."""
        _, state = self._find(request.gallery, context)
        rows = sorted((label, image_id) for image_id, label in state.images.items())
        page, token = self._page(
            [row for row in rows if normal(request.label) in ("", row[0])], request, context
        )
        return gallery_pb2.ListImagesResponse(
            revision=state.revision,
            images=[
                gallery_pb2.Image(
                    image_id=image_id,
                    label=label,
                    source="phone/1.png",
                    author="mei",
                    added_at=_stamp(1),
                    added_revision=1,
                    width_px=1080,
                    height_px=2400,
                    text_lines=27,
                )
                for label, image_id in page
            ],
            next_page_token=token,
        )

    def ListHistory(  # noqa: N802
        self, request: gallery_pb2.ListHistoryRequest, context: Any
    ) -> gallery_pb2.ListHistoryResponse:
        """Lists the changes, newest first."""
        _, state = self._find(request.gallery, context)
        page, token = self._page(state.history[::-1], request, context)
        return gallery_pb2.ListHistoryResponse(revisions=page, next_page_token=token)

    def GetLabels(  # noqa: N802
        self, request: gallery_pb2.GetLabelsRequest, context: Any
    ) -> gallery_pb2.GetLabelsResponse:
        """Reads every label."""
        _, state = self._find(request.gallery, context)
        rows = []
        for label in sorted(set(state.images.values())):
            row = gallery_pb2.Label(label=label)
            row.MergeFrom(state.labels.get(label, row))
            row.images = list(state.images.values()).count(label)
            rows.append(row)
        return gallery_pb2.GetLabelsResponse(revision=state.revision, labels=rows)

    def SuggestBrands(  # noqa: N802
        self, request: gallery_pb2.SuggestBrandsRequest, context: Any
    ) -> Iterator[gallery_pb2.SuggestBrandsResponse]:
        """Proposes 度小满 for every label."""
        asked = gallery_pb2.GetLabelsRequest(gallery=request.gallery)
        labels = self.GetLabels(asked, context)
        for done in (0, 1):
            progress = gallery_pb2.Progress(done=done, total=1)
            yield gallery_pb2.SuggestBrandsResponse(progress=progress)
        name = gallery_pb2.BrandSuggestion(text="度小满", reason="a title", images=1)
        result = gallery_pb2.BrandSuggestions(
            revision=labels.revision,
            labels=[
                gallery_pb2.LabelSuggestions(label=row.label, known=row, suggestions=[name])
                for row in labels.labels
            ],
        )
        yield gallery_pb2.SuggestBrandsResponse(result=result)

    def GetImage(  # noqa: N802
        self, request: gallery_pb2.GetImageRequest, context: Any
    ) -> gallery_pb2.GetImageResponse:
        """Says which picture of which size it would be."""
        _, state = self._find(request.gallery, context)
        self._check([request.image_id], state, context)
        data = f"{request.image_id} at {request.max_side_px}".encode()
        return gallery_pb2.GetImageResponse(image=data)

    def _find(self, name: str, context: Any) -> tuple[str, FakeState]:
        name = normal(name) or "default"
        state = self.galleries.get(name)
        if state is None or not state.exists:
            abort(context, not_found(f'there is no gallery "{name}"'))
        return name, state

    def _page(self, rows: list[Any], request: Any, context: Any) -> tuple[list[Any], str]:
        """The rows that are asked for, and where the next page begins."""
        if request.page_size < 0:
            abort(context, invalid("page_size is negative"))
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or self.page_size)
        return rows[begin:end], str(end) if end < len(rows) else ""

    def _check(self, image_ids: Iterable[str], state: FakeState, context: Any) -> None:
        if not image_ids:
            abort(context, invalid("image_ids is empty"))
        for image_id in image_ids:
            if image_id not in state.images:
                abort(context, not_found(f"there is no image {image_id}"))


def _stamp(minute: int) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(datetime(2025, 11, 22, 12, minute, tzinfo=UTC))
    return stamp


class FakeServer:
    """All services on a loopback port, for the time of a `with`.

    Args:
        port: Where to listen, as a server that comes back does. 0: a free port.
        host: Which of this machine's loopback addresses.
    """

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._host = host
        self.gallery = FakeGallery()
        self.review = FakeReview(
            lambda name, call: self.gallery._find(name, call)[1],
            lambda name: self.gallery[normal(name) or "default"],
            _refusal,
        )
        self.classifier = FakeClassifier(
            lambda name: self.gallery[name].revision,
            lambda image, answer: self.review.keep(image, answer, self.gallery[answer.gallery]),
        )
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="fake-server")
        self._server = grpc.server(
            self._pool,
            options=[
                ("grpc.max_receive_message_length", 32 * 1024 * 1024),
                # Clients that probe more often than every five minutes are hung up otherwise.
                ("grpc.http2.max_ping_strikes", 0),
            ],
        )
        add_ClassifierServiceServicer_to_server(self.classifier, self._server)
        add_GalleryServiceServicer_to_server(self.gallery, self._server)
        add_ReviewServiceServicer_to_server(self.review, self._server)
        self._health = health.HealthServicer()
        add_HealthServicer_to_server(self._health, self._server)
        self.serve(True)
        self.port = self._server.add_insecure_port(f"{host}:{port}")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"{self._host}:{self.port}"

    def serve(self, serving: bool) -> None:
        """Says from now on that it serves, or not; it answers all the same."""
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(
            "SERVING" if serving else "NOT_SERVING"
        )
        for service in ("ClassifierService", "GalleryService", "ReviewService"):
            self._health.set(f"pagesight.v1.{service}", status)

    def stop(self) -> None:
        """Stops at once; calls under way end as UNAVAILABLE or CANCELLED."""
        self.classifier.release()
        self._server.stop(None).wait(WAIT_S)
        self._pool.shutdown(wait=True)

    def __enter__(self) -> FakeServer:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
