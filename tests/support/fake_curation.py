"""The part of the fake server that says what is wrong with a gallery, and what is settled of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from pagesight.v1 import gallery_pb2
from pagesight.v1.gallery_pb2_grpc import GalleryServiceServicer
from tests.support.refusals import abort, invalid, normal, not_found

OTHER_PAGE = "<other page>"
"""What the fake suggests in place of any label."""

_KEY = re.compile("[0-9a-f]{16}")

MAX_FINDINGS, MAX_AUTHOR_CHARS, MAX_NOTE_CHARS = 1_000, 256, 1_024


class FakeCuration(GalleryServiceServicer):
    """Finds fault with every gallery, and keeps what is settled."""

    def _find(self, name: str, context: Any) -> tuple[str, Any]:
        """The name and the state of a gallery."""
        raise NotImplementedError

    def Diagnose(  # noqa: N802
        self, request: gallery_pb2.DiagnoseRequest, context: Any
    ) -> Iterator[gallery_pb2.DiagnoseResponse]:
        """Doubts the first image and hardly reads it, holds all for the same, every label thin."""
        _, state = self._find(request.gallery, context)
        if request.max_images < 0:
            abort(context, invalid("max_images is negative"))
        ids = sorted(state.images)
        examined = min(len(ids), request.max_images or 2000)
        for done in range(examined + 1):
            progress = gallery_pb2.Progress(done=done, total=examined)
            yield gallery_pb2.DiagnoseResponse(progress=progress)
        suspects = [
            gallery_pb2.Suspect(
                image_id=image_id,
                label=state.images[image_id],
                suggested_label=OTHER_PAGE,
                own_score=0.25,
                suggested_score=0.75,
                suggested_image_id=ids[-1],
                neighbours=2,
                foreign_neighbours=2,
                likely=True,
            )
            for image_id in ids[:1]
        ]
        alike = [gallery_pb2.LabelledImage(image_id=i, label=state.images[i]) for i in ids]
        result = gallery_pb2.Diagnosis(
            revision=state.revision,
            images=len(ids),
            examined=examined,
            suspects=suspects,
            duplicates=[gallery_pb2.DuplicateGroup(images=alike)] if len(alike) > 1 else [],
            labels=[
                gallery_pb2.LabelHealth(
                    label=label,
                    images=1,
                    distinct_images=1,
                    unseen_bound=0.95,
                    few=True,
                    left_out_images=2,
                    rejected_image_ids=ids[:1],
                    mean_score=0.5,
                    least_score=0.375,
                    least_looks=0.25,
                    unlike_image_ids=ids[:1],
                    text_shared_with=[OTHER_PAGE],
                )
                for label in sorted(set(state.images.values()))
            ],
            rejection_bound=0.5,
            left_out_images=2,
            rejected_images=1,
            hardly_read=[
                gallery_pb2.HardlyReadImage(
                    image_id=image_id,
                    label=state.images[image_id],
                    text_lines=20,
                    hardly_read_lines=11,
                )
                for image_id in ids[:1]
            ],
        )
        for finding in _findings(result, state.images):
            if (settlement := state.settled.get(finding.key)) is not None:
                finding.settlement.CopyFrom(settlement)
            result.findings.append(finding)
        yield gallery_pb2.DiagnoseResponse(result=result)

    def SettleFindings(  # noqa: N802
        self, request: gallery_pb2.SettleFindingsRequest, context: Any
    ) -> gallery_pb2.SettleFindingsResponse:
        """Notes who settled what, at noon."""
        _, state = self._find(request.gallery, context)
        too_long = len(request.author) > MAX_AUTHOR_CHARS or len(request.note) > MAX_NOTE_CHARS
        if too_long or not 1 <= len(request.findings) <= MAX_FINDINGS:
            abort(context, invalid("findings, author or note is too long or too short"))
        for finding in request.findings:
            if not finding.kind or not finding.labels:
                abort(context, invalid("a finding has a kind and a label"))
            if {*map(normal, finding.labels)} - {*state.images.values(), OTHER_PAGE}:
                abort(context, not_found("there is no such label"))
            if {*finding.image_ids} - state.images.keys():
                abort(context, not_found("there is no such image"))
        settlement = gallery_pb2.Settlement(author=request.author, note=request.note)
        settlement.settled_at.FromDatetime(datetime(2025, 11, 22, 12, tzinfo=UTC))
        keys = [_key(finding) for finding in request.findings]
        state.settled |= dict.fromkeys(keys, settlement)
        return gallery_pb2.SettleFindingsResponse(keys=keys)

    def UnsettleFindings(  # noqa: N802
        self, request: gallery_pb2.UnsettleFindingsRequest, context: Any
    ) -> gallery_pb2.UnsettleFindingsResponse:
        """Forgets it."""
        _, state = self._find(request.gallery, context)
        keys = [key.lower() for key in request.keys]
        if not 1 <= len(keys) <= MAX_FINDINGS or not all(map(_KEY.fullmatch, keys)):
            abort(context, invalid("keys are 16 hexadecimal digits, at least one"))
        settled = [key for key in keys if state.settled.pop(key, None) is not None]
        return gallery_pb2.UnsettleFindingsResponse(keys=settled)


def _findings(
    diagnosis: gallery_pb2.Diagnosis, images: Mapping[str, str]
) -> Iterator[gallery_pb2.GalleryFinding]:
    """The findings of a diagnosis, as the contract orders them."""

    def finding(kind: str, labels: list[str], image_ids: list[str]) -> gallery_pb2.GalleryFinding:
        made = gallery_pb2.GalleryFinding(
            kind=gallery_pb2.GalleryFindingKind.Value(f"GALLERY_FINDING_KIND_{kind}"),
            labels=labels,
            image_ids=image_ids,
        )
        made.key = _key(made)
        return made

    for one in diagnosis.suspects:
        yield finding("WRONG_LABEL", [one.label, one.suggested_label], [one.image_id])
    for group in diagnosis.duplicates:
        labels = sorted({image.label for image in group.images})
        yield finding("NEAR_DUPLICATES", labels, [image.image_id for image in group.images])
    for label in diagnosis.labels:
        mine = [image_id for image_id, name in images.items() if name == label.label]
        yield finding("REJECTED_PICTURES", [label.label], [*label.rejected_image_ids])
        yield finding("NO_OWN_TEXT", [label.label, *label.text_shared_with], [])
        yield finding("FEW_PICTURES", [label.label], mine)
        yield finding("UNLIKE_PICTURES", [label.label], [*label.unlike_image_ids])
    for read in diagnosis.hardly_read:
        yield finding("HARDLY_READ", [read.label], [read.image_id])


def _key(finding: gallery_pb2.GalleryFinding) -> str:
    about = repr((finding.kind, [*map(normal, finding.labels)], sorted(finding.image_ids)))
    return hashlib.sha256(about.encode()).hexdigest()[:16]
