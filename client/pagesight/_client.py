"""The client for callers with threads; `_aio_client` is the same for event loops.

    call -> _requests builds the message -> gRPC -> _replies reads the reply -> value
                                              └──> _errors: a typed error

Nothing but waiting differs between the two, so that they behave alike.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any, Unpack, overload

from pagesight import _replies, _requests
from pagesight._classification import Classification, K, StreamResult
from pagesight._discovery_calls import DiscoveryCalls
from pagesight._gallery import GalleryCalls
from pagesight._inputs import ClassifyOptions, DefaultKey, ImageSource, Priority
from pagesight._review_calls import ReviewCalls
from pagesight._stream import Stream


class Client(GalleryCalls, ReviewCalls, DiscoveryCalls):
    """Asks a pagesight server which known page a screenshot shows.

    Safe to use from many threads; one is enough for a process. Every method
    raises a `PagesightError` when the server cannot answer, and never because a
    screenshot is `other`.

    It belongs to the process in which it is first used: in a fork of that, its calls
    raise `RuntimeError`. Make it after the fork (gunicorn's `post_fork`, Celery's
    `worker_process_init`), or make no call with it before. Where gevent has patched the
    threads, its calls raise `RuntimeError` until gRPC is told, by
    `grpc.experimental.gevent.init_gevent()` after `gevent.monkey.patch_all()`.

    Example:
        >>> with Client("127.0.0.1:50051") as client:
        ...     print(client.classify("screenshot.png").label)
    """

    def classify(
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
        """Tells which known page one screenshot shows, or `other`.

        Args:
            image: A path, the bytes of a JPEG, PNG or WebP picture, a PIL image or a numpy array.
            gallery: The gallery to look in. Empty: "default".
            top_k: How many candidates to name.
            ocr: Whether text is read. None: the server's default.
            explain: Add reasons and matching lines, which hold text of the screenshot.
            deadline_ms: Milliseconds the server may take. None: no budget.
            priority: Who goes first when screenshots wait. None: normal.
            traceparent: W3C trace context. None: the current OpenTelemetry span, if there is one.
            min_revision: Answer at this revision of the gallery or a later one, as a change
                returned it: then its pictures are found on any replica. None: as it is known.
            keep: False: the server keeps neither answer nor screenshot for review.

        Raises:
            InvalidImageError: The picture cannot be read, here or by the server.
            NotFoundError: There is no such gallery.
            OverloadedError: The server has no room; see `retry_after_s`.
            DeadlineExceededError: There was no answer in time.
            RevisionBehindError: The server does not know `min_revision` yet.
            UnavailableError: No server answers, nor did one for `retry_for_s` of the client.
        """
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
        request = _requests.classify(template, _requests.read_image(image))
        timeout_s = self._endpoint.answer_timeout_s(deadline_ms)
        return self._call(self._classifier.Classify, request, _replies.classified, timeout_s)

    @overload
    def classify_stream(
        self,
        images: Iterable[tuple[K, ImageSource]],
        *,
        max_in_flight: int = ...,
        ordered: bool = ...,
        **options: Unpack[ClassifyOptions],
    ) -> Generator[StreamResult[K], None, None]: ...
    @overload
    def classify_stream(
        self,
        images: Iterable[ImageSource],
        *,
        max_in_flight: int = ...,
        ordered: bool = ...,
        **options: Unpack[ClassifyOptions],
    ) -> Generator[StreamResult[DefaultKey], None, None]: ...
    def classify_stream(
        self,
        images: Iterable[Any],
        *,
        max_in_flight: int = 16,
        ordered: bool = False,
        **options: Unpack[ClassifyOptions],
    ) -> Generator[StreamResult[Any], None, None]:
        """Classifies many screenshots over one stream, and yields one result for each.

        A picture that fails, here or at the server, is the `error` of its own
        result; the others go on. Where there are several servers or connections, the stream
        is spread over those that serve: who answers faster is sent more. One that stops or dies
        has its part taken over by the others; one that comes back or is added has a part again.
        What a server leaves without an answer is sent again, until `retry_for_s` of the client
        have passed since the last answer of any. Leaving the loop early gives the stream up.

        Args:
            images: Pictures as `classify` takes them, or `(key, picture)` pairs. Read
                in a thread of its own, and never further ahead than `max_in_flight`;
                what it raises is raised here, after the answers to what it gave.
            max_in_flight: How many results may be owed at any time.
            ordered: Yield in the order of the inputs instead of as they finish.
            **options: As for `classify`, for every picture.

        Raises:
            PagesightError: The stream itself broke; inputs without a result have none.
        """
        opened = self._open()
        stream: Stream[Any] = Stream(
            self._endpoint,
            opened.places,
            images,
            options,
            max_in_flight=max_in_flight,
            ordered=ordered,
        )
        return stream.run(opened.classifier, self._closed)
