"""What the server knows right now: one `Knowledge` per gallery, swapped whole.

    store ──> snapshot ──> Knowledge ──swap──> queries
        └─what changed─> next snapshot   └──due?──> another generation of its index, beside
      ^ own changes: at once         ^ changes by other processes: polled

A query takes the knowledge it began with to its end; a new one is built beside
the old, in a worker thread, so no query waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from pagesight_server.common.errors import NotFoundError, StorageError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.calibration import CALIBRATION_VERSION, Calibration
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge

log = logging.getLogger(__name__)

MEANWHILE_PICTURES = 100
"""Pictures behind a calibration from which it answers for the next revision until that has its own:
seconds, during which a change that was acknowledged would not be found otherwise."""


def validation_key(snapshot: Snapshot, method: MethodName, epsilon: float) -> str:
    """What the store calls a threshold that labelled traffic placed; not for other bundles."""
    made_by = snapshot.bundles
    return f"{_key(method, epsilon)} validation {made_by.encoder} {made_by.ocr}"


def _key(method: MethodName, epsilon: float) -> str:
    return f"{method} {epsilon} v{CALIBRATION_VERSION}"


def know(
    store: Gallery,
    name: str,
    method: MethodName,
    epsilon: float,
    *,
    snapshot: Snapshot | None = None,
    meanwhile: Calibration | None = None,
    before: Knowledge | None = None,
) -> Knowledge:
    """Reads a gallery and prepares it for queries; calibrates it unless that was stored.

    Args:
        store: Where galleries are kept.
        name: Which gallery.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        snapshot: Its present revision, when that was read already.
        meanwhile: To answer by, where the revision's own calibration is still to be made.
        before: Of an earlier revision; what is still true of it is not computed again.

    A threshold that labelled traffic placed is preferred, also when the gallery has changed since:
    that was measured on what is asked, and the gallery's own is an estimate.

    Raises:
        NotFoundError: no such gallery.
    """
    snapshot = store.snapshot(name) if snapshot is None else snapshot
    key = _key(method, epsilon)
    stored = store.calibration(name, snapshot.revision, key)
    knowledge = Knowledge.of(
        snapshot,
        method,
        epsilon=epsilon,
        calibration=Calibration.from_json(stored) if stored else meanwhile,
        before=before,
        refit=meanwhile is None,
    )
    if not stored and meanwhile is None:
        try:
            store.put_calibration(name, snapshot.revision, key, knowledge.calibration.to_json())
        except StorageError as error:
            # It can be made again; what is enrolled must be found although the disk is full.
            log.warning("the calibration of gallery %s is not kept: %s", name, error)
    validated = _validated(store, snapshot, method, epsilon)
    return replace(knowledge, calibration=validated) if validated else knowledge


def _validated(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> Calibration | None:
    stored = store.last_calibration(
        snapshot.gallery, snapshot.revision, validation_key(snapshot, method, epsilon)
    )
    return Calibration.from_json(stored) if stored else None


def outdated(knowledge: Knowledge) -> str:
    """Says so when labelled traffic placed the threshold for an earlier revision; else empty."""
    made, now = knowledge.calibration.revision, knowledge.snapshot.revision
    if knowledge.calibration.source != "validation" or made == now:
        return ""
    return (
        f"the threshold was placed by labelled traffic at revision {made}, the gallery is at "
        f"{now}: run `pagesight-server calibrate --validation DIR` again, or --forget-validation"
    )


def stored_calibration(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> Calibration | None:
    """The calibration that a revision would be answered with, None where it is still to be made."""
    if validated := _validated(store, snapshot, method, epsilon):
        return validated
    stored = store.calibration(snapshot.gallery, snapshot.revision, _key(method, epsilon))
    return Calibration.from_json(stored) if stored else None


class Live:
    """The knowledge of every gallery of a store; for one event loop.

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
        self._index_manager = index_manager or IndexManager()
        self._building: dict[str, asyncio.Task[None]] = {}
        self._calibrating: dict[str, asyncio.Task[None]] = {}
        self._store = store
        self._bundles = bundles
        self._method: MethodName = method
        self._epsilon = epsilon
        self._known: dict[str, Knowledge] = {}
        self._refreshing = asyncio.Lock()
        self._refreshed = asyncio.Condition()
        """Told after each refresh."""

    def known(self) -> dict[str, Knowledge]:
        """What is known now, by gallery."""
        return dict(self._known)

    def get(self, name: str) -> Knowledge:
        """What is known of a gallery now.

        Raises:
            NotFoundError: no such gallery.
            BundleMismatchError: other bundles made it.
        """
        knowledge = self._known.get(name)
        if knowledge is None:
            raise NotFoundError(f"no gallery {name!r}: enrol a picture to create it")
        check_bundles(name, knowledge.snapshot.bundles, self._bundles)
        return knowledge

    async def refresh(self) -> None:
        """Brings every gallery to the revision of the store."""
        async with self._refreshing:
            revisions = await asyncio.to_thread(self._store.revisions)
            for name in self._known.keys() - revisions.keys():
                forgotten = self._known.pop(name)
                bundle = forgotten.snapshot.encoder_bundle
                await asyncio.to_thread(self._index_manager.forget, name, bundle)
                log.info("gallery %s was deleted", name)
            for name, revision in revisions.items():
                known = self._known.get(name)
                if (
                    known is not None
                    and known.snapshot.revision == revision
                    and not await asyncio.to_thread(self._recalibrated, known)
                ):
                    continue
                self._known[name] = await asyncio.to_thread(self._know, name, known)
                self._calibrate_when_due(name)
                self._rebuild_when_due(self._known[name].snapshot)
                log.info("gallery %s is at revision %d", name, self._known[name].snapshot.revision)
                if warning := outdated(self._known[name]):
                    log.warning("gallery %s: %s", name, warning)
        async with self._refreshed:
            self._refreshed.notify_all()

    async def wait_for_revision(self, name: str, revision: int, timeout_s: float) -> bool:
        """Whether a gallery is known at a revision, or a later one, before the time is over.

        Args:
            name: The gallery; it may not exist yet.
            revision: What the caller has seen elsewhere.
            timeout_s: Seconds to wait at most.
        """

        def reached() -> bool:
            known = self._known.get(name)
            return known is not None and known.snapshot.revision >= revision

        if reached():
            return True
        # Shielded: what is read serves others too, however short this caller's time is.
        reading = asyncio.ensure_future(self.refresh())
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(reading)
                async with self._refreshed:
                    await self._refreshed.wait_for(reached)
        except TimeoutError:
            return reached()
        return True

    def _know(self, name: str, known: Knowledge | None) -> Knowledge:
        snapshot = self._snapshot(name, known.snapshot if known else None)
        before = known.calibration if known else None
        return know(
            self._store,
            name,
            self._method,
            self._epsilon,
            snapshot=snapshot,
            # Small galleries are calibrated at once: there a picture more changes much.
            meanwhile=before if before and before.pictures >= MEANWHILE_PICTURES else None,
            before=known,
        )

    def _calibrate_when_due(self, name: str) -> None:
        """Begins to calibrate a revision that is answered by the calibration of an earlier one."""
        if name not in self._calibrating:
            self._calibrating[name] = asyncio.create_task(self._calibrate(name))

    async def _calibrate(self, name: str) -> None:
        """Calibrates until the present revision is; queries are answered meanwhile."""
        try:
            while (known := self._known.get(name)) is not None:
                snapshot = known.snapshot
                stored = await asyncio.to_thread(
                    stored_calibration, self._store, snapshot, self._method, self._epsilon
                )
                if stored is None or not known.settled:
                    made = await asyncio.to_thread(
                        know,
                        self._store,
                        name,
                        self._method,
                        self._epsilon,
                        snapshot=snapshot,
                        before=known,
                    )
                    async with self._refreshing:
                        if name in self._known and self._known[name].snapshot is snapshot:
                            self._known[name] = made
                if name in self._known and self._known[name].snapshot is snapshot:
                    return
        except Exception:
            log.exception("gallery %s is answered by an earlier calibration", name)
        finally:
            del self._calibrating[name]

    def _snapshot(self, name: str, before: Snapshot | None) -> Snapshot:
        """The present revision: what changed since the one before, or all of it."""
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

    def _rebuild_when_due(self, snapshot: Snapshot) -> None:
        """Begins another generation beside; searches move to it when it is done."""
        name, vectors = snapshot.gallery, snapshot.embeddings
        if name in self._building or not isinstance(vectors, Vectors):
            return
        if self._index_manager.is_due(name, vectors):
            self._building[name] = asyncio.create_task(self._rebuild(snapshot, vectors))

    async def _rebuild(self, snapshot: Snapshot, vectors: Vectors) -> None:
        name, bundle, built_from = snapshot.gallery, snapshot.encoder_bundle, vectors.layout
        ids = [picture.image_id for picture in snapshot.pictures]
        try:
            rebuilt = self._index_manager.rebuild(name, bundle, ids, vectors)
            if not await asyncio.wrap_future(rebuilt):
                return
            generation = vectors.layout.generation
            async with self._refreshing:
                if name not in self._known:  # Deleted meanwhile.
                    await asyncio.to_thread(self._index_manager.forget, name, bundle)
                    return
                now = self._known[name].snapshot.embeddings
                if not isinstance(now, Vectors) or now.layout.generation is generation:
                    return
                if not now.adopt(generation, built_from):
                    # Read whole meanwhile, perhaps for a purge: nothing may be left of it.
                    await asyncio.to_thread(self._index_manager.forget, name, bundle)
        except Exception:
            log.exception("gallery %s stays on its old index", name)
        finally:
            del self._building[name]

    async def settled(self) -> None:
        """Waits until no generation is being built and every revision is calibrated."""
        while self._building or self._calibrating:
            await asyncio.gather(*self._building.values(), *self._calibrating.values())

    def _recalibrated(self, known: Knowledge) -> bool:
        """Whether labelled traffic has placed, or no longer places, another threshold."""
        validated = _validated(self._store, known.snapshot, self._method, self._epsilon)
        used = known.calibration if known.calibration.source == "validation" else None
        return validated != used

    async def follow(self, interval_s: float) -> None:
        """Refreshes for ever, so that changes by other processes are seen."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.refresh()
            except Exception:
                # A store that cannot be read now must not stop what is known from answering.
                log.exception("cannot follow the store; answering from what is known")
