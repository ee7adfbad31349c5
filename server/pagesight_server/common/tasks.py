"""Background tasks that outlive the call that starts them, with references that keep them alive."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class SingleFlightTasks:
    """Background tasks, at most one for each key; for one event loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The latest task of each key, until it ends."""

    def __len__(self) -> int:
        return sum(not task.done() for task in self._tasks.values())

    def is_running(self, key: str) -> bool:
        """Whether the task of this key is still running."""
        task = self._tasks.get(key)
        return task is not None and not task.done()

    def start(self, key: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Starts `work` in the background, unless the task of this key is still running.

        Args:
            key: What the work is about.
            work: Handles its own errors: nobody waits for its outcome.
        """
        if self.is_running(key):
            return
        task = asyncio.create_task(work())
        self._tasks[key] = task
        task.add_done_callback(lambda ended: self._drop(key, ended))

    async def settled(self) -> None:
        """Waits until no task is running, those started meanwhile included."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values())

    async def ended(self, key: str | None) -> None:
        """Waits until the task of a key is not running; as `settled` for None."""
        if key is None:
            await self.settled()
        while key is not None and (task := self._tasks.get(key)) is not None:
            await asyncio.wait([task])
            self._drop(key, task)

    async def cancel(self) -> None:
        """Cancels every task and waits for its end; a thread it waits for is not interrupted."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, key: str, ended: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is ended:
            del self._tasks[key]
