"""Galleries that are deleted are forgotten, with their indexes, whenever that happens."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.common.errors import NotFoundError
from pagesight_server.gallery import Change
from pagesight_server.index import ivf
from pagesight_server.index.ivf import IvfBase
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.codes import fill, only_codes
from tests.support.parts import BUNDLES
from tests.support.registries import Store, happens, registry_of
from tests.support.stores import enrol, file_of


def indexed(store: Store) -> tuple[Registry, Path]:
    """A registry whose indexes are kept in files, and their folder."""
    folder = file_of(store).with_name("gallery.db.index")
    index_manager = IndexManager(IndexSettings(kind="ivfpq", device="cpu"), folder)
    registry = Registry(store, BUNDLES, method="seed", epsilon=0.05, index_manager=index_manager)
    return registry, folder


def kept_files(folder: Path) -> list[str]:
    """The files of all generations, by their suffix."""
    return sorted(path.suffix for path in folder.iterdir() if path.name != "lock")


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A gallery that is searched by codes, and nothing else."""
    only_codes(monkeypatch)
    fill(tmp_path / "gallery.db")
    store = Store(tmp_path / "gallery.db")
    yield store
    store.close()


async def test_a_deleted_gallery_is_forgotten_with_its_index_and_the_others_answer(
    large: Store,
) -> None:
    registry, folder = indexed(large)
    enrol(large, {"one": "a"}, gallery="second")
    await registry.refresh()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert kept_files(folder) == [".codes", ".json", ".vectors"]
    large.delete(Change())
    await registry.refresh()
    assert list(registry.known()) == ["second"]
    assert kept_files(folder) == []
    with pytest.raises(NotFoundError, match="no gallery 'default'"):
        registry.get("default")


async def test_a_gallery_deleted_while_no_server_ran_leaves_no_index(
    large: Store,
) -> None:
    registry, folder = indexed(large)
    await registry.refresh()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    large.delete(Change())
    started_anew, _ = indexed(large)
    await started_anew.refresh()
    assert kept_files(folder) == []


async def test_an_index_that_was_being_built_of_a_deleted_gallery_is_not_kept(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, folder = indexed(large)
    begun, go_on = threading.Event(), threading.Event()

    def slow_build(*arguments: Any, **options: Any) -> IvfBase:
        begun.set()
        assert go_on.wait(WAIT_S)
        return ivf.build(*arguments, **options)

    monkeypatch.setattr("pagesight_server.index.manager.build", slow_build)
    await registry.refresh()
    await happens(begun)
    large.delete(Change())
    await registry.refresh()
    go_on.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert registry.known() == {}
    assert kept_files(folder) == []


async def test_a_gallery_deleted_in_the_middle_of_a_refresh_does_not_stop_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    enrol(store, {"one": "a"})
    enrol(store, {"one": "a"}, gallery="second")
    registry = registry_of(store)
    await registry.refresh()
    await registry.settled()
    enrol(store, {"two": "a"})
    enrol(store, {"two": "a"}, gallery="second")
    store.deleted_next = {"default"}
    await registry.refresh()
    await registry.settled()
    assert list(registry.known()) == ["second"]
    assert registry.get("second").snapshot.revision == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_gallery_deleted_before_it_was_calibrated_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pagesight_server.workflows.refresh.MIN_REUSE_PICTURES", 2)
    enrol(store, {"a1": "a", "a2": "a", "b1": "b"})
    registry = registry_of(store)
    await registry.refresh()
    await registry.settled()
    store.calibrated.clear()
    enrol(store, {"b2": "b"})
    await registry.refresh()
    store.delete(Change())
    store.calibrated.set()
    await asyncio.wait_for(registry.settled(), WAIT_S)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_deleted_gallery_may_be_enrolled_anew(store: Store) -> None:
    registry = registry_of(store)
    enrol(store, {"one": "a"})
    await registry.refresh()
    store.delete(Change())
    await registry.refresh()
    enrol(store, {"two": "b"})
    await registry.refresh()
    assert registry.get("default").snapshot.labels == ("b",)
