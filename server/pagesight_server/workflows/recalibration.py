"""Deferred refit: whitening and calibration of a changed gallery, in the background."""

from __future__ import annotations

import asyncio
import logging
import threading

from pagesight_server.common.errors import NotFoundError, StoreAwayError
from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.calibration_turns import CalibrationTurns
from pagesight_server.workflows.knowledge import (
    StoppedError,
    load_calibration,
    load_knowledge,
    until_retry,
)
from pagesight_server.workflows.knowledge_table import KnowledgeTable

log = logging.getLogger(__name__)


class Recalibrator:
    """Deferred refit: refits whitening and calibration of a changed gallery in the background.

    Until it is done, queries are answered by those of an earlier revision. Single-flight for each
    gallery: a change during the work has it done once more, for the newest revision alone.

    Args:
        table: Where the knowledge comes from and goes.
        store: Keeps the calibration of each revision.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        turns: Says whether a calibration is made here, or waited for.
    """

    def __init__(
        self,
        table: KnowledgeTable,
        store: Gallery,
        *,
        method: MethodName,
        epsilon: float,
        turns: CalibrationTurns,
    ) -> None:
        self._table = table
        self._store = store
        self._method: MethodName = method
        self._epsilon = epsilon
        self._stop = threading.Event()
        self._turns = turns
        self.tasks = SingleFlightTasks()
        """One for each gallery that is being calibrated."""

    def start(self, name: str) -> None:
        """Begins to calibrate a gallery, unless that has begun already or `stop` was called."""
        if not self._stop.is_set():
            self.tasks.start(name, lambda: self._calibrate(name))

    def stop(self) -> None:
        """Has what is begun end at its next step, which is kept, and nothing begin any more."""
        self._stop.set()

    async def _calibrate(self, name: str) -> None:
        calibrated: Snapshot | None = None
        try:
            while (knowledge := self._table.get(name)) and knowledge.snapshot is not calibrated:
                try:
                    await self._calibrate_revision(knowledge)
                except StoreAwayError:
                    await until_retry(self._stop)
                    continue
                calibrated = knowledge.snapshot
        except NotFoundError:
            log.info("gallery %s was deleted before it was calibrated", name)
        except StoppedError:
            log.info("gallery %s is calibrated further after the next start", name)
        except Exception:
            log.exception("gallery %s is answered by an earlier calibration", name)

    async def _calibrate_revision(self, knowledge: Knowledge) -> None:
        snapshot = knowledge.snapshot
        calibration = await asyncio.to_thread(
            load_calibration, self._store, snapshot, self._method, self._epsilon
        )
        if calibration is not None and knowledge.settled:
            return
        async with self._turns.turn(snapshot, self._stop) as is_present:
            if not is_present:
                return  # The refresh that brings the next revision begins anew.
            if self._stop.is_set():
                raise StoppedError  # Its first step would be done before it is asked.
            refitted = await asyncio.to_thread(
                load_knowledge,
                self._store,
                snapshot.gallery,
                self._method,
                self._epsilon,
                snapshot=snapshot,
                before=knowledge,
                stop=self._stop,
            )
        async with self._table.writing:
            if self._table.is_current(snapshot):
                await self._table.put(snapshot.gallery, refitted)
