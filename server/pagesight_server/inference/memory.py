"""What decoding takes of a process's memory: bounded while it runs, given back afterwards.

    picture ──as many pixels free?──wait──> decode ──> pixels given back ──> memory given back

Codecs need several bytes for each pixel, beside the three that are kept. Requests are bounded
elsewhere; a few hundred bytes of a request can be 25 megapixels, so pixels are bounded here.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections import deque
from collections.abc import Callable, Iterator

CODEC_BYTES_A_PIXEL = 16
"""The most that a codec holds at its peak for each pixel, measured by `tests/unit/inference/
test_decode_memory.py`: an animated WebP with alpha. Other WebP take 8, PNG 4, JPEG 0 to 4."""


LARGE_PIXELS = 4_000_000
"""Pixels of a picture after which memory is given back; ordinary screenshots have 2.6 million,
whose blocks the next one takes again."""

PAUSE_S = 1.0
"""Time from a large picture to the giving back, once for all that come meanwhile: it takes some
milliseconds, and the allocator's locks."""


class PixelGate:
    """Lets pictures be decoded as long as all of them together have few enough pixels.

    First come, first served: a large picture is not overtaken for ever by small ones.

    Args:
        after: Called with the pixels of each picture that is done.
    """

    def __init__(self, after: Callable[[int], None] = lambda _pixels: None) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._held = 0
        self._after = after

    @property
    def held(self) -> int:
        """Pixels of the pictures that are inside."""
        return self._held

    @property
    def waiting(self) -> int:
        """How many pictures wait for room."""
        return len(self._waiting)

    @contextlib.contextmanager
    def holding(self, pixels: int, most: int) -> Iterator[None]:
        """Blocks until there is room, and keeps it for the time of its block.

        Args:
            pixels: Of the picture.
            most: Of all pictures inside; one that has more by itself is inside alone.
        """
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(
                    lambda: (
                        self._waiting[0] is ticket
                        and (self._held == 0 or self._held + pixels <= most)
                    )
                )
                self._held += pixels
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()
            self._after(pixels)


class Trimmer:
    """Gives memory that is free, but that the allocator keeps, back to the system.

    glibc keeps free blocks of up to 32 MB, such as Pillow's, in its arenas: gigabytes after a
    flood of large pictures. Elsewhere there is nothing to do.

    Args:
        trim: Does it.
        pause_s: How long after a large picture.
    """

    def __init__(self, trim: Callable[[], object] | None = None, pause_s: float = PAUSE_S) -> None:
        self._trim = trim or _malloc_trim()
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._is_due = False

    def after(self, pixels: int) -> None:
        """Has memory given back in a while, if a picture was large."""
        if pixels < LARGE_PIXELS:
            return
        with self._lock:
            if self._is_due:
                return
            self._is_due = True
        timer = threading.Timer(self._pause_s, self._give_back)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            # There are no more threads to be had: a whole picture is not refused for that.
            self._give_back()

    def _give_back(self) -> None:
        with self._lock:
            self._is_due = False
        self._trim()


def _malloc_trim() -> Callable[[], object]:
    """What calls `malloc_trim(0)` of glibc; nothing where there is none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except AttributeError:
        return lambda: None
    return lambda: trim(0)
