"""How urgent the work at hand is, from the request that asks for it to the queues of the models.

    service ──urgent_as──> priority of the task ──present──> batcher, line pool

The priority is in a context variable, as the record of timings is: tasks inherit it, and no
signature between the service and a model has to carry it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class Priority(enum.IntEnum):
    """Orders what waits: the smaller value goes first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


_present: ContextVar[Priority] = ContextVar("priority", default=Priority.NORMAL)


def present() -> Priority:
    """The priority of the work at hand; normal where nobody said."""
    return _present.get()


@contextmanager
def urgent_as(priority: Priority) -> Iterator[None]:
    """Gives a priority to all work that begins while the block runs."""
    token = _present.set(priority)
    try:
        yield
    finally:
        _present.reset(token)
