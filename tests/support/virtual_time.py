"""An event loop with virtual time, which advances only when no task is ready, and a timed model.

    timer due in 5 s, nothing ready ──> the clock is advanced by 5 s at once

So delays of any length are tested exactly and without waiting.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from tests.support import WAIT_S

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """A selector that advances a virtual clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # Without a timer, only a real thread can make progress: wait for it.
        ready = super().select(WAIT_S if timeout is None else 0)
        if not ready:
            assert timeout is not None, "deadlock: no task, timer or thread can make progress"
            self.now_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is virtual and starts at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Virtual seconds since the start."""
        return self._virtual.now_s


class TimedOwner(Executor):
    """An executor whose results arrive after a fixed virtual time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Runs `fn` now, and sets its result when the time has passed."""
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        result = fn(*args, **kwargs)
        asyncio.get_running_loop().call_later(self._seconds, future.set_result, result)
        return future


def run_virtually(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
