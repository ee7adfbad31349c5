"""Messages of galleries and their changes to values, and values to messages. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.gallery import Applied, Change, ChangeKind, GalleryInfo, ListedImage, Revision
from pagesight_server.gallery.snapshot import LabelFacts, LabelUpdate, check_label, check_names
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service.convert import gallery_of, timestamp
from pagesight_server.service.statuses import make_status

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


def change_of(change: gpb.Change) -> Change:
    """Reads what every change carries.

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
    """Makes the answer to an Enrol call."""
    return gpb.EnrolResult(
        revision=applied.revision,
        outcomes=[
            gpb.EnrolOutcome(
                image_id=outcome.image_id,
                added=outcome.added,
                error=make_status(*outcome.error) if outcome.error else None,
            )
            for outcome in applied.outcomes
        ],
    )


def image(listed: ListedImage) -> gpb.Image:
    """Makes one image of a listing."""
    return gpb.Image(
        image_id=listed.image_id,
        label=listed.label,
        source=listed.source,
        author=listed.author,
        added_at=timestamp(listed.added_at_ms),
        added_revision=listed.added_revision,
        width_px=listed.width_px,
        height_px=listed.height_px,
        text_lines=listed.text_lines,
    )


def revision(made: Revision) -> gpb.Revision:
    """Makes one change of a history."""
    return gpb.Revision(
        revision=made.revision,
        made_at=timestamp(made.made_at_ms),
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
        InvalidRequestError: a label that cannot be or is named twice, names that are empty, too
            long or too many, or a path of the mask that is no field of a label that can be set.
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
