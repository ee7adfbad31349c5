"""What the server knows right now: one `Knowledge` per gallery, swapped whole.

    store ──> snapshot ──> Knowledge ──swap──> queries
      ^ own changes: at once         ^ changes by other processes: polled

A query takes the knowledge it began with to its end; a new one is built beside
the old, in a worker thread, so no query waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from pagesight_server.decision import CALIBRATION_VERSION, Calibration, Knowledge
from pagesight_server.errors import NotFoundError, StorageError
from pagesight_server.evidence import MethodName
from pagesight_server.gallery import Gallery
from pagesight_server.snapshot import Bundles, Snapshot, check_bundles

log = logging.getLogger(__name__)


def validation_key(snapshot: Snapshot, method: MethodName, epsilon: float) -> str:
    """What the store calls a threshold that labelled traffic placed; not for other bundles."""
    made_by = snapshot.bundles
    return f"{_key(method, epsilon)} validation {made_by.encoder} {made_by.ocr}"


def _key(method: MethodName, epsilon: float) -> str:
    return f"{method} {epsilon} v{CALIBRATION_VERSION}"


def know(store: Gallery, name: str, method: MethodName, epsilon: float) -> Knowledge:
    """Reads a gallery and prepares it for queries; calibrates it unless that was stored.

    A threshold that labelled traffic placed is preferred, also when the gallery has changed since:
    that was measured on what is asked, and the gallery's own is an estimate.

    Raises:
        NotFoundError: no such gallery.
    """
    snapshot = store.snapshot(name)
    key = _key(method, epsilon)
    stored = store.calibration(name, snapshot.revision, key)
    knowledge = Knowledge.of(
        snapshot,
        method,
        epsilon=epsilon,
        calibration=Calibration.from_json(stored) if stored else None,
    )
    if not stored:
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
    """

    def __init__(
        self, store: Gallery, bundles: Bundles, *, method: MethodName, epsilon: float
    ) -> None:
        self._store = store
        self._bundles = bundles
        self._method: MethodName = method
        self._epsilon = epsilon
        self._known: dict[str, Knowledge] = {}
        self._refreshing = asyncio.Lock()

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
            for name, revision in revisions.items():
                known = self._known.get(name)
                if (
                    known is not None
                    and known.snapshot.revision == revision
                    and not await asyncio.to_thread(self._recalibrated, known)
                ):
                    continue
                self._known[name] = await asyncio.to_thread(
                    know, self._store, name, self._method, self._epsilon
                )
                log.info("gallery %s is at revision %d", name, self._known[name].snapshot.revision)
                if warning := outdated(self._known[name]):
                    log.warning("gallery %s: %s", name, warning)

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
