"""What queries are answered from: one `Knowledge` per gallery, swapped whole.

    own change, poll, min_revision ──> refresh ──swap──> KnowledgeTable <── queries
                                          ├─> recalibrate, in the background ──^
                                          └─> rebuild the index, beside the old one

    knowledge.py        from the store to the knowledge of one gallery
    knowledge_table.py  the present knowledge of each gallery, and who waits for a revision
    refresh.py          brings every gallery to the revision of the store
    recalibration.py    gives a changed gallery its own whitening and calibration afterwards
    index_rebuild.py    builds the next generation of a gallery's index

A query keeps the knowledge it began with to its end. The next one is built beside the
old, in a worker thread, so no query waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging

from pagesight_server.common.errors import NotFoundError
from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, check_bundles
from pagesight_server.index.manager import IndexManager
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.index_rebuild import IndexRebuilder
from pagesight_server.workflows.knowledge_table import KnowledgeTable
from pagesight_server.workflows.recalibration import Recalibrator
from pagesight_server.workflows.refresh import Refresher

log = logging.getLogger(__name__)


class Registry:
    """The knowledge of every gallery of a store, as queries use it; for one event loop.

    Args:
        store: The truth.
        bundles: What this server runs; galleries made by others are refused.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        index_manager: How vectors are searched; exactly, when None.
    """

    def __init__(
        self,
        store: Gallery,
        bundles: Bundles,
        *,
        method: MethodName,
        epsilon: float,
        index_manager: IndexManager | None = None,
    ) -> None:
        index_manager = index_manager or IndexManager()
        self._bundles = bundles
        self._table = KnowledgeTable()
        self._refresher = Refresher(
            self._table, store, method=method, epsilon=epsilon, index_manager=index_manager
        )
        self._recalibrator = Recalibrator(self._table, store, method=method, epsilon=epsilon)
        self._rebuilder = IndexRebuilder(self._table, index_manager)
        self._refreshes = SingleFlightTasks()
        """Refreshes that somebody waits for a revision of, each under a number of its own: one
        that has begun may have looked at the store too early to serve the next."""
        self._refresh_numbers = itertools.count()

    def known(self) -> dict[str, Knowledge]:
        """The present knowledge of every gallery, by name."""
        return self._table.copy()

    def get(self, name: str) -> Knowledge:
        """The present knowledge of a gallery.

        Raises:
            NotFoundError: no such gallery.
            BundleMismatchError: other bundles made it.
        """
        knowledge = self._table.get(name)
        if knowledge is None:
            raise NotFoundError(f"no gallery {name!r}: enrol a picture to create it")
        check_bundles(name, knowledge.snapshot.bundles, self._bundles)
        return knowledge

    async def refresh(self) -> None:
        """Brings every gallery to the revision of the store."""
        await self._refresher.refresh(self._start_background_work)

    async def follow(self, interval_s: float) -> None:
        """Refreshes for ever, so that changes by other processes are seen."""
        while True:
            await asyncio.sleep(interval_s)
            await self._refresh_or_log()

    async def wait_for_revision(self, name: str, revision: int, timeout_s: float) -> bool:
        """Waits until queries are answered at a revision or a later one: read your own writes.

        Refreshes at once, and goes on waiting for whatever refreshes afterwards, such as `follow`.

        Args:
            name: The gallery; it need not exist yet.
            revision: The least revision that will do.
            timeout_s: How long to wait at most.

        Returns:
            Whether the gallery is there and has reached the revision.
        """
        if self._table.has_revision(name, revision):
            return True
        # A task of its own: whoever stops waiting must not stop a refresh half way.
        self._refreshes.start(str(next(self._refresh_numbers)), self._refresh_or_log)
        try:
            async with asyncio.timeout(timeout_s):
                await self._table.wait_for_revision(name, revision)
        except TimeoutError:
            return self._table.has_revision(name, revision)
        return True

    async def settled(self) -> None:
        """Waits until no index is being built and every revision has its own calibration."""
        while self._rebuilder.tasks or self._recalibrator.tasks:
            await self._rebuilder.tasks.settled()
            await self._recalibrator.tasks.settled()

    async def close(self) -> None:
        """Ends the background work; what it has stored stays."""
        for tasks in (self._refreshes, self._recalibrator.tasks, self._rebuilder.tasks):
            await tasks.cancel()

    def _start_background_work(self, knowledge: Knowledge) -> None:
        self._recalibrator.start(knowledge.snapshot.gallery)
        self._rebuilder.start_if_due(knowledge.snapshot)

    async def _refresh_or_log(self) -> None:
        try:
            await self.refresh()
        except Exception:
            # A store that cannot be read now must not stop what is known from answering.
            log.exception("cannot follow the store; answering from what is known")
