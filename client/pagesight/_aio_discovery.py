"""Discovery and previews of the client for event loops; `_discovery_calls` says what each does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

from pagesight import _discovery_requests as requests
from pagesight._aio_stream import as_async
from pagesight._changes import Progress
from pagesight._connection import AsyncConnection
from pagesight._discovery import (
    Discovery,
    DismissedCluster,
    PreviewPicture,
    PreviewResult,
)
from pagesight._inputs import EnrolItem, ImageSource
from pagesight._upload import upload_async
from pagesight.v1 import review_pb2 as messages


class AsyncDiscoveryCalls(AsyncConnection):
    """Finds new pages, and says what enrolling would change."""

    async def discover(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource] = (),
        *,
        gallery: str = "",
        kept: bool = False,
        min_pictures: int = 0,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Discovery:
        """Finds new pages as `Client.discover` does.

        Pictures may come from an async iterable. A plain one is read on the event loop, the files
        that it names in a thread.
        """

        async def attempt(left_s: float) -> Discovery:
            sending = requests.DiscoverUpload(gallery, kept, min_pictures, requests.length(images))

            async def sent() -> AsyncIterator[messages.DiscoverRequest]:
                yield sending.header
                async for image in as_async(images):
                    message = await asyncio.to_thread(sending.message, image)
                    if message is not None:
                        yield message

            result = await upload_async(
                self._endpoint, self._review.Discover, sent(), left_s, progress
            )
            return sending.result(result)

        longest_s = math.inf if timeout_s is None else timeout_s
        once = not isinstance(images, Sequence)
        return await self._repeated(attempt, longest_s, once=once)

    async def dismiss_clusters(
        self, clusters: Iterable[DismissedCluster], *, gallery: str = "", author: str = ""
    ) -> tuple[str, ...]:
        """Marks clusters as seen and of no interest, as `Client.dismiss_clusters` does."""
        request = await asyncio.to_thread(requests.dismiss_clusters, clusters, gallery, author)
        return await self._call(self._review.DismissClusters, request, requests.dismissed)

    async def preview(
        self,
        items: Iterable[EnrolItem] | AsyncIterable[EnrolItem],
        pictures: Iterable[PreviewPicture] | AsyncIterable[PreviewPicture] = (),
        *,
        gallery: str = "",
        kept: bool = False,
        timeout_s: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> PreviewResult:
        """Says which answers would turn, as `Client.preview` does.

        Both may come from async iterables. Plain ones are read on the event loop, the files that
        they name in a thread.
        """

        async def attempt(left_s: float) -> PreviewResult:
            sending = requests.PreviewUpload(gallery, kept, requests.length(items, pictures))

            async def sent() -> AsyncIterator[messages.PreviewRequest]:
                yield sending.header
                async for item in as_async(items):
                    message = await asyncio.to_thread(sending.message, item)
                    if message is not None:
                        yield message
                async for picture in as_async(pictures):
                    message = await asyncio.to_thread(sending.message, picture)
                    if message is not None:
                        yield message

            result = await upload_async(
                self._endpoint, self._review.Preview, sent(), left_s, progress
            )
            return sending.result(result)

        longest_s = math.inf if timeout_s is None else timeout_s
        once = not (isinstance(items, Sequence) and isinstance(pictures, Sequence))
        return await self._repeated(attempt, longest_s, once=once)
