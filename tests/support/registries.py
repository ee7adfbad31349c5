"""Registries that follow a store, and stores that tell when they are asked and fail as told."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Change, Gallery
from pagesight_server.gallery.snapshot import Changes, Snapshot
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.stores import enrol


class Store(Gallery):
    """A store that tells when it is asked, and fails as the test says."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read = threading.Event()
        """Set after a snapshot was taken."""
        self.failed = threading.Event()
        self.broken = False
        self.full = False
        self.calibrated = threading.Event()
        """Unset: the calibration of the next revision is held up before it is stored."""
        self.calibrated.set()
        self.storing = threading.Event()
        """Set when a calibration, or a step of it, is stored that may be held up."""
        self.held: str | None = None
        """The only gallery whose calibration is held up; None: whichever."""
        self.deleted_next: set[str] = set()
        """Deleted right after the revisions were read the next time."""
        self.readable = threading.Event()
        """Unset: reading the revisions takes until it is set."""
        self.readable.set()

    def revisions(self) -> dict[str, int]:
        assert self.readable.wait(WAIT_S)
        if self.broken:
            self.failed.set()
            raise sqlite3.OperationalError("disk I/O error")
        revisions = super().revisions()
        for name in self.deleted_next:
            self.delete(Change(gallery=name))
        self.deleted_next = set()
        return revisions

    def snapshot(
        self, name: str = "default", revision: int | None = None, *, rounded: bool = False
    ) -> Snapshot:
        taken = super().snapshot(name, revision, rounded=rounded)
        self.read.set()
        return taken

    def changes(self, name: str, revision: int) -> Changes | None:
        found = super().changes(name, revision)
        self.read.set()
        return found

    def put_calibration(self, name: str, revision: int, method: str, calibration: str) -> None:
        if self.full:
            raise StorageError("the store could not be written and is unchanged: disk is full")
        if self.held in (None, name):
            self.storing.set()
            assert self.calibrated.wait(WAIT_S)
        super().put_calibration(name, revision, method, calibration)


def registry_of(store: Gallery) -> Registry:
    """A registry of a store, as a server has one."""
    return Registry(store, BUNDLES, method="pagesight", epsilon=0.05)


@asynccontextmanager
async def following(registry: Registry) -> AsyncIterator[None]:
    """Follows the store for the time of the block."""
    task = asyncio.create_task(registry.follow(0.01))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def happens(event: threading.Event) -> None:
    """Waits for what must happen."""
    assert await asyncio.to_thread(event.wait, WAIT_S)


def with_large(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Enrols a gallery of four pictures, which counts as large, and a small one."""
    monkeypatch.setattr("pagesight_server.workflows.refresh.LARGE_PICTURES", 4)
    monkeypatch.setattr("pagesight_server.recognition.calibration.STEP_PICTURES", 1)
    monkeypatch.setattr("pagesight_server.workflows.knowledge.STEPS_EVERY_S", 0.0)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b", "b2": "b"})
    enrol(store, {"one": "c"}, gallery="small")
    store.held = "default"
    return store
