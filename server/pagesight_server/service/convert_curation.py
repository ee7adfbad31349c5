"""Curation as messages: diagnoses, suggested brands, and pictures read back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError, NotFoundError
from pagesight_server.curation.brand_mining import Suggestion, suggest
from pagesight_server.curation.diagnostics import (
    Diagnosis,
    HardlyRead,
    LabelHealth,
    NearDuplicate,
    Suspect,
)
from pagesight_server.curation.own_scores import MAX_EXAMINED
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Picture
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.thumbnails import shrink
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service import convert, convert_galleries

MAX_SIDE_PX = 4_096
"""Of a picture made smaller; larger ones are asked for as they were received."""


def with_near_duplicates(
    result: pb.EnrolResult, duplicates: Mapping[str, Sequence[NearDuplicate]]
) -> pb.EnrolResult:
    """Adds to the outcomes of an enrolment which pictures were almost there already."""
    for outcome in result.outcomes:
        if outcome.added:
            outcome.near_duplicates.extend(map(_near, duplicates.get(outcome.image_id, ())))
    return result


def _near(duplicate: NearDuplicate) -> pb.NearDuplicate:
    return pb.NearDuplicate(
        image_id=duplicate.picture.image_id,
        label=duplicate.picture.label,
        visual=duplicate.visual,
        textual=duplicate.textual,
    )


def max_images(asked: int) -> int:
    """How many pictures a diagnosis examines at most.

    Raises:
        InvalidRequestError: a negative number.
    """
    if asked < 0:
        raise InvalidRequestError(f"max_images must not be negative; 0 means {MAX_EXAMINED}")
    return min(asked or MAX_EXAMINED, MAX_EXAMINED)


def diagnosis(diagnosed: Diagnosis) -> pb.Diagnosis:
    """Makes the result of Diagnose."""
    return pb.Diagnosis(
        revision=diagnosed.revision,
        images=diagnosed.images,
        examined=diagnosed.examined,
        suspects=map(_suspect, diagnosed.suspects),
        duplicates=[
            pb.DuplicateGroup(images=map(_labelled, group)) for group in diagnosed.duplicates
        ],
        labels=map(_health, diagnosed.labels),
        rejection_bound=diagnosed.rejection_bound,
        left_out_images=diagnosed.left_out,
        rejected_images=diagnosed.rejected,
        hardly_read=map(_hardly_read, diagnosed.hardly_read),
    )


def _health(label: LabelHealth) -> pb.LabelHealth:
    message = pb.LabelHealth(
        label=label.label,
        images=label.images,
        distinct_images=label.distinct,
        unseen_bound=label.unseen_bound,
        few=label.few,
        least_looks=label.least_looks,
        rejected_image_ids=[picture.image_id for picture in label.rejected],
        unlike_image_ids=[picture.image_id for picture in label.unlike],
        text_shared_with=label.text_shared_with,
    )
    if label.own is not None:
        message.left_out_images = len(label.own.scores)
        message.mean_score = label.own.mean
        message.least_score = label.own.least
    return message


def _hardly_read(found: HardlyRead) -> pb.HardlyReadImage:
    return pb.HardlyReadImage(
        image_id=found.picture.image_id,
        label=found.picture.label,
        text_lines=found.legibility.lines,
        hardly_read_lines=found.legibility.hardly_read,
    )


def _suspect(suspect: Suspect) -> pb.Suspect:
    return pb.Suspect(
        image_id=suspect.picture.image_id,
        label=suspect.picture.label,
        suggested_label=suspect.suggested.label,
        own_score=suspect.own_score,
        suggested_score=suspect.suggested_score,
        suggested_image_id=suspect.suggested.image_id,
        own_image_id=suspect.own.image_id if suspect.own else "",
        neighbours=suspect.neighbours,
        foreign_neighbours=suspect.foreign,
        likely=suspect.likely,
    )


def _labelled(picture: Picture) -> pb.LabelledImage:
    return pb.LabelledImage(image_id=picture.image_id, label=picture.label)


def suggestions(knowledge: Knowledge, report: Callable[[int, int], None]) -> pb.BrandSuggestions:
    """The result of SuggestBrands; `report` is called with the apps done and those in all."""
    snapshot = knowledge.snapshot
    by_label = suggest(snapshot, progress=report)
    counts = dict.fromkeys(by_label, 0)
    for picture in snapshot.pictures:
        if picture.label in counts:
            counts[picture.label] += 1
    labels = {label.label: label for label in convert_galleries.labels(counts, snapshot.facts)}
    return pb.BrandSuggestions(
        revision=snapshot.revision,
        labels=[
            pb.LabelSuggestions(
                label=label,
                known=labels[label],
                suggestions=map(_suggestion, by_label[label]),
            )
            for label in sorted(by_label)
        ],
    )


def _suggestion(suggestion: Suggestion) -> pb.BrandSuggestion:
    return pb.BrandSuggestion(
        text=suggestion.text, reason=suggestion.why, images=suggestion.pictures
    )


def picture(store: Gallery, request: pb.GetImageRequest, limits: ImageLimits) -> bytes:
    """The bytes of a picture of a gallery, as received or smaller.

    Raises:
        InvalidRequestError: a size that cannot be.
        NotFoundError: the gallery lacks it, or pictures are not kept.
    """
    if not 0 <= request.max_side_px <= MAX_SIDE_PX:
        raise InvalidRequestError(
            f"max_side_px is 0, for the picture as received, to {MAX_SIDE_PX}"
        )
    gallery = convert.gallery_of(request.gallery)
    if not store.has_image(gallery, request.image_id):
        raise NotFoundError(f"gallery {gallery!r} has no image {request.image_id}")
    data = store.image_bytes(request.image_id)
    if data is None:
        raise NotFoundError(
            f"the bytes of image {request.image_id} are not kept (gallery.keep_images)"
        )
    return shrink(data, request.max_side_px, limits) if request.max_side_px else data
