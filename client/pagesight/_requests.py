"""Arguments to messages: what both clients send is built here, once.

    path or bytes ── read_image ──> bytes ── query ──> Classify, ClassifyStream
                                       └───> Upload.message ──> Enrol

A picture that cannot be read or sent is an error of that picture, found here,
before anything reaches the wire: a message over the channel's limit would take
the whole stream with it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from typing import get_args

from google.protobuf.field_mask_pb2 import FieldMask

from pagesight import _pixels, _trace
from pagesight._changes import EnrolOutcome, EnrolResult, LabelField
from pagesight._curation import GalleryFinding
from pagesight._curation_replies import KINDS as FINDING_KINDS
from pagesight._errors import InternalError, InvalidImageError, PagesightError, UnreadableFileError
from pagesight._inputs import ChangeOptions, ClassifyOptions, EnrolItem, ImageSource
from pagesight._listings import LabelInfo
from pagesight._replies import enrol_outcome
from pagesight.v1 import classifier_pb2 as classifier
from pagesight.v1 import gallery_pb2 as gallery

MAX_SEND_BYTES = 20 * 1024 * 1024
"""Longest message sent; above the server's image limit, so that the server gets to
say what it allows."""

MAX_IMAGE_BYTES = MAX_SEND_BYTES - 64 * 1024
"""Longest picture sent: the rest of the message fits into what is left."""

_PRIORITIES = {
    None: classifier.PRIORITY_UNSPECIFIED,
    "low": classifier.PRIORITY_LOW,
    "normal": classifier.PRIORITY_NORMAL,
    "high": classifier.PRIORITY_HIGH,
}
_OCR_MODES = {
    None: classifier.OCR_MODE_UNSPECIFIED,
    True: classifier.OCR_MODE_FULL,
    False: classifier.OCR_MODE_OFF,
}
_FINDING_KINDS = {kind: number for number, kind in FINDING_KINDS.items()}


def read_image(image: ImageSource) -> bytes:
    """Returns the bytes of a picture, from memory or from a file.

    Raises:
        UnreadableFileError: The file cannot be read.
        InvalidImageError: It is longer than a message may be, or a PIL image that cannot be sent.
        TypeError: It is neither bytes nor a path nor pixels.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
        _check_length(len(data), "the picture")
        return data
    if not isinstance(image, str | os.PathLike):
        if not _pixels.is_pixels(image):
            raise TypeError(
                "an image is bytes or the path of a file, not "
                f"{type(image).__name__}; PIL images and numpy arrays will do, too"
            )
        data = _pixels.encode(image)
        _check_length(len(data), "the picture as PNG")
        return data
    path = os.fspath(image)
    try:
        with open(path, "rb") as file:
            # One byte more than fits: enough to know, and never a whole disk image.
            data = file.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise UnreadableFileError(
            f"cannot read {path}: {why or error}", reason="FILE_UNREADABLE"
        ) from error
    _check_length(len(data), path)
    return data


def _check_length(length: int, what: str) -> None:
    if length > MAX_IMAGE_BYTES:
        limit_mib = MAX_IMAGE_BYTES / 2**20
        raise InvalidImageError(
            f"{what} is longer than the {limit_mib:.1f} MiB that one message carries",
            reason="IMAGE_TOO_LONG",
        )


def query(options: ClassifyOptions) -> classifier.Query:
    """Builds what screenshots ask, all but the picture.

    Raises:
        TypeError: There is no such option.
        ValueError: An option has a value it cannot have.
    """
    _only_known(options, ClassifyOptions)
    priority = options.get("priority")
    if priority not in _PRIORITIES:
        raise ValueError(f"priority is 'low', 'normal' or 'high', not {priority!r}")
    top_k, deadline_ms = options.get("top_k", 0), options.get("deadline_ms") or 0
    min_revision = options.get("min_revision")
    if min(top_k, deadline_ms, min_revision or 0) < 0:
        raise ValueError(
            "top_k, deadline_ms and min_revision cannot be negative, got "
            f"{top_k}, {deadline_ms} and {min_revision}"
        )
    return classifier.Query(
        gallery=options.get("gallery", ""),
        deadline_ms=deadline_ms,
        priority=_PRIORITIES[priority],
        traceparent=options.get("traceparent") or _trace.traceparent(),
        options=classifier.Options(
            top_k=top_k,
            ocr=_OCR_MODES[options.get("ocr")],
            explain=options.get("explain", False),
        ),
        min_revision=min_revision,
        do_not_keep=not options.get("keep", True),
    )


def classify(template: classifier.Query, image: bytes) -> classifier.ClassifyRequest:
    """Builds the question about one picture."""
    request = classifier.ClassifyRequest(query=template)
    request.query.image = image
    return request


def classify_stream(
    template: classifier.Query, request_id: str, image: bytes
) -> classifier.ClassifyStreamRequest:
    """Builds the question about one picture of a stream."""
    request = classifier.ClassifyStreamRequest(request_id=request_id, query=template)
    request.query.image = image
    return request


def _only_known(options: Mapping[str, object], kind: type[object]) -> None:
    # `**options: Unpack[...]` is checked by type checkers alone.
    unknown = sorted(options.keys() - kind.__annotations__.keys())
    if unknown:
        known = ", ".join(kind.__annotations__)
        raise TypeError(f"no such option: {', '.join(unknown)}; there are {known}")


def change(options: ChangeOptions) -> gallery.Change:
    """Builds what every change carries; a change always has a request_id."""
    _only_known(options, ChangeOptions)
    return gallery.Change(
        gallery=options.get("gallery", ""),
        request_id=options.get("request_id") or uuid.uuid4().hex,
        expected_revision=options.get("expected_revision"),
        author=options.get("author", ""),
    )


def remove(image_ids: Iterable[str], options: ChangeOptions) -> gallery.RemoveRequest:
    """Builds a removal."""
    return gallery.RemoveRequest(change=change(options), image_ids=_several(image_ids))


def relabel(image_ids: Iterable[str], label: str, options: ChangeOptions) -> gallery.RelabelRequest:
    """Builds a change of label."""
    ids = _several(image_ids)
    return gallery.RelabelRequest(change=change(options), image_ids=ids, label=label)


def rollback(to_revision: int, options: ChangeOptions) -> gallery.RollbackRequest:
    """Builds a return to an earlier revision."""
    return gallery.RollbackRequest(change=change(options), to_revision=to_revision)


def _several(image_ids: Iterable[str]) -> list[str]:
    if isinstance(image_ids, str):
        raise TypeError("image_ids is several ids; put a single one into a list")
    return list(image_ids)


def delete_gallery(name: str, options: ChangeOptions) -> gallery.DeleteGalleryRequest:
    """Builds a deletion.

    Raises:
        ValueError: No gallery is named.
    """
    if not name:
        raise ValueError('gallery is empty; name the one to delete, such as "default"')
    return gallery.DeleteGalleryRequest(change=change({**options, "gallery": name}))


def set_labels(
    labels: Iterable[LabelInfo], fields: Iterable[LabelField] | None, options: ChangeOptions
) -> gallery.SetLabelsRequest:
    """Builds what to set of labels.

    Raises:
        ValueError: A field is none that can be set.
    """
    mask = None
    if fields is not None:
        mask = FieldMask(paths=list(fields))
        if unknown := set(mask.paths) - set(get_args(LabelField)):
            raise ValueError(f"fields are 'brands' and 'outputs', not {', '.join(unknown)}")
    return gallery.SetLabelsRequest(
        change=change(options),
        labels=[
            gallery.Label(label=known.label, brands=known.brands, outputs=known.outputs)
            for known in labels
        ],
        update_mask=mask,
    )


def settle_findings(
    findings: Iterable[GalleryFinding], where: str, author: str, note: str
) -> gallery.SettleFindingsRequest:
    """Builds which findings of a gallery are settled.

    Raises:
        ValueError: A finding is of a kind that only a newer client knows.
    """
    findings = list(findings)
    if any(finding.kind == "unknown" for finding in findings):
        raise ValueError("a finding of a kind that this client does not know: upgrade pagesight")
    return gallery.SettleFindingsRequest(
        gallery=where,
        findings=[
            gallery.GalleryFinding(
                kind=_FINDING_KINDS[finding.kind],
                labels=finding.labels,
                image_ids=finding.image_ids,
            )
            for finding in findings
        ],
        author=author,
        note=note,
    )


def unsettle_findings(keys: Iterable[str], where: str) -> gallery.UnsettleFindingsRequest:
    """Builds which findings of a gallery are settled no longer."""
    if isinstance(keys, str):
        raise TypeError("keys is several keys; put a single one into a list")
    return gallery.UnsettleFindingsRequest(gallery=where, keys=keys)


class Upload:
    """The messages of one Enrol call, and which items never became one.

    Not safe to use from two threads at once; each client uses it from one. A call that is
    repeated has an upload of its own, of the same change.
    """

    def __init__(self, change: gallery.Change) -> None:
        self.header = gallery.EnrolRequest(header=change)
        self._failures: list[PagesightError | None] = []

    def message(self, item: EnrolItem) -> gallery.EnrolRequest | None:
        """Returns what to send for an item; None when its picture cannot be read."""
        try:
            image = read_image(item.image)
        except PagesightError as error:
            self._failures.append(error)
            return None
        self._failures.append(None)
        return gallery.EnrolRequest(
            item=gallery.EnrolItem(image=image, label=item.label, source=item.source)
        )

    def result(self, reply: gallery.EnrolResult) -> EnrolResult:
        """Puts the outcomes of what was sent and of what was not in the items' order.

        Raises:
            InternalError: The reply does not have one outcome per item sent.
        """
        sent = self._failures.count(None)
        if len(reply.outcomes) != sent:
            raise InternalError(
                f"the server reports {len(reply.outcomes)} outcomes of {sent} items; "
                f"the gallery is at revision {reply.revision}: list it to see what it holds"
            )
        told = iter(reply.outcomes)
        return EnrolResult(
            revision=reply.revision,
            outcomes=tuple(
                enrol_outcome(next(told))
                if failure is None
                else EnrolOutcome(image_id="", added=False, error=failure)
                for failure in self._failures
            ),
        )
