"""What callers hand to the client, as plain values: pictures, and what is to be done with them.

classify, classify_stream(ImageSource, ClassifyOptions)
enrol(EnrolItem), remove, relabel, rollback, set_labels(ChangeOptions)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from pagesight._pixels import PilImage, PixelArray

ImageSource: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | PilImage | PixelArray"
)
"""The bytes of a JPEG, PNG or WebP picture, the path of a file that holds them, or pixels: a PIL
image or a numpy array (uint8, height x width, or x 3 RGB, or x 4 RGBA), sent as PNG.
A PIL image is turned as its EXIF says; one that cannot be sent is an `InvalidImageError`."""

DefaultKey: TypeAlias = "str | os.PathLike[str] | int"
"""The key of an input given without one: its path, or for bytes its position from 0."""

Priority: TypeAlias = Literal["low", "normal", "high"]
"""low: backfills, evaluations; high: a person is waiting."""


class ClassifyOptions(TypedDict, total=False):
    """What to do with each screenshot; everything left out is the server's default."""

    gallery: str
    """The gallery to look in. Empty: "default"."""
    top_k: int
    """How many candidates the reply names. 0: none."""
    ocr: bool | None
    """Whether text is read. None: the server's default."""
    explain: bool
    """Add reasons and matching lines: the reply then carries text of the screenshot."""
    deadline_ms: int | None
    """Milliseconds the server may take, counted from arrival. None: no budget."""
    priority: Priority | None
    """Who goes first when screenshots wait. None: normal."""
    traceparent: str | None
    """W3C trace context of this screenshot. None: the current OpenTelemetry span,
    if the program has loaded OpenTelemetry; else that of the call."""
    min_revision: int | None
    """Answer at this revision of the gallery or a later one, as a change returned it: what was
    enrolled is then found on any replica. The server waits for it as long as `deadline_ms` allows,
    without one 5 seconds. None: what the server knows now."""
    keep: bool
    """False: the server keeps neither answer nor screenshot for review, whatever its `review.keep`
    says; for programs that show them to a person themselves. True: it may."""


class ChangeOptions(TypedDict, total=False):
    """What every change of a gallery may carry."""

    gallery: str
    """The gallery to change. Empty: "default". Enrolling creates it."""
    author: str
    """Who makes the change, for the history."""
    request_id: str
    """A change repeated under the same id is made once. Empty: a fresh id."""
    expected_revision: int | None
    """Fail with `AbortedError` unless the gallery is at it. 0: unless there is no gallery of this
    name. None: whatever it is at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolItem:
    """Holds one screenshot to teach, and the page that it shows."""

    image: ImageSource
    label: str
    """The page it shows: 1 to 128 characters, no "/", no control characters, line separators or
    marks that turn the direction of text."""
    source: str = ""
    """Where it came from, for the history: at most 1024 characters."""
