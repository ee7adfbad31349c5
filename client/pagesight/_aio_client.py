"""The client for event loops: `_client` with awaits, and nothing else of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any, Unpack, overload

from pagesight import _replies, _requests
from pagesight._aio_discovery import AsyncDiscoveryCalls
from pagesight._aio_gallery import AsyncGalleryCalls
from pagesight._aio_review_calls import AsyncReviewCalls
from pagesight._aio_stream import AsyncStream, read_image
from pagesight._classification import Classification, K, StreamResult
from pagesight._inputs import ClassifyOptions, DefaultKey, ImageSource, Priority
from pagesight._spread import places_of


class AsyncClient(AsyncGalleryCalls, AsyncReviewCalls, AsyncDiscoveryCalls):
    """Asks a pagesight server which known page a screenshot shows, from an event loop.

    Has the methods of `Client`, to await or to iterate with `async for`, and belongs
    to the event loop and the process in which it is first used: in a fork its calls raise
    `RuntimeError`, and so they do where gevent has patched the threads.

    Example:
        >>> async with AsyncClient("127.0.0.1:50051") as client:
        ...     print((await client.classify("screenshot.png")).label)
    """

    async def classify(
        self,
        image: ImageSource,
        *,
        gallery: str = "",
        top_k: int = 0,
        ocr: bool | None = None,
        explain: bool = False,
        deadline_ms: int | None = None,
        priority: Priority | None = None,
        traceparent: str | None = None,
        min_revision: int | None = None,
        keep: bool = True,
    ) -> Classification:
        """Tells which known page one screenshot shows, or `other`; see `Client.classify`."""
        template = _requests.query(
            ClassifyOptions(
                gallery=gallery,
                top_k=top_k,
                ocr=ocr,
                explain=explain,
                deadline_ms=deadline_ms,
                priority=priority,
                traceparent=traceparent,
                min_revision=min_revision,
                keep=keep,
            )
        )
        request = _requests.classify(template, await read_image(image))
        timeout_s = self._endpoint.answer_timeout_s(deadline_ms)
        return await self._call(self._classifier.Classify, request, _replies.classified, timeout_s)

    @overload
    def classify_stream(
        self,
        images: Iterable[tuple[K, ImageSource]] | AsyncIterable[tuple[K, ImageSource]],
        *,
        max_in_flight: int = ...,
        ordered: bool = ...,
        **options: Unpack[ClassifyOptions],
    ) -> AsyncGenerator[StreamResult[K], None]: ...
    @overload
    def classify_stream(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
        *,
        max_in_flight: int = ...,
        ordered: bool = ...,
        **options: Unpack[ClassifyOptions],
    ) -> AsyncGenerator[StreamResult[DefaultKey], None]: ...
    def classify_stream(
        self,
        images: Iterable[Any] | AsyncIterable[Any],
        *,
        max_in_flight: int = 16,
        ordered: bool = False,
        **options: Unpack[ClassifyOptions],
    ) -> AsyncGenerator[StreamResult[Any], None]:
        """Classifies many screenshots over one stream, and yields one result for each.

        As `Client.classify_stream`, but `images` may be an async iterable, and a plain
        one is read on the event loop. To leave the loop early and have the stream
        given up at once, wrap this in `contextlib.aclosing`.
        """
        stream: AsyncStream[Any] = AsyncStream(
            self._endpoint,
            places_of(self._channel),
            images,
            options,
            max_in_flight=max_in_flight,
            ordered=ordered,
        )
        return stream.run(self._classifier, self._streams)
