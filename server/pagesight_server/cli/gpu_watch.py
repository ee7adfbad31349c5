"""Ends a server whose GPU has failed for good, so that whoever runs it starts it anew.

    model run ──GpuLostError──> stop: drained like by SIGTERM ──> exit code 1

Until then it says NOT_SERVING and its callers go to another replica. Each screenshot is encoded, so
the first one after the failure tells.
"""

from __future__ import annotations

import asyncio

from pagesight_server.common.errors import GpuLostError, SetupError
from pagesight_server.common.timings import Observe, Run


class GpuWatch:
    """Looks at each model run; for the event loop that makes it.

    Args:
        observe: Called with each run as well.
        stop: Set when the GPU is lost.
    """

    def __init__(self, observe: Observe, stop: asyncio.Event) -> None:
        self._observe = observe
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._is_lost = False

    def ran(self, run: Run) -> None:
        """Hears of a run, in any thread."""
        self._observe(run)
        if run.failed == GpuLostError.__name__:
            self._is_lost = True
            self._loop.call_soon_threadsafe(self._stop.set)

    def check(self) -> None:
        """Raises SetupError where the GPU was lost, once all is drained."""
        if self._is_lost:
            raise SetupError(
                "the GPU failed, and CUDA refuses this process until it ends: start it again, and "
                "look at the GPU with `nvidia-smi` and the kernel's log (Xid) if it happens again"
            )
