"""What the server answers from: one `Knowledge` per gallery, swapped whole.

    own change, poll, min_revision ──> refresh ──swap──> KnowledgeTable <── queries
                                          ├─> calibrate, in the background ──swap──^
                                          └─> rebuild the index, beside the old one

    KnowledgeTable   the present knowledge of each gallery, and who waits for a revision
    Refresher        brings every gallery to the revision of the store
    Recalibrator     gives a changed gallery its own whitening and calibration afterwards
    IndexRebuilder   builds the next generation of a gallery's index
    Registry         the four together, as queries and services use them

A query keeps the knowledge it began with to its end. The next one is built beside the
old, in a worker thread, so no query waits for it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import replace

from pagesight_server.common.errors import NotFoundError
from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.decision import Knowledge
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.workflows.knowledge import (
    load_calibration,
    load_knowledge,
    load_validated_calibration,
    outdated_calibration_warning,
)

log = logging.getLogger(__name__)

MIN_REUSE_PICTURES = 100
"""Minimum sample for reusing the previous calibration while recalibrating, in left-out pictures.
Calibrating so many takes seconds, during which an acknowledged change would not be found; with
fewer it takes less, and one picture more may move the threshold much."""


class KnowledgeTable:
    """The present knowledge of each gallery; for one event loop.

    Reading needs no lock, because an entry is replaced whole. Whoever replaces one holds
    `writing` from its decision on, so that nobody overwrites a newer revision.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Knowledge] = {}
        self.writing = asyncio.Lock()
        """Held while an entry is replaced or dropped, by a refresh for as long as it reads."""
        self._put = asyncio.Condition()
        """Notified after each replacement. It has a lock of its own: waiting must end in time
        also while a refresh holds `writing`."""

    def get(self, name: str) -> Knowledge | None:
        """The knowledge of a gallery; None where there is no such gallery."""
        return self._entries.get(name)

    def copy(self) -> dict[str, Knowledge]:
        """The knowledge of every gallery, by name."""
        return dict(self._entries)

    def is_current(self, snapshot: Snapshot) -> bool:
        """Whether queries are answered from this very snapshot."""
        entry = self._entries.get(snapshot.gallery)
        return entry is not None and entry.snapshot is snapshot

    async def put(self, name: str, knowledge: Knowledge) -> None:
        """Answers from another knowledge from now on, and tells whoever waits for its revision."""
        self._entries[name] = knowledge
        async with self._put:
            self._put.notify_all()

    def drop(self, name: str) -> None:
        """Answers no more from a gallery."""
        self._entries.pop(name, None)

    def has_revision(self, name: str, revision: int) -> bool:
        """Whether a gallery is at a revision or a later one."""
        entry = self._entries.get(name)
        return entry is not None and entry.snapshot.revision >= revision

    async def wait_for_revision(self, name: str, revision: int) -> None:
        """Waits until a gallery, which may be still to come, is at a revision or a later one."""
        async with self._put:
            await self._put.wait_for(lambda: self.has_revision(name, revision))


class Refresher:
    """Brings every gallery to the revision of the store, and drops those that it has no more.

    Args:
        table: Where the knowledge goes.
        store: The truth.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        index_manager: How vectors are searched.
    """

    def __init__(
        self,
        table: KnowledgeTable,
        store: Gallery,
        *,
        method: MethodName,
        epsilon: float,
        index_manager: IndexManager,
    ) -> None:
        self._table = table
        self._store = store
        self._method: MethodName = method
        self._epsilon = epsilon
        self._index_manager = index_manager
        self._sweep_due = True
        """Whether index files of deleted galleries may be left: at first of those that were
        deleted while no server ran."""

    async def refresh(self, on_swap: Callable[[Knowledge], None]) -> None:
        """Reads what changed in the store since the last time.

        Args:
            on_swap: Called with each knowledge that is new, once queries are answered from it.
        """
        async with self._table.writing:
            revisions = await asyncio.to_thread(self._store.revisions)
            for name in self._table.copy().keys() - revisions.keys():
                await self._drop(name)
            for name, revision in revisions.items():
                try:
                    knowledge = await asyncio.to_thread(self._load, name, revision)
                except NotFoundError:  # deleted since the revisions were read
                    await self._drop(name)
                    continue
                if knowledge is None:
                    continue
                await self._table.put(name, knowledge)
                on_swap(knowledge)
                log.info("gallery %s is at revision %d", name, knowledge.snapshot.revision)
                if warning := outdated_calibration_warning(knowledge):
                    log.warning("gallery %s: %s", name, warning)
            if self._sweep_due:
                self._sweep_due = not await asyncio.to_thread(self._sweep)

    def _load(self, name: str, revision: int) -> Knowledge | None:
        """The knowledge of a gallery now; None where the table has it already. Blocks."""
        before = self._table.get(name)
        if before is not None and before.snapshot.revision == revision:
            validated = load_validated_calibration(
                self._store, before.snapshot, self._method, self._epsilon
            )
            used = before.calibration if before.calibration.source == "validation" else None
            if validated == used:
                return None
        return load_knowledge(
            self._store,
            name,
            self._method,
            self._epsilon,
            snapshot=self.read_snapshot(name, before.snapshot if before else None),
            interim_calibration=_reusable_calibration(before),
            before=before,
        )

    def read_snapshot(self, name: str, before: Snapshot | None) -> Snapshot:
        """The present snapshot, from the changes since an earlier one where that is possible.

        Args:
            name: Which gallery.
            before: An earlier snapshot; None reads it whole.

        Raises:
            NotFoundError: no such gallery.
        """
        if before is not None and before.pictures:
            changes = self._store.changes(name, before.revision)
            if changes is None:
                self._index_manager.forget(name, before.encoder_bundle)
            elif changes.bundles == before.bundles:
                after = before.after(changes)
                if after.pictures:  # Of nothing, not even the dimension is known.
                    return after
        snapshot = self._store.snapshot(name, rounded=True)
        assert isinstance(snapshot.embeddings, Vectors)
        vectors = self._index_manager.vectors(
            name,
            snapshot.encoder_bundle,
            [picture.image_id for picture in snapshot.pictures],
            snapshot.embeddings.layout.generation.halves,
            self._store.purged(),
        )
        return replace(snapshot, embeddings=vectors)

    async def _drop(self, name: str) -> None:
        """Forgets a gallery that the store has no more, its index files included."""
        knowledge = self._table.get(name)
        if knowledge is None:
            return
        self._table.drop(name)
        self._sweep_due = True
        bundle = knowledge.snapshot.encoder_bundle
        await asyncio.to_thread(self._index_manager.forget, name, bundle)
        log.info("gallery %s was deleted", name)

    def _sweep(self) -> bool:
        """Deletes the index files of all galleries but those of the table, if it can now."""
        entries = self._table.copy()
        return self._index_manager.forget_all_but(
            {name: knowledge.snapshot.encoder_bundle for name, knowledge in entries.items()}
        )


def _reusable_calibration(before: Knowledge | None) -> Calibration | None:
    """The calibration that answers until a changed gallery has its own; None: make that first."""
    if before is None or before.calibration.pictures < MIN_REUSE_PICTURES:
        return None
    return before.calibration


class Recalibrator:
    """Deferred refit: refits whitening and calibration of a changed gallery in the background.

    Until it is done, queries are answered by those of an earlier revision. Single-flight for each
    gallery: a change during the work has it done once more, for the newest revision alone.

    Args:
        table: Where the knowledge comes from and goes.
        store: Keeps the calibration of each revision.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
    """

    def __init__(
        self, table: KnowledgeTable, store: Gallery, *, method: MethodName, epsilon: float
    ) -> None:
        self._table = table
        self._store = store
        self._method: MethodName = method
        self._epsilon = epsilon
        self.tasks = SingleFlightTasks()
        """One for each gallery that is being calibrated."""

    def start(self, name: str) -> None:
        """Begins, unless this gallery is being calibrated already."""
        self.tasks.start(name, lambda: self._calibrate(name))

    async def _calibrate(self, name: str) -> None:
        calibrated: Snapshot | None = None
        try:
            while (knowledge := self._table.get(name)) and knowledge.snapshot is not calibrated:
                await self._calibrate_revision(knowledge)
                calibrated = knowledge.snapshot
        except NotFoundError:
            log.info("gallery %s was deleted before it was calibrated", name)
        except Exception:
            log.exception("gallery %s is answered by an earlier calibration", name)

    async def _calibrate_revision(self, knowledge: Knowledge) -> None:
        snapshot = knowledge.snapshot
        calibration = await asyncio.to_thread(
            load_calibration, self._store, snapshot, self._method, self._epsilon
        )
        if calibration is not None and knowledge.settled:
            return
        refitted = await asyncio.to_thread(
            load_knowledge,
            self._store,
            snapshot.gallery,
            self._method,
            self._epsilon,
            snapshot=snapshot,
            before=knowledge,
        )
        async with self._table.writing:
            if self._table.is_current(snapshot):
                await self._table.put(snapshot.gallery, refitted)


class IndexRebuilder:
    """Builds the next generation of an index beside the old one, which is searched until then.

    Single-flight for each gallery: what changes during a build is searched exactly, and a later
    change starts the next one when it is due.

    Args:
        table: Whose vectors adopt the new generation.
        index_manager: Says what is due, and builds it in a thread of its own.
    """

    def __init__(self, table: KnowledgeTable, index_manager: IndexManager) -> None:
        self._table = table
        self._index_manager = index_manager
        self.tasks = SingleFlightTasks()
        """One for each gallery whose index is being built."""

    def start_if_due(self, snapshot: Snapshot) -> None:
        """Begins where the index of a snapshot is due, unless one is being built already."""
        name, vectors = snapshot.gallery, snapshot.embeddings
        if self.tasks.is_running(name) or not isinstance(vectors, Vectors):
            return
        if self._index_manager.is_due(name, vectors):
            self.tasks.start(name, lambda: self._rebuild(snapshot, vectors))

    async def _rebuild(self, snapshot: Snapshot, vectors: Vectors) -> None:
        name, bundle, built_from = snapshot.gallery, snapshot.encoder_bundle, vectors.layout
        ids = [picture.image_id for picture in snapshot.pictures]
        try:
            rebuilt = self._index_manager.rebuild(name, bundle, ids, vectors)
            if not await asyncio.wrap_future(rebuilt):
                return
            generation = vectors.layout.generation
            async with self._table.writing:
                knowledge = self._table.get(name)
                present = knowledge.snapshot.embeddings if knowledge else None
                if isinstance(present, Vectors) and (
                    present.layout.generation is generation or present.adopt(generation, built_from)
                ):
                    return
                # Deleted meanwhile, or read whole, perhaps for a purge: nothing may be left of it.
                await asyncio.to_thread(self._index_manager.forget, name, bundle)
        except Exception:
            log.exception("gallery %s stays on its old index", name)


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
