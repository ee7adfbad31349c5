"""Of all processes that serve a store, one calibrates a revision; the others wait for the outcome.

    is it stored? ──yes──> it is used
          └──no──> another process of this server calibrates, or another server has claimed it
                        ├──yes──> asked again soon, for so long as the claimer is heard of
                        └──no──> claimed, made and stored here, and the claim taken back

A claim is nobody's truth: where it cannot be made, or two have it, a revision is calibrated twice.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

from pagesight_server.common.errors import RequestError, StorageError, StoreAwayError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.workflows.knowledge import (
    ELSEWHERE_POLL_S,
    StoppedError,
    calibration_keys,
    stored_calibration,
)

ELSEWHERE_S = 600.0
"""How long another process may take to calibrate before this one does it as well: five times as
long as the largest galleries take."""


class CalibrationTurns:
    """Says when this process may calibrate a revision, and whether it still has to.

    Args:
        store: Keeps calibrations and claims.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        calibrates: Whether this process calibrates at all, or another one of its server.
        replica_id: Under which it is noted in the store that this process serves; empty where that
            is not noted: others then cannot wait for it, nor does it wait for them.
    """

    def __init__(
        self,
        store: Gallery,
        method: MethodName,
        epsilon: float,
        *,
        calibrates: bool,
        replica_id: str,
    ) -> None:
        self._store = store
        self._method: MethodName = method
        self._epsilon = epsilon
        self.calibrates = calibrates
        self._replica_id = replica_id

    @asynccontextmanager
    async def turn(self, snapshot: Snapshot, stop: threading.Event) -> AsyncIterator[bool]:
        """Waits until a calibration is stored, or is this process's to make within the block.

        Not for ever: whoever makes it may have failed, or be busy with another revision.

        Args:
            snapshot: The revision.
            stop: Ends the wait once it is set.

        Yields:
            Whether the revision is still the gallery's: nobody calibrates one that it has left.

        Raises:
            NotFoundError: the gallery was deleted.
            StoppedError: `stop` was set.
            StoreAwayError: the store cannot be asked.
        """
        if self.calibrates and not self._replica_id:
            yield True
            return
        outcome = await self._waited(snapshot, stop)
        try:
            yield outcome != "left"
        finally:
            if outcome == "ours":
                with suppress(RequestError):  # it ends with this process at the latest
                    await asyncio.to_thread(self._drop_claim, snapshot)

    async def _waited(
        self, snapshot: Snapshot, stop: threading.Event
    ) -> Literal["made", "ours", "left", "late"]:
        name, revision = snapshot.gallery, snapshot.revision
        give_up_s = time.monotonic() + ELSEWHERE_S
        while time.monotonic() < give_up_s:
            if stop.is_set():
                raise StoppedError
            if await asyncio.to_thread(self._is_made, snapshot):
                return "made"
            if self.calibrates and await asyncio.to_thread(self._claim, snapshot):
                return "ours"
            if (await asyncio.to_thread(self._store.gallery, name)).revision != revision:
                return "left"
            await asyncio.sleep(ELSEWHERE_POLL_S)
        return "late"

    def _is_made(self, snapshot: Snapshot) -> bool:
        return bool(stored_calibration(self._store, snapshot, self._method, self._epsilon))

    def _claim(self, snapshot: Snapshot) -> bool:
        name, revision, key = snapshot.gallery, snapshot.revision, self._key(snapshot)
        try:
            return self._store.claim_calibration(name, revision, key, self._replica_id)
        except StoreAwayError:
            raise
        except StorageError:
            return True  # The disk is full: it can be calibrated all the same.

    def _drop_claim(self, snapshot: Snapshot) -> None:
        self._store.drop_claim(snapshot.gallery, self._key(snapshot), self._replica_id)

    def _key(self, snapshot: Snapshot) -> str:
        return calibration_keys(snapshot, self._method, self._epsilon)[-1]
