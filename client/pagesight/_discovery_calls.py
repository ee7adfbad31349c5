"""The client's calls that find new pages and preview enrolments, for callers with threads.

    discover          pictures by likeness: which new pages turn up among them
    dismiss_clusters  of no interest, for good
    preview           which answers would turn if pictures were enrolled

`_aio_discovery` is the same for event loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from pagesight import _discovery_requests as requests
from pagesight._changes import Progress
from pagesight._connection import Connection
from pagesight._discovery import (
    Discovery,
    DismissedCluster,
    PreviewPicture,
    PreviewResult,
)
from pagesight._inputs import EnrolItem, ImageSource
from pagesight._upload import upload
from pagesight.v1 import review_pb2 as messages


class DiscoveryCalls(Connection):
    """Finds new pages, and says what enrolling would change."""

    def discover(
        self,
        images: Iterable[ImageSource] = (),
        *,
        gallery: str = "",
        kept: bool = False,
        min_pictures: int = 0,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Discovery:
        """Sorts pictures by likeness, to find pages among them that the gallery lacks.

        It changes nothing. What is left out and what is new is said at the gallery's present
        revision: after enrolling or dismissing a cluster, the same call tells only what remains.

        Args:
            images: Pictures, as `classify` takes them; read in a thread of its own as the server
                takes them. What a generator gave is gone, so that such a call is never repeated.
            gallery: Whose known pages are left out. Empty: "default".
            kept: Look among the rejected answers that the server keeps for review, too.
            min_pictures: Least number of pictures of a cluster. 0: 2.
            timeout_s: Longest wait for the whole, in seconds. None: as long as it takes, since
                the text of every picture is read.
            progress: Called a few times a second, with how many pictures the server has seen
                and read. Of a generator, whose length nobody knows, the total rises.

        Raises:
            NotFoundError: There is no such gallery.
            ResourceExhaustedError: More pictures than a call may send.
            OverloadedError: The server has no room; see `retry_after_s`.
        """

        def attempt(left_s: float) -> Discovery:
            sending = requests.DiscoverUpload(gallery, kept, min_pictures, requests.length(images))

            def sent() -> Iterator[messages.DiscoverRequest]:
                yield sending.header
                for image in images:
                    if (message := sending.message(image)) is not None:
                        yield message

            result = upload(self._endpoint, self._review.Discover, sent(), left_s, progress)
            return sending.result(result)

        longest_s = math.inf if timeout_s is None else timeout_s
        once = not isinstance(images, Sequence)
        return self._repeated(attempt, longest_s, once=once)

    def dismiss_clusters(
        self, clusters: Iterable[DismissedCluster], *, gallery: str = "", author: str = ""
    ) -> tuple[str, ...]:
        """Marks clusters as seen and of no interest, for everybody and for good.

        Args:
            clusters: Their most typical pictures: at least one cluster, at most 100.
            gallery: Empty: "default".
            author: Who dismisses them.

        Returns:
            The key of each, in their order.

        Raises:
            InvalidImageError: A picture cannot be read; nothing is dismissed.
            NotFoundError: There is no such gallery, or the server keeps no such picture.
        """
        request = requests.dismiss_clusters(clusters, gallery, author)
        return self._call(self._review.DismissClusters, request, requests.dismissed)

    def preview(
        self,
        items: Iterable[EnrolItem],
        pictures: Iterable[PreviewPicture] = (),
        *,
        gallery: str = "",
        kept: bool = False,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> PreviewResult:
        """Says which answers would turn if pictures were enrolled, and enrols none.

        Args:
            items: What would be enrolled.
            pictures: What to answer before and after, such as labelled pictures for validation.
            gallery: Empty: "default".
            kept: Answer the pictures that the server keeps for review, too.
            timeout_s: Longest wait for the whole, in seconds. None: as long as it takes, since
                the text of every picture is read and the gallery is calibrated as if enrolled.
            progress: Called a few times a second, with how many pictures the server has seen
                and read. Of a generator, whose length nobody knows, the total rises.

        Raises:
            ResourceExhaustedError: More pictures than a call may send, or a gallery may hold.
            OverloadedError: The server has no room; see `retry_after_s`.
        """

        def attempt(left_s: float) -> PreviewResult:
            sending = requests.PreviewUpload(gallery, kept, requests.length(items, pictures))

            def sent() -> Iterator[messages.PreviewRequest]:
                yield sending.header
                sources: Iterable[EnrolItem | PreviewPicture] = chain(items, pictures)
                for item in sources:
                    if (message := sending.message(item)) is not None:
                        yield message

            result = upload(self._endpoint, self._review.Preview, sent(), left_s, progress)
            return sending.result(result)

        longest_s = math.inf if timeout_s is None else timeout_s
        once = not (isinstance(items, Sequence) and isinstance(pictures, Sequence))
        return self._repeated(attempt, longest_s, once=once)
