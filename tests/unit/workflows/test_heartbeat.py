"""Heartbeats: written when something changed or time has passed, and never an error of serving."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Gallery
from pagesight_server.workflows.heartbeat import BEAT_S, Heartbeat, replica_name


class Store(Gallery):
    """A store that counts notes, and may not take them."""

    beats = 0
    full = False

    def beat(self, replica_id: str, name: str, revisions: object) -> None:
        self.beats += 1
        if self.full:
            raise StorageError("the disk is full")
        super().beat(replica_id, name, revisions)  # type: ignore[arg-type]


async def test_a_note_is_written_when_what_is_loaded_changes_and_now_and_then(
    tmp_path: Path,
) -> None:
    store, loaded, now_s = Store(tmp_path / "gallery.db"), {"default": 1}, 0.0
    heartbeat = Heartbeat(store, "a:50051", lambda: loaded, clock=lambda: now_s)
    await heartbeat.beat()
    await heartbeat.beat()
    assert store.beats == 1
    loaded["default"] = 2
    await heartbeat.beat()
    assert store.beats == 2
    now_s = BEAT_S
    await heartbeat.beat()
    await heartbeat.beat()
    assert store.beats == 3
    assert [(r.name, r.revisions) for r in store.replicas()] == [("a:50051", {"default": 2})]
    await heartbeat.leave()
    assert store.replicas() == []
    store.close()


async def test_a_note_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = Store(tmp_path / "gallery.db")
    store.full = True
    heartbeat = Heartbeat(store, "a:50051", lambda: {"default": 1})
    await heartbeat.beat()
    await heartbeat.beat()
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    store.full = False
    await heartbeat.beat()
    assert len(store.replicas()) == 1
    store.close()


def test_a_replica_is_named_by_host_port_and_process() -> None:
    host = socket.gethostname()
    assert replica_name(50051) == f"{host}:50051"
    assert replica_name(50051, 2) == f"{host}:50051/2"
    assert replica_name(0) == f"{host}:pid {os.getpid()}"
