"""Findings about a gallery as messages, and what a caller says is settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.curation.findings import KEY_DIGITS, Finding, FindingKind
from pagesight_server.gallery import Settlement
from pagesight_server.gallery.snapshot import check_label
from pagesight_server.service.convert_galleries import MAX_AUTHOR_CHARS

MAX_FINDINGS = 1_000
"""Findings that one call may settle: a person settles a screenful."""

MAX_IMAGES = 10_000
"""Pictures of one finding: more almost equal ones than a label is given."""

MAX_NOTE_CHARS = 1_024
"""Longest note on why a finding is settled: a few sentences."""

_KINDS: Mapping[FindingKind, pb.GalleryFindingKind.ValueType] = {
    "wrong_label": pb.GALLERY_FINDING_KIND_WRONG_LABEL,
    "odd_picture": pb.GALLERY_FINDING_KIND_ODD_PICTURE,
    "near_duplicates": pb.GALLERY_FINDING_KIND_NEAR_DUPLICATES,
    "rejected_pictures": pb.GALLERY_FINDING_KIND_REJECTED_PICTURES,
    "hardly_read": pb.GALLERY_FINDING_KIND_HARDLY_READ,
    "no_own_text": pb.GALLERY_FINDING_KIND_NO_OWN_TEXT,
    "few_pictures": pb.GALLERY_FINDING_KIND_FEW_PICTURES,
    "unlike_pictures": pb.GALLERY_FINDING_KIND_UNLIKE_PICTURES,
}
_BY_NUMBER = {number: kind for kind, number in _KINDS.items()}


def findings(
    found: Iterable[Finding], settled: Mapping[str, Settlement]
) -> list[pb.GalleryFinding]:
    """What Diagnose tells of findings, with what was settled of them by key."""
    messages = []
    for finding in found:
        message = pb.GalleryFinding(
            kind=_KINDS[finding.kind],
            labels=finding.labels,
            image_ids=finding.image_ids,
            key=finding.key,
        )
        if (settlement := settled.get(finding.key)) is not None:
            moment = Timestamp()
            moment.FromMilliseconds(settlement.settled_at_ms)
            message.settlement.CopyFrom(
                pb.Settlement(author=settlement.author, note=settlement.note, settled_at=moment)
            )
        messages.append(message)
    return messages


def findings_of(request: pb.SettleFindingsRequest) -> list[Finding]:
    """The findings that a caller settles.

    Raises:
        InvalidRequestError: none or too many, a kind or label that cannot be, or a note or author
            that is too long.
    """
    _check_number(request.findings, "findings")
    if len(request.author) > MAX_AUTHOR_CHARS or len(request.note) > MAX_NOTE_CHARS:
        raise InvalidRequestError(
            f"author has at most {MAX_AUTHOR_CHARS} characters, note {MAX_NOTE_CHARS:,}"
        )
    return [_finding(message) for message in request.findings]


def _finding(message: pb.GalleryFinding) -> Finding:
    kind = _BY_NUMBER.get(message.kind)
    if kind is None or not message.labels or len(message.image_ids) > MAX_IMAGES:
        raise InvalidRequestError(
            "a finding has a kind that this server knows, a label and at most "
            f"{MAX_IMAGES:,} pictures: give it as Diagnose told it"
        )
    return Finding(
        kind=kind,
        labels=tuple(map(check_label, message.labels)),
        image_ids=tuple(image_id.lower() for image_id in message.image_ids),
    )


def keys_of(request: pb.UnsettleFindingsRequest) -> list[str]:
    """The keys that a caller takes back.

    Raises:
        InvalidRequestError: none, too many, or one that cannot be a key.
    """
    _check_number(request.keys, "keys")
    keys = [key.lower() for key in request.keys]
    for key in keys:
        if len(key) != KEY_DIGITS or set(key) - set("0123456789abcdef"):
            raise InvalidRequestError(
                f"{key[:100]!r} is no key of a finding: use the {KEY_DIGITS} hexadecimal digits "
                "that Diagnose tells"
            )
    return keys


def _check_number(values: Sequence[Any], what: str) -> None:
    if not 1 <= len(values) <= MAX_FINDINGS:
        raise InvalidRequestError(f"{what}: give 1 to {MAX_FINDINGS:,}, not {len(values):,}")
