"""A pagesight server without a model: real sockets, answers that tests can foresee.

    FakeServer ── FakeClassifier   the picture's bytes say what the answer is
               └─ FakeGallery      a gallery in a dict, with the contract's refusals

A picture is its own instruction: b"login" is labelled "login"; b"other" is none of
the known pages; b"bad ..." cannot be decoded; b"busy ..." is shed with a hint;
b"hold ..." waits until the test calls `release()`; b"mute ..." is never answered.
b"hang up" ends the stream with an error, b"leave" without one. b"break ..." does the first
`breaks` times that it comes, b"shed ..." is shed the first `sheds` times; then they are answered.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, NoReturn, TypeAlias

import grpc
from google.protobuf import any_pb2, duration_pb2, timestamp_pb2
from google.rpc import error_details_pb2, status_pb2

from pagesight.v1 import classifier_pb2, gallery_pb2
from pagesight.v1.classifier_pb2_grpc import (
    ClassifierServiceServicer,
    add_ClassifierServiceServicer_to_server,
)
from pagesight.v1.gallery_pb2_grpc import (
    GalleryServiceServicer,
    add_GalleryServiceServicer_to_server,
)
from tests.support import WAIT_S

_Replies: TypeAlias = (
    "queue.SimpleQueue[classifier_pb2.ClassifyStreamRequest | Literal['all read', 'over']]"
)


def status(
    code: grpc.StatusCode, message: str, reason: str, retry_after_ms: int | None = None
) -> status_pb2.Status:
    """Builds a google.rpc.Status as the server does."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="pagesight")]
    if retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        packed.append(box)
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=message, details=packed)


def abort(context: grpc.ServicerContext, error: status_pb2.Status) -> NoReturn:
    """Ends a call with details in its trailing metadata."""
    context.set_trailing_metadata((("grpc-status-details-bin", error.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    context.abort(code, error.message)
    raise AssertionError("abort raises")


class FakeClassifier(ClassifierServiceServicer):
    """Answers what the bytes say, and counts what it owes to streams."""

    def __init__(self) -> None:
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
        outcome = _outcome(request.query, self.retry_after_ms)
        if isinstance(outcome, classifier_pb2.Classification):
            return classifier_pb2.ClassifyResponse(
                request_id=request.request_id, classification=outcome
            )
        abort(context, outcome)

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
        outcome = _outcome(request.query, self.retry_after_ms)
        if request.query.image.startswith(b"shed") and self.sheds:
            self.sheds -= 1
            why = "the queue is full"
            outcome = status(grpc.StatusCode.RESOURCE_EXHAUSTED, why, "OVERLOADED", 20)
        if isinstance(outcome, classifier_pb2.Classification):
            return classifier_pb2.ClassifyStreamResponse(
                request_id=request.request_id, classification=outcome
            )
        return classifier_pb2.ClassifyStreamResponse(request_id=request.request_id, error=outcome)

    def _owe(self, count: int) -> None:
        with self._changed:
            self._owed += count
            self.most_owed = max(self.most_owed, self._owed)
            self._changed.notify_all()


def _outcome(
    query: classifier_pb2.Query, retry_after_ms: int
) -> classifier_pb2.Classification | status_pb2.Status:
    if query.image.startswith(b"bad"):
        message = "the picture is neither JPEG, PNG nor WebP"
        return status(grpc.StatusCode.INVALID_ARGUMENT, message, "IMAGE_UNUSABLE")
    if query.image.startswith(b"busy"):
        return status(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", "OVERLOADED", retry_after_ms
        )
    if query.gallery == "nowhere":
        message = 'there is no gallery "nowhere"'
        return status(grpc.StatusCode.NOT_FOUND, message, "NOT_FOUND")
    label = query.image.decode(errors="replace")
    known = not label.startswith("other")
    closest = label if known else "dxm_user_info"
    lines = [
        classifier_pb2.MatchingLine(query_text="个人信息", gallery_text="个人信息", similarity=1.0)
    ]
    candidates = [
        classifier_pb2.Candidate(
            label=name,
            score=score,
            visual=0.75,
            textual=0.5,
            image_id="a1" * 32,
            matching_lines=lines if query.options.explain else [],
        )
        for name, score in [(closest, 0.875 if known else 0.5), ("zsyh_user_info", 0.25)]
    ]
    return classifier_pb2.Classification(
        label=label if known else "other",
        closest_label=closest,
        score=candidates[0].score,
        threshold=0.625,
        outputs=[label, "page"] if known else [],
        review=label.startswith("unsure"),
        candidates=candidates[: query.options.top_k],
        reasons=["brand 度小满: visible"] if query.options.explain else [],
        gallery=query.gallery or "default",
        revision=7,
        encoder_bundle="builtin-1",
        ocr_bundle="" if query.options.ocr == classifier_pb2.OCR_MODE_OFF else "ppocr-6",
        stage_ms={"decode": 2.5, "total": 40.0},
    )


class FakeGallery(GalleryServiceServicer):
    """Keeps labels by image id; pages hold two entries so that paging happens."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {}
        self.changes: list[gallery_pb2.Change] = []
        self.sources: list[str] = []
        self.labels: dict[str, gallery_pb2.Label] = {}
        self.page_size = 2
        self.refuse_next = 0
        """Changes to answer with UNAVAILABLE before one is made."""
        self.refused: list[gallery_pb2.Change] = []
        self.expects_to_be_left = False
        """Whether an enrolment waits, its items over, for the call to be cancelled. gRPC tells of
        a cancelled call that its items are over, and only a moment later that it is."""
        self.enrol_ended = threading.Event()

    def Enrol(  # noqa: N802
        self, request_iterator: Iterator[gallery_pb2.EnrolRequest], context: Any
    ) -> gallery_pb2.EnrolResponse:
        """Adds what is not "bad"; nothing at all unless the items end properly."""
        left = threading.Event()
        for callback in (left.set, self.enrol_ended.set):
            if not context.add_callback(callback):
                callback()
        header = next(request_iterator)
        if header.WhichOneof("message") != "header":
            abort(context, status(grpc.StatusCode.INVALID_ARGUMENT, "no header", "REQUEST_INVALID"))
        outcomes, added = [], {}
        for message in request_iterator:
            item = message.item
            if item.image == b"too many":
                why = status(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", "LIMIT_REACHED")
                abort(context, why)
            if item.image.startswith(b"bad"):
                why = status(grpc.StatusCode.INVALID_ARGUMENT, "not a picture", "IMAGE_UNUSABLE")
                outcomes.append(gallery_pb2.EnrolOutcome(error=why))
                continue
            image_id = hashlib.sha256(item.image).hexdigest()
            is_new = image_id not in self.images
            added[image_id] = item.label
            self.sources.append(item.source)
            outcomes.append(gallery_pb2.EnrolOutcome(image_id=image_id, added=is_new))
        if left.wait(WAIT_S if self.expects_to_be_left else 0):
            return gallery_pb2.EnrolResponse()
        self._begin(header.header, context)
        self.images |= added
        return gallery_pb2.EnrolResponse(revision=len(self.changes), outcomes=outcomes)

    def Remove(  # noqa: N802
        self, request: gallery_pb2.RemoveRequest, context: Any
    ) -> gallery_pb2.RemoveResponse:
        """Takes images out."""
        self._check(request.image_ids, context)
        self._begin(request.change, context)
        for image_id in request.image_ids:
            del self.images[image_id]
        return gallery_pb2.RemoveResponse(
            revision=len(self.changes), removed=len(request.image_ids)
        )

    def Relabel(  # noqa: N802
        self, request: gallery_pb2.RelabelRequest, context: Any
    ) -> gallery_pb2.RelabelResponse:
        """Gives images another label."""
        self._check(request.image_ids, context)
        self._begin(request.change, context)
        self.images |= dict.fromkeys(request.image_ids, request.label)
        return gallery_pb2.RelabelResponse(
            revision=len(self.changes), relabelled=len(request.image_ids)
        )

    def ListImages(  # noqa: N802
        self, request: gallery_pb2.ListImagesRequest, context: Any
    ) -> gallery_pb2.ListImagesResponse:
        """Lists by label and id."""
        rows = sorted((label, image_id) for image_id, label in self.images.items())
        rows = [row for row in rows if request.label in ("", row[0])]
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or self.page_size)
        return gallery_pb2.ListImagesResponse(
            revision=len(self.changes),
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
                for label, image_id in rows[begin:end]
            ],
            next_page_token=str(end) if end < len(rows) else "",
        )

    def ListHistory(  # noqa: N802
        self, request: gallery_pb2.ListHistoryRequest, context: Any
    ) -> gallery_pb2.ListHistoryResponse:
        """Lists the changes, newest first."""
        numbers = list(range(len(self.changes), 0, -1))
        begin = int(request.page_token or 0)
        end = begin + (request.page_size or self.page_size)
        return gallery_pb2.ListHistoryResponse(
            revisions=[
                gallery_pb2.Revision(
                    revision=number,
                    made_at=_stamp(number),
                    author=self.changes[number - 1].author,
                    kind="enrol",
                    summary=f"enrolled {number} pictures of dxm_user_info",
                    images=number,
                )
                for number in numbers[begin:end]
            ],
            next_page_token=str(end) if end < len(numbers) else "",
        )

    def Rollback(  # noqa: N802
        self, request: gallery_pb2.RollbackRequest, context: Any
    ) -> gallery_pb2.RollbackResponse:
        """Goes back to the empty gallery, the only revision it remembers."""
        if request.to_revision > len(self.changes):
            why = f"there is no revision {request.to_revision}"
            abort(context, status(grpc.StatusCode.NOT_FOUND, why, "NOT_FOUND"))
        self._begin(request.change, context)
        removed = len(self.images)
        self.images.clear()
        return gallery_pb2.RollbackResponse(revision=len(self.changes), restored=0, removed=removed)

    def GetLabels(  # noqa: N802
        self, request: gallery_pb2.GetLabelsRequest, context: Any
    ) -> gallery_pb2.GetLabelsResponse:
        """Reads every label."""
        rows = []
        for label in sorted(set(self.images.values())):
            row = gallery_pb2.Label(label=label)
            row.MergeFrom(self.labels.get(label, row))
            row.images = list(self.images.values()).count(label)
            rows.append(row)
        return gallery_pb2.GetLabelsResponse(revision=len(self.changes), labels=rows)

    def SetLabels(  # noqa: N802
        self, request: gallery_pb2.SetLabelsRequest, context: Any
    ) -> gallery_pb2.SetLabelsResponse:
        """Replaces what is known of the labels that are named."""
        for row in request.labels:
            if row.label not in self.images.values():
                why = f'the gallery has no label "{row.label}"'
                abort(context, status(grpc.StatusCode.NOT_FOUND, why, "NOT_FOUND"))
        self._begin(request.change, context)
        self.labels |= {row.label: row for row in request.labels}
        return gallery_pb2.SetLabelsResponse(revision=len(self.changes))

    def Diagnose(  # noqa: N802
        self, request: gallery_pb2.DiagnoseRequest, context: Any
    ) -> gallery_pb2.DiagnoseResponse:
        """Doubts the first image, holds all for the same, and finds every label thin."""
        ids = sorted(self.images)
        suspects = [
            gallery_pb2.Suspect(
                image_id=image_id,
                label=self.images[image_id],
                suggested_label="<other page>",
                own_score=0.25,
                suggested_score=0.75,
                suggested_image_id=ids[-1],
                neighbours=2,
                foreign_neighbours=2,
                likely=True,
            )
            for image_id in ids[:1]
        ]
        alike = [gallery_pb2.LabelledImage(image_id=i, label=self.images[i]) for i in ids]
        return gallery_pb2.DiagnoseResponse(
            revision=len(self.changes),
            images=len(ids),
            examined=min(len(ids), request.max_images or 2000),
            suspects=suspects,
            duplicates=[gallery_pb2.DuplicateGroup(images=alike)] if len(alike) > 1 else [],
            labels=[
                gallery_pb2.LabelHealth(
                    label=label, images=1, distinct_images=1, unseen_bound=0.95, few=True
                )
                for label in sorted(set(self.images.values()))
            ],
            rejection_bound=0.5,
        )

    def SuggestBrands(  # noqa: N802
        self, request: gallery_pb2.SuggestBrandsRequest, context: Any
    ) -> gallery_pb2.SuggestBrandsResponse:
        """Proposes 度小满 for every label."""
        labels = self.GetLabels(gallery_pb2.GetLabelsRequest(), context)
        name = gallery_pb2.BrandSuggestion(text="度小满", reason="a title", images=1)
        return gallery_pb2.SuggestBrandsResponse(
            revision=labels.revision,
            labels=[
                gallery_pb2.LabelSuggestions(label=row.label, known=row, suggestions=[name])
                for row in labels.labels
            ],
        )

    def GetImage(  # noqa: N802
        self, request: gallery_pb2.GetImageRequest, context: Any
    ) -> gallery_pb2.GetImageResponse:
        """Says which picture of which size it would be."""
        self._check([request.image_id], context)
        data = f"{request.image_id} at {request.max_side_px}".encode()
        return gallery_pb2.GetImageResponse(image=data)

    def _begin(self, change: gallery_pb2.Change, context: Any) -> None:
        if self.refuse_next:
            self.refuse_next -= 1
            self.refused.append(change)
            abort(context, status(grpc.StatusCode.UNAVAILABLE, "not now", "SHUTTING_DOWN"))
        if change.expected_revision not in (0, len(self.changes)):
            why = f"the gallery is at revision {len(self.changes)}"
            abort(context, status(grpc.StatusCode.ABORTED, why, "REVISION_MOVED"))
        self.changes.append(change)

    def _check(self, image_ids: Any, context: Any) -> None:
        for image_id in image_ids:
            if image_id not in self.images:
                why = f"there is no image {image_id}"
                abort(context, status(grpc.StatusCode.NOT_FOUND, why, "NOT_FOUND"))


def _stamp(minute: int) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(datetime(2025, 11, 22, 12, minute, tzinfo=UTC))
    return stamp


class FakeServer:
    """Both services on a free loopback port, for the time of a `with`."""

    def __init__(self) -> None:
        self.classifier = FakeClassifier()
        self.gallery = FakeGallery()
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
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

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
