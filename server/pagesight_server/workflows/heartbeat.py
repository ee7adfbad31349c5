"""A serving process notes in the store that it is there, and what it answers from.

    every look ──changed, or five seconds old?──> note in the store ──failed?──> at the next look

Answers never wait for it, and a store that cannot be written is no error of serving.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping

from pagesight_server.gallery import Gallery

log = logging.getLogger(__name__)

BEAT_S = 5.0
"""How often a note is written where nothing changed: a purge takes a replica for silent after six
that are missing."""


def replica_name(port: int, worker: int = 0) -> str:
    """How a process is called in the store: host, port or process id, and which of several."""
    place = str(port) if port else f"pid {os.getpid()}"
    return f"{socket.gethostname()}:{place}" + (f"/{worker}" if worker else "")


class Heartbeat:
    """Notes what a process has loaded; for one event loop.

    Args:
        store: Where it is noted.
        name: How the process is called, for people.
        revisions: Gives the revision of each gallery that is answered from.
        replica_id: Under which it is noted, another one for each process; made up when None.
        clock: Seconds, rising.
    """

    def __init__(
        self,
        store: Gallery,
        name: str,
        revisions: Callable[[], Mapping[str, int]],
        *,
        replica_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._revisions = revisions
        self._clock = clock
        self._id = replica_id or uuid.uuid4().hex
        self._noted: dict[str, int] | None = None
        self._noted_s = clock()
        self._fails = False

    async def follow(self, interval_s: float) -> None:
        """Notes what has changed, for ever."""
        while True:
            await self.beat()
            await asyncio.sleep(interval_s)

    async def beat(self) -> None:
        """Writes a note, if what was loaded has changed or the last note is old."""
        revisions = dict(self._revisions())
        if revisions == self._noted and self._clock() - self._noted_s < BEAT_S:
            return
        try:
            await asyncio.to_thread(self._store.beat, self._id, self._name, revisions)
        except Exception as error:
            if not self._fails:
                log.info("cannot note in the store what is loaded, which a purge asks: %s", error)
            self._fails = True
        else:
            self._fails = False
            self._noted, self._noted_s = revisions, self._clock()

    async def leave(self) -> None:
        """Takes the note back: this process ends, and remembers nothing."""
        try:
            await asyncio.to_thread(self._store.leave, self._id)
        except Exception as error:
            log.info("cannot take back the note in the store that this replica serves: %s", error)
