"""What queries are answered from: one `Knowledge` per gallery, swapped whole.

    start, own change, poll, min_revision ──> refresh ──swap──> KnowledgeTable <── queries
                                                 ├─> prepare what is large ────────^
                                                 ├─> recalibrate, in the background ─^
                                                 └─> rebuild the index, beside the old one

    knowledge.py          from the store to the knowledge of one gallery
    store_watch.py        whether the store answers, and what is refused while it does not
    knowledge_table.py    the present knowledge of each gallery, and who waits for a revision
    refresh.py            brings every gallery to the revision of the store
    recalibration.py      gives a changed gallery its own whitening and calibration afterwards
    calibration_turns.py  of several servers and processes, has one calibrate
    index_rebuild.py      builds the next generation of a gallery's index

A query keeps the knowledge it began with to its end. The next one is built beside the
old, in a worker thread, so no query waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pagesight_server.common.errors import BehindError, NotFoundError
from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, check_bundles
from pagesight_server.index.manager import IndexManager
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.calibration_turns import CalibrationTurns
from pagesight_server.workflows.index_rebuild import IndexRebuilder
from pagesight_server.workflows.knowledge_table import KnowledgeTable
from pagesight_server.workflows.recalibration import Recalibrator
from pagesight_server.workflows.refresh import Refresher
from pagesight_server.workflows.store_watch import StoreWatch

PREPARING_RETRY_MS = 1_000
"""When to ask again for a gallery that is being prepared; large ones take minutes."""

log = logging.getLogger(__name__)


class Registry:
    """The knowledge of every gallery of a store, as queries use it; for one event loop.

    Args:
        store: The truth.
        bundles: What this server runs; galleries made by others are refused.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        index_manager: How vectors are searched; exactly, when None.
        calibrates: Whether it makes the calibrations that the store lacks of large galleries, or
            leaves that to another process of the same server and waits for them.
        replica_id: Under which it is noted in the store that this process serves: of several
            servers one calibrates a revision. Empty: each does.
    """

    def __init__(
        self,
        store: Gallery,
        bundles: Bundles,
        *,
        method: MethodName,
        epsilon: float,
        index_manager: IndexManager | None = None,
        calibrates: bool = True,
        replica_id: str = "",
    ) -> None:
        index_manager = index_manager or IndexManager()
        self._bundles = bundles
        self._store = store
        self._table = KnowledgeTable()
        self._stop = threading.Event()
        """Set: preparations are broken off, and go on after the next start."""
        turns = CalibrationTurns(
            store, method, epsilon, calibrates=calibrates, replica_id=replica_id
        )
        self._refresher = Refresher(
            self._table,
            store,
            method=method,
            epsilon=epsilon,
            index_manager=index_manager,
            turns=turns,
            stop=self._stop,
        )
        self._recalibrator = Recalibrator(
            self._table,
            store,
            method=method,
            epsilon=epsilon,
            turns=turns,
        )
        self._rebuilder = IndexRebuilder(self._table, index_manager)
        self._failed_on = ""
        """Why the last refresh of those that nobody waits for failed; empty where it did not."""
        self._refreshes = SingleFlightTasks()
        """Refreshes for who waits for a revision: at most one that looks at the store, and one
        that is to begin behind it, which sees whatever was committed before and so serves all who
        come until then. Whoever gives up waiting leaves no more behind."""
        self._refresh_numbers = itertools.count()
        self._refreshing = asyncio.Lock()
        self._refresh_due = False
        """Whether one of them has not begun yet."""
        self._looking = False
        """Whether the store is looked through for the first time."""
        self._loading = False
        """Whether galleries are prepared that were there before the server."""

    @property
    def watch(self) -> StoreWatch:
        """Whether the store answers, and since when not."""
        return self._refresher.watch

    def known(self) -> dict[str, Knowledge]:
        """The present knowledge of every gallery, by name."""
        return self._table.copy()

    def revisions(self) -> dict[str, int]:
        """The revision of each gallery that is answered from, by name."""
        return {name: entry.snapshot.revision for name, entry in self._table.copy().items()}

    def get(self, name: str) -> Knowledge:
        """The present knowledge of a gallery.

        Raises:
            NotFoundError: no such gallery.
            BehindError: it is still being read, or prepared for its first answers.
            BundleMismatchError: other bundles made it.
        """
        knowledge = self._table.get(name)
        if knowledge is None and (self._looking or self._refresher.is_preparing(name)):
            raise BehindError(
                f"gallery {name!r} is being prepared for its first answers: ask again, or another "
                "replica",
                retry_after_ms=PREPARING_RETRY_MS,
            )
        if knowledge is None:
            raise NotFoundError(f"no gallery {name!r}: enrol a picture to create it")
        check_bundles(name, knowledge.snapshot.bundles, self._bundles)
        return knowledge

    async def load(self, turn: Callable[[], Awaitable[object]] | None = None) -> None:
        """Reads every gallery for the first time; meanwhile those that are known are answered.

        Args:
            turn: Returns when it may begin: another process may have to prepare them first. None:
                at once.

        Raises:
            Exception: why one cannot be read or prepared.
        """
        self._looking = self._loading = True
        try:
            if turn is not None:
                await turn()
            await self._refresher.refresh(self._start_background_work)
            self._looking = False
            await self._refresher.prepared()
        finally:
            self._looking = self._loading = False

    async def refresh(self, gallery: str | None = None) -> None:
        """Brings every gallery to the revision of the store.

        Args:
            gallery: Whose preparation is waited for, if it needs any. None: that of all. While
                `load` prepares them for their first answers it is waited for none: nobody is
                answered from an earlier revision.
        """
        await self._refresher.refresh(self._start_background_work)
        if not self._loading:
            await self._refresher.prepared(gallery)

    async def refresh_after_change(self, gallery: str) -> None:
        """Does what `refresh` does for who has changed a gallery, whatever the store does now.

        A store that has gone away since is caught up with when it is back.
        """
        try:
            await self.refresh(gallery)
        except Exception as error:
            if not self.watch.is_away:
                raise
            log.warning("a change of gallery %s is made and not seen yet: %s", gallery, error)

    async def follow(self, interval_s: float) -> None:
        """Refreshes for ever, so that changes by other processes are seen.

        Args:
            interval_s: How long a change may stay unseen where the store gives no hint of it.
        """
        loop, hinted = asyncio.get_running_loop(), asyncio.Event()

        def heard() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(hinted.set)

        stop = self._store.listen(heard)
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(interval_s):
                        await hinted.wait()
                hinted.clear()
                await self._refresh_or_log()
        finally:
            stop()

    async def wait_for_revision(self, name: str, revision: int, timeout_s: float) -> bool:
        """Waits until queries are answered at a revision or a later one: read your own writes.

        Refreshes at once unless the store is away, and goes on waiting for whatever refreshes
        afterwards, such as `follow`.

        Args:
            name: The gallery; it need not exist yet.
            revision: The least revision that will do; 0: any, once the gallery was read.
            timeout_s: How long to wait at most.

        Returns:
            Whether the gallery is there and has reached the revision.
        """
        if self._table.has_revision(name, revision):
            return True
        if not revision:
            return await self._waited(name, revision, timeout_s)
        if not self.watch.is_away:
            self._refresh_soon()
        return await self._waited(name, revision, timeout_s)

    async def _waited(self, name: str, revision: int, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._table.wait_for_revision(name, revision)
        except TimeoutError:
            return self._table.has_revision(name, revision)
        return True

    async def settled(self) -> None:
        """Waits until no index is being built and every revision has its own calibration."""
        tasks = (self._refresher.tasks, self._rebuilder.tasks, self._recalibrator.tasks)
        while any(tasks):
            for each in tasks:
                await each.settled()

    def stop_recalibrating(self) -> None:
        """Breaks off the deferred refits, which go on after the next start; all else goes on.

        For a server that is to end, and answers and follows the store until then: its cores are for
        that, and for others that serve.
        """
        self._recalibrator.stop()

    async def close(self) -> None:
        """Ends the background work; what it has stored stays."""
        self._stop.set()
        self._recalibrator.stop()
        await self._refreshes.cancel()
        for tasks in (self._refresher.tasks, self._recalibrator.tasks):
            # They end at their next step, and keep what they have come to.
            await tasks.settled()
        await self._rebuilder.close()

    def _start_background_work(self, knowledge: Knowledge) -> None:
        self._recalibrator.start(knowledge.snapshot.gallery)
        self._rebuilder.start_if_due(knowledge.snapshot)

    def _refresh_soon(self) -> None:
        """Begins a refresh, unless one is to begin anyway.

        In a task of its own: whoever stops waiting must not stop a refresh half way.
        """
        if not self._refresh_due:
            self._refresh_due = True
            self._refreshes.start(str(next(self._refresh_numbers)), self._refresh_in_turn)

    async def _refresh_in_turn(self) -> None:
        async with self._refreshing:
            self._refresh_due = False
            await self._refresh_or_log()

    async def _refresh_or_log(self) -> None:
        try:
            await self._refresher.refresh(self._start_background_work)
        except Exception as error:
            # A store that cannot be read now must not stop what is known from answering. Of one
            # that is away the watch has told.
            if not self.watch.is_away and str(error) != self._failed_on:
                log.exception("cannot follow the store; answering from what is known")
            self._failed_on = str(error)
        else:
            self._failed_on = ""
