"""The present knowledge of each gallery: read without a lock, replaced whole under one."""

from __future__ import annotations

import asyncio

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.knowledge import Knowledge


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
