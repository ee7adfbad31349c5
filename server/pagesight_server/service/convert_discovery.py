"""Discovery and previews as messages, and what their callers ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from pagesight.v1 import review_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError, RequestError
from pagesight_server.curation.discovery import MIN_PICTURES, Discovered
from pagesight_server.gallery.snapshot import check_label
from pagesight_server.service import statuses
from pagesight_server.service.convert_galleries import MAX_AUTHOR_CHARS
from pagesight_server.workflows.preview import Previewed

MAX_CLUSTERS = 100
"""Clusters that one call may dismiss: a person dismisses a screenful."""

MAX_TYPICAL = 5
"""Pictures by which a cluster is dismissed: what is like one of them is like the cluster."""

Unreadable: TypeAlias = Sequence[tuple[int, RequestError]]
"""Places of pictures, from zero, and why each could not be used."""


def min_pictures(asked: int) -> int:
    """The least number of pictures of a cluster.

    Raises:
        InvalidRequestError: a negative number.
    """
    if asked < 0:
        raise InvalidRequestError(f"min_pictures must not be negative; 0 means {MIN_PICTURES}")
    return max(MIN_PICTURES, asked)


def truth(label: str) -> str:
    """The label that a picture is known to have; empty where that is unknown.

    Raises:
        InvalidRequestError: it cannot be a label.
    """
    return check_label(label) if label else ""


def discovery(discovered: Discovered, unreadable: Unreadable) -> pb.Discovery:
    """Makes the result of Discover."""
    return pb.Discovery(
        clusters=[
            pb.Cluster(
                key=cluster.key,
                image_ids=cluster.image_ids,
                shared_texts=cluster.shared_texts,
                suggested_label=cluster.suggested_label,
                closest_label=cluster.closest_label,
                likeness=cluster.likeness,
            )
            for cluster in discovered.clusters
        ],
        single_image_ids=discovered.single_image_ids,
        left_out=discovered.left_out,
        unreadable=_unreadable(unreadable),
    )


def preview(previewed: Previewed, unreadable: Unreadable) -> pb.PreviewResult:
    """Makes the result of Preview."""
    return pb.PreviewResult(
        revision=previewed.revision,
        answered=previewed.answered,
        turned=[
            pb.TurnedAnswer(
                image_id=turned.image_id,
                label_before=turned.before,
                label_after=turned.after,
                truth=turned.truth,
            )
            for turned in previewed.turned
        ],
        right_before=previewed.right_before,
        right_after=previewed.right_after,
        unreadable=_unreadable(unreadable),
    )


def _unreadable(pictures: Unreadable) -> list[pb.UnreadablePicture]:
    return [
        pb.UnreadablePicture(index=index, error=statuses.status_of(error))
        for index, error in pictures
    ]


def check_dismissal(request: pb.DismissClustersRequest) -> None:
    """Refuses what cannot be dismissed, before any picture is looked at.

    Raises:
        InvalidRequestError: no clusters or too many, one without pictures or with too many, or an
            author that is too long.
    """
    if not 1 <= len(request.clusters) <= MAX_CLUSTERS:
        raise InvalidRequestError(
            f"clusters has {len(request.clusters)} entries: name 1 to {MAX_CLUSTERS}"
        )
    for cluster in request.clusters:
        pictures = len(cluster.images) + len(cluster.kept_image_ids)
        if not 1 <= pictures <= MAX_TYPICAL:
            raise InvalidRequestError(
                f"a cluster is dismissed by {pictures} pictures: give 1 to {MAX_TYPICAL}, the most "
                "typical ones"
            )
    if len(request.author) > MAX_AUTHOR_CHARS:
        raise InvalidRequestError(f"author has at most {MAX_AUTHOR_CHARS} characters")
