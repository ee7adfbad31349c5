"""Arguments of discovery and previews to messages, and their results back to values.

pictures ── Upload ──> messages, and the places of those that could not be read here
result ──> value; places that the server tells become places among the caller's pictures
"""

from __future__ import annotations

from collections.abc import Iterable, Sized
from itertools import chain

from google.rpc import status_pb2

from pagesight._discovery import (
    Cluster,
    Discovery,
    DismissedCluster,
    PreviewPicture,
    PreviewResult,
    TurnedAnswer,
    UnreadablePicture,
)
from pagesight._errors import PagesightError, from_status
from pagesight._inputs import EnrolItem, ImageSource
from pagesight._requests import read_image
from pagesight.v1 import gallery_pb2, review_pb2


class PictureUpload:
    """Which pictures of a call were sent, and which could not be read here; for one thread."""

    def __init__(self) -> None:
        self._sent: list[int] = []
        self._failed: list[UnreadablePicture] = []

    def read(self, image: ImageSource) -> bytes | None:
        """Returns the bytes of the call's next picture; None where it cannot be read."""
        index = len(self._sent) + len(self._failed)
        try:
            data = read_image(image)
        except PagesightError as error:
            self._failed.append(UnreadablePicture(index=index, error=error))
            return None
        self._sent.append(index)
        return data

    def unreadable(
        self, told: Iterable[review_pb2.UnreadablePicture]
    ) -> tuple[UnreadablePicture, ...]:
        """The pictures that could not be used, here or by the server, in the call's order."""
        theirs = (self._told(picture.index, picture.error) for picture in told)
        return tuple(sorted(chain(self._failed, theirs), key=lambda picture: picture.index))

    def _told(self, place: int, error: status_pb2.Status) -> UnreadablePicture:
        # A server that tells of a picture it was not sent must not break the call.
        index = self._sent[place] if 0 <= place < len(self._sent) else place
        return UnreadablePicture(index=index, error=from_status(error))


class DiscoverUpload(PictureUpload):
    """The messages of one Discover call."""

    def __init__(self, gallery: str, kept: bool, min_pictures: int, pictures: int) -> None:
        super().__init__()
        if min_pictures < 0:
            raise ValueError(f"min_pictures cannot be negative, got {min_pictures}")
        self.header = review_pb2.DiscoverRequest(
            header=review_pb2.DiscoverHeader(
                gallery=gallery, kept=kept, min_pictures=min_pictures, pictures=pictures
            )
        )

    def message(self, image: ImageSource) -> review_pb2.DiscoverRequest | None:
        """Returns what to send for a picture; None when it cannot be read."""
        data = self.read(image)
        if data is None:
            return None
        return review_pb2.DiscoverRequest(picture=review_pb2.DiscoverPicture(image=data))

    def result(self, reply: review_pb2.Discovery) -> Discovery:
        """Reads the result."""
        return Discovery(
            clusters=tuple(
                Cluster(
                    key=cluster.key,
                    image_ids=tuple(cluster.image_ids),
                    shared_texts=tuple(cluster.shared_texts),
                    suggested_label=cluster.suggested_label,
                    closest_label=cluster.closest_label,
                    likeness=cluster.likeness,
                )
                for cluster in reply.clusters
            ),
            single_image_ids=tuple(reply.single_image_ids),
            left_out=reply.left_out,
            unreadable=self.unreadable(reply.unreadable),
        )


class PreviewUpload(PictureUpload):
    """The messages of one Preview call."""

    def __init__(self, gallery: str, kept: bool, pictures: int) -> None:
        super().__init__()
        self.header = review_pb2.PreviewRequest(
            header=review_pb2.PreviewHeader(gallery=gallery, kept=kept, pictures=pictures)
        )

    def message(self, item: EnrolItem | PreviewPicture) -> review_pb2.PreviewRequest | None:
        """Returns what to send for a picture; None when it cannot be read."""
        data = self.read(item.image)
        if data is None:
            return None
        if isinstance(item, EnrolItem):
            return review_pb2.PreviewRequest(
                enrol=gallery_pb2.EnrolItem(image=data, label=item.label, source=item.source)
            )
        return review_pb2.PreviewRequest(
            picture=review_pb2.PreviewPicture(image=data, truth=item.truth)
        )

    def result(self, reply: review_pb2.PreviewResult) -> PreviewResult:
        """Reads the result."""
        return PreviewResult(
            revision=reply.revision,
            answered=reply.answered,
            turned=tuple(
                TurnedAnswer(
                    image_id=turned.image_id,
                    label_before=turned.label_before,
                    label_after=turned.label_after,
                    truth=turned.truth,
                )
                for turned in reply.turned
            ),
            right_before=reply.right_before,
            right_after=reply.right_after,
            unreadable=self.unreadable(reply.unreadable),
        )


def length(*sources: object) -> int:
    """How many pictures there are in all; 0 where one of the sources does not know its own."""
    if not all(isinstance(source, Sized) for source in sources):
        return 0
    return sum(len(source) for source in sources if isinstance(source, Sized))


def dismiss_clusters(
    clusters: Iterable[DismissedCluster], gallery: str, author: str
) -> review_pb2.DismissClustersRequest:
    """Builds which clusters are of no interest.

    Raises:
        PagesightError: A picture cannot be read; nothing is dismissed.
    """
    return review_pb2.DismissClustersRequest(
        gallery=gallery,
        clusters=[
            review_pb2.DismissedCluster(
                images=map(read_image, cluster.images), kept_image_ids=cluster.kept_image_ids
            )
            for cluster in clusters
        ],
        author=author,
    )


def dismissed(message: review_pb2.DismissClustersResponse) -> tuple[str, ...]:
    """Reads the reply to DismissClusters."""
    return tuple(message.keys)
