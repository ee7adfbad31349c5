"""Whether the store answers: what a replica says of it, and refuses, while it is away.

    poll ──revisions──> in time? ──yes──> known: its age is 0
                           └──no, or an error──> away: told once, calls that need the store refused
                                                   └──the next that answers──> back: told once

Screenshots never ask the store, so they are answered all the while from what is known.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from pagesight_server.common.errors import StoreAwayError

log = logging.getLogger(__name__)

HANGS_S = 5.0
"""How long the store may take to answer before it is away: its answer takes milliseconds, and a
server at whose network nothing answers would else go on for minutes as if all were well."""


class StoreWatch:
    """Knows when the store last answered; for one event loop, and read from any thread.

    Args:
        read: Reads the revision of each gallery. Blocks.
        clock: Seconds, rising.
        hangs_s: Seconds after which a store that does not answer is away.
    """

    def __init__(
        self,
        read: Callable[[], dict[str, int]],
        *,
        clock: Callable[[], float] = time.monotonic,
        hangs_s: float = HANGS_S,
    ) -> None:
        self._read = read
        self._clock = clock
        self._hangs_s = hangs_s
        self._answered_s = clock()
        self._away = False

    @property
    def age_s(self) -> float:
        """Seconds since the state of the store was last known, or since the start."""
        return self._clock() - self._answered_s

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return self._away

    def check(self) -> None:
        """Refuses what needs the store while it is away, before anything waits for it.

        Raises:
            StoreAwayError: it is away.
        """
        if self._away:
            raise StoreAwayError(
                f"the store has been away for {self.age_s:.0f} s: screenshots are answered from "
                "what is known, galleries can be read and changed when it is back"
            )

    async def revisions(self) -> dict[str, int]:
        """The revision of each gallery, by name.

        Raises:
            Exception: the store cannot be read.
        """
        reading = asyncio.ensure_future(asyncio.to_thread(self._read))
        # Whoever gives up waiting leaves the thread behind, and nobody hears its error.
        reading.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        if not (await asyncio.wait({reading}, timeout=self._hangs_s))[0]:
            self._lost(f"it has not answered for {self._hangs_s:.0f} s")
        try:
            revisions = await reading
        except Exception as error:
            self._lost(str(error))
            raise
        self._found()
        return revisions

    def _lost(self, why: str) -> None:
        if not self._away:
            log.error("the store is away: %s; answering from what is known", why)
        self._away = True

    def _found(self) -> None:
        if self._away:
            log.warning("the store is back after %.0f s", self.age_s)
        self._away = False
        self._answered_s = self._clock()
