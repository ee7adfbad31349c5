"""Follows the store: reads what changed in it into the table of knowledge.

store ──revisions──> changed? ──snapshot, or changes since──> Knowledge ──put──> table
│                       └──large, and nothing to answer it by──> prepared in the background ──^
└──> deleted? ──> entry dropped, index files deleted

A refresh holds the table, so whoever changes another gallery waits for it: what takes longer than
seconds is not done under it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from pagesight_server.common.errors import NotFoundError, StoreAwayError
from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.calibration_turns import CalibrationTurns
from pagesight_server.workflows.knowledge import (
    StoppedError,
    load_knowledge,
    load_validated_calibration,
    outdated_calibration_warning,
    until_retry,
    validated_calibration_key,
)
from pagesight_server.workflows.knowledge_table import KnowledgeTable
from pagesight_server.workflows.store_watch import StoreWatch

log = logging.getLogger(__name__)

LARGE_PICTURES = 500
"""Pictures of a gallery from which it is not calibrated while others wait: so many take seconds,
10,000 two minutes."""

MIN_REUSE_PICTURES = 100
"""Minimum sample for reusing the previous calibration while recalibrating, in left-out pictures.
Calibrating so many takes seconds, during which an acknowledged change would not be found; with
fewer it takes less, and one picture more may move the threshold much."""


_Placed = tuple[str, tuple[tuple[int, bytes | None], ...]]
"""The key of a gallery's calibrations from labelled traffic, and revision and digest of each."""


class Refresher:
    """Brings every gallery to the revision of the store, and drops those that it has no more.

    Args:
        table: Where the knowledge goes.
        store: The truth.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        index_manager: How vectors are searched.
        stop: Breaks calibrations off once it is set.
        turns: Says whether the calibration of a large gallery is made here, or waited for.
    """

    def __init__(
        self,
        table: KnowledgeTable,
        store: Gallery,
        *,
        method: MethodName,
        epsilon: float,
        index_manager: IndexManager,
        turns: CalibrationTurns,
        stop: threading.Event | None = None,
    ) -> None:
        self._table = table
        self._store = store
        self.watch = StoreWatch(lambda: store.revisions())
        """Whether the store answers."""
        self._method: MethodName = method
        self._epsilon = epsilon
        self._index_manager = index_manager
        self._stop = stop or threading.Event()
        self._turns = turns
        self.tasks = SingleFlightTasks()
        """One for each gallery that is being prepared for its first answers, or for those from
        a calibration of its own."""
        self._in_turn = asyncio.Semaphore(1)
        """Held while one is prepared: several at once would take longer each, and more memory."""
        self._failed: dict[str, tuple[int, Exception]] = {}
        """The revisions that could not be prepared, and why."""
        self._placed: dict[str, _Placed] = {}
        """The calibrations from labelled traffic that there were when each gallery was last asked
        for the newest of them."""
        self._sweep_due = True
        """Whether index files of deleted galleries may be left: at first of those that were
        deleted while no server ran."""

    async def refresh(self, on_swap: Callable[[Knowledge], None]) -> None:
        """Reads what changed in the store since the last time.

        A large gallery that has nothing to be answered by is prepared in the background; see
        `prepared`.

        Args:
            on_swap: Called with each knowledge that is new, once queries are answered from it.
        """
        async with self._table.writing:
            revisions = await self.watch.revisions()
            for name in self._table.copy().keys() - revisions.keys():
                await self._drop(name)
            for name in self._failed.keys() - revisions.keys():
                del self._failed[name]
            for name in self._placed.keys() - revisions.keys():
                del self._placed[name]
            outdated, placed = await asyncio.to_thread(self._outdated, revisions)
            for name in outdated:
                revision = revisions[name]
                try:
                    if await asyncio.to_thread(self._takes_long, name, revision):
                        self._prepare(name, revision, on_swap)
                        continue
                    knowledge = await asyncio.to_thread(self._load, name, revision)
                except NotFoundError:  # deleted since the revisions were read
                    await self._drop(name)
                    continue
                if knowledge is not None:
                    await self._swap(knowledge, on_swap)
                if name in placed:
                    self._placed[name] = placed[name]
            if self._sweep_due and not self.tasks:
                self._sweep_due = not await asyncio.to_thread(self._sweep)

    def is_preparing(self, name: str) -> bool:
        """Whether a gallery is being prepared, or could not be."""
        return self.tasks.is_running(name) or name in self._failed

    async def prepared(self, name: str | None = None) -> None:
        """Waits until a gallery, or every one, is no longer being prepared.

        Raises:
            Exception: why one could not be.
        """
        await self.tasks.ended(name)
        for failed, (_revision, error) in self._failed.items():
            if name in (None, failed):
                raise error

    async def _swap(self, knowledge: Knowledge, on_swap: Callable[[Knowledge], None]) -> None:
        """Answers from a knowledge from now on; whoever calls this holds the table."""
        name = knowledge.snapshot.gallery
        await self._table.put(name, knowledge)
        on_swap(knowledge)
        log.info("gallery %s is at revision %d", name, knowledge.snapshot.revision)
        if warning := outdated_calibration_warning(knowledge):
            log.warning("gallery %s: %s", name, warning)

    def _outdated(self, revisions: Mapping[str, int]) -> tuple[list[str], dict[str, _Placed]]:
        """Looks for what may have to be read, by one query for all galleries. Blocks.

        Args:
            revisions: The present revision of each gallery.

        Returns:
            The names of the galleries that another revision is known of, or none, or that may
            have another calibration from labelled traffic, or had damaged pictures; and those
            calibrations of each gallery whose present revision is known.
        """
        keys = {
            name: validated_calibration_key(entry.snapshot, self._method, self._epsilon)
            for name, entry in self._table.copy().items()
            if entry.snapshot.revision == revisions.get(name) and not entry.snapshot.damaged
        }
        stored = self._store.stored_calibrations(set(keys.values()))
        placed = {name: (key, tuple(stored.get((name, key), ()))) for name, key in keys.items()}
        outdated = [
            name
            for name in revisions
            if name not in placed or placed[name] != self._placed.get(name)
        ]
        return outdated, placed

    def _takes_long(self, name: str, revision: int) -> bool:
        """Whether a revision has nothing to be answered by, and much to calibrate. Blocks."""
        before = self._table.get(name)
        same = before is not None and before.snapshot.revision == revision
        if before is not None and same and not self._is_repaired(before.snapshot):
            return False
        if _reusable_calibration(before) is not None:
            return False
        return self._store.gallery(name).images >= LARGE_PICTURES

    def _prepare(self, name: str, revision: int, on_swap: Callable[[Knowledge], None]) -> None:
        """Begins to prepare a gallery, unless that is going on or has failed already."""
        failed = self._failed.get(name)
        if failed is None or failed[0] != revision:
            self.tasks.start(name, lambda: self._prepared(name, revision, on_swap))

    async def _prepared(
        self, name: str, revision: int, on_swap: Callable[[Knowledge], None]
    ) -> None:
        """Prepares a gallery without holding the table, and answers from it then."""
        self._failed.pop(name, None)
        try:
            while True:
                try:
                    return await self._prepare_and_swap(name, on_swap)
                except StoreAwayError:
                    await until_retry(self._stop)
        except NotFoundError:
            log.info("gallery %s was deleted before it was prepared", name)
        except StoppedError:
            log.info("gallery %s is prepared further after the next start", name)
        except Exception as error:
            log.exception("gallery %s cannot be answered from", name)
            # Without the traceback, which holds what it was made from.
            self._failed[name] = (revision, error.with_traceback(None))

    async def _prepare_and_swap(self, name: str, on_swap: Callable[[Knowledge], None]) -> None:
        async with self._in_turn:
            log.info("gallery %s is being prepared", name)
            knowledge: Knowledge | None = None
            while knowledge is None:
                knowledge = await self._calibrated(name)
            async with self._table.writing:
                # What was changed meanwhile and acknowledged must be found from the first.
                changed = await asyncio.to_thread(self._load_after, knowledge)
                await self._swap(changed, on_swap)

    async def _calibrated(self, name: str) -> Knowledge | None:
        """The knowledge of the present revision, from its calibration; None where it was left."""
        snapshot = await asyncio.to_thread(self.read_snapshot, name, None)
        async with self._turns.turn(snapshot, self._stop) as is_present:
            if not is_present:
                return None
            return await asyncio.to_thread(
                load_knowledge,
                self._store,
                name,
                self._method,
                self._epsilon,
                snapshot=snapshot,
                stop=self._stop,
            )

    def _load_after(self, knowledge: Knowledge) -> Knowledge:
        """The knowledge of the present revision, from that of one a while ago. Blocks."""
        name = knowledge.snapshot.gallery
        if self._store.gallery(name).revision == knowledge.snapshot.revision:
            return knowledge
        return load_knowledge(
            self._store,
            name,
            self._method,
            self._epsilon,
            snapshot=self.read_snapshot(name, knowledge.snapshot),
            interim_calibration=knowledge.calibration,
            before=knowledge,
        )

    def _load(self, name: str, revision: int) -> Knowledge | None:
        """The knowledge of a gallery now; None where the table has it already. Blocks."""
        before = self._table.get(name)
        repaired = before is not None and self._is_repaired(before.snapshot)
        if before is not None and before.snapshot.revision == revision and not repaired:
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
            snapshot=self.read_snapshot(
                name, None if before is None or repaired else before.snapshot
            ),
            interim_calibration=_reusable_calibration(before),
            before=before,
            stop=self._stop,
        )

    def _is_repaired(self, snapshot: Snapshot) -> bool:
        """Whether a picture that was left out as damaged has been made anew since. Blocks.

        Whoever does that, at a start, by `gallery reindex` or by enrolling it again, makes no
        revision of it.
        """
        damaged = snapshot.damaged
        return bool(damaged) and self._store.has_any_content(damaged, snapshot.bundles)

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
