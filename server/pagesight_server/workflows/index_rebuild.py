"""Rebuilds indexes in the background, each beside the one that is searched meanwhile."""

from __future__ import annotations

import asyncio
import logging

from pagesight_server.common.tasks import SingleFlightTasks
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.vectors import Vectors
from pagesight_server.workflows.knowledge_table import KnowledgeTable

log = logging.getLogger(__name__)


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

    async def close(self) -> None:
        """Gives up what is being built, and ends the threads of the indexes."""
        await self.tasks.cancel()
        self._index_manager.close()

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
