"""Python's collector of cycles, put off while much is made that has none.

A snapshot of a million pictures is a million objects that live as long as it does. The collector
counts what is made, and walks again and again through all that there is so far.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_blocks = 0
"""How many blocks are running, in all threads."""


@contextmanager
def collection_put_off() -> Iterator[None]:
    """Collects no cycles while its block runs, in any thread; as it was before, afterwards.

    Where blocks overlap the last one to end turns the collector on again. Where it was off
    already it stays off.
    """
    global _blocks
    with _lock:
        if not _blocks and not gc.isenabled():
            off_anyway = True
        else:
            off_anyway = False
            _blocks += 1
            gc.disable()
    try:
        yield
    finally:
        with _lock:
            if not off_anyway:
                _blocks -= 1
                if not _blocks:
                    gc.enable()
