"""The part of the fake server that keeps galleries in memory, and refuses as the contract says."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import grpc
from google.protobuf import timestamp_pb2

from pagesight.v1 import gallery_pb2, review_pb2
from tests.support import WAIT_S
from tests.support.fake_curation import FakeCuration
from tests.support.refusals import abort, invalid, label_refusal, normal, not_found, status

R = TypeVar("R", bound=Any)


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
        refusal = label_refusal(label, item.source)
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
        if (refusal := label_refusal(label)) is not None:
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
            refusal = label_refusal(normal(row.label))
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
