"""Whatever happens to a gallery over a base of codes, it answers like brute force over SQLite.

    store ──follow──> registry: base (codes) + delta - tombstones ──search──> hits
      └─SQL, float64──────────────────────────────────────────────────────> the same

Every list is looked into and every candidate rescored, so that nothing may be missed: what is
tested is all that lies around the codes, not how well they are chosen. A crash leaves the store as
its files were at that moment, and the index at any step of being written.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.index.ivf import Codes
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Layout, Vectors
from pagesight_server.workflows.registry import Registry
from tests.support.codes import LABELS, LATE, NAMES, at_revision, compare, fill, only_codes
from tests.support.parts import BUNDLES
from tests.support.stores import picture_id, sqlite

SOME = st.lists(st.sampled_from([*LATE, *NAMES[:12]]), min_size=1, max_size=5, unique=True)


class Waiting(IndexManager):
    """An index manager that builds when the test says, in the test's thread."""

    def __init__(self, folder: Path, codes: Codes) -> None:
        super().__init__(IndexSettings(kind=codes, device="cpu"), folder)
        self.due = True
        self.waiting: list[tuple[Future[bool], tuple[Any, ...]]] = []

    def is_due(self, gallery: str, vectors: Vectors) -> bool:
        due, self.due = self.due, False
        return due

    def rebuild(
        self, gallery: str, bundle: str, ids: Sequence[str], vectors: Vectors
    ) -> Future[bool]:
        done: Future[bool] = Future()
        self.waiting.append((done, (gallery, bundle, ids, vectors)))
        return done

    def build(self) -> None:
        for done, of in self.waiting:
            done.set_result(self._rebuild(*of))
        self.waiting.clear()


@contextmanager
def every_state_of(folder: Path, kept: Path) -> Iterator[list[Path]]:
    """Copies of a folder as it is before each sync and each renaming within the block."""
    states: list[Path] = []
    rename = Path.replace

    def copy() -> None:
        states.append(kept / f"state-{len(states)}")
        if folder.exists():
            shutil.copytree(folder, states[-1])
        else:
            states[-1].mkdir(parents=True)

    def fsync(file: int) -> None:
        copy()

    def replace(self: Path, target: Path) -> Path:
        copy()
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(Path, "replace", replace)
        yield states
        copy()


class Galleries(RuleBasedStateMachine):
    """A store and a server's view of it."""

    template: Path
    codes: Codes
    over_codes = 0
    """Searches over codes with a delta and tombstones, in all examples."""

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.Runner()
        self.random = np.random.default_rng(0)
        self.folders = tempfile.TemporaryDirectory()
        self.crashes = 0
        self.purged: set[str] = set()
        self.backup = Path(self.folders.name) / "backup.db"
        self.path = Path(self.folders.name) / "0" / "gallery.db"
        self.path.parent.mkdir()
        shutil.copy(self.template, self.path)
        self.open()
        self.follow()
        self.build(None)
        self.enrol(LATE[4:5], "a", True)
        self.remove(NAMES[:1], True)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.close()
            self.loop.close()
            self.folders.cleanup()

    def open(self) -> None:
        self.store = Gallery(self.path)
        # The disk is not what is tested here, and syncing to it takes all the time.
        sqlite(self.store).execute("PRAGMA synchronous = OFF")
        self.index_manager = Waiting(Path(f"{self.path}.index"), self.codes)
        self.registry = Registry(
            self.store, BUNDLES, method="seed", epsilon=0.05, index_manager=self.index_manager
        )

    def close(self) -> None:
        self.loop.run(self.registry.close())
        self.store.close()

    @property
    def members(self) -> dict[str, str]:
        revision = self.store.revisions()["default"]
        return {row.image_id: row.label for row in at_revision(self.path, revision)}

    @rule(names=SOME, label=st.sampled_from(LABELS), seen=st.booleans())
    def enrol(self, names: list[str], label: str, seen: bool) -> None:
        entries = [Entry(image_id=picture_id(name), label=label) for name in names]
        self.store.enrol(Change(), entries, BUNDLES)
        if seen:
            self.follow()

    @rule(names=SOME, seen=st.booleans())
    def remove(self, names: list[str], seen: bool) -> None:
        there = self.members
        gone = [picture_id(name) for name in names if picture_id(name) in there]
        if gone:
            self.store.remove(Change(), gone)
        if seen:
            self.follow()

    @rule(names=SOME, label=st.sampled_from(LABELS))
    def relabel(self, names: list[str], label: str) -> None:
        there = self.members
        ids = [picture_id(name) for name in names if picture_id(name) in there]
        if ids:
            self.store.relabel(Change(), ids, label)

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        # Some numbers are left out by a restore.
        made = [change.revision for change in self.store.history("default", limit=1_000)]
        self.store.rollback(Change(), data.draw(st.sampled_from(made)))

    @rule(name=st.sampled_from(LATE[:4]), killed=st.booleans())
    def purge(self, name: str, killed: bool) -> None:
        """Rewrites the past, so the server must see it before it is compared with that."""
        self.store.purge([picture_id(name)], author="li")
        self.purged.add(picture_id(name))
        if killed:
            self.build(None)  # by a server that has not seen the purge
            self.crash()
        self.follow()

    @rule()
    def back_up(self) -> None:
        backup.backup(self.store, self.backup)

    @rule()
    def restore(self) -> None:
        """Puts another past in the place of this one, so the server must see it, too."""
        if self.backup.exists():
            backup.restore(self.backup, self.path, author="li", force=True)
            self.follow()

    @rule()
    def another_server_builds(self) -> None:
        store, index_manager, registry = self.store, self.index_manager, self.registry
        self.open()
        self.index_manager.due = True
        self.follow()
        self.build(None)
        self.it_answers_like_brute_force_over_what_sqlite_says()
        self.close()
        self.store, self.index_manager, self.registry = store, index_manager, registry

    @rule()
    def follow(self) -> None:
        async def refresh() -> None:
            await self.registry.refresh()
            await asyncio.sleep(0)  # A rebuild that is due begins in a task of its own.

        self.loop.run(refresh())

    @rule()
    def begin_a_rebuild(self) -> None:
        self.index_manager.due = True

    @rule(crash_at=st.none() | st.integers(0, 20))
    def build(self, crash_at: int | None) -> None:
        """Ends the rebuild that was begun, or has the process killed at some step of it."""
        if not self.index_manager.waiting:
            return
        folder = Path(f"{self.path}.index")
        with tempfile.TemporaryDirectory() as kept:
            with every_state_of(folder, Path(kept)) as states:
                self.index_manager.build()
            if crash_at is None or not states:
                self.loop.run(asyncio.wait_for(self.registry._rebuilder.tasks.settled(), 60))
            else:
                self.crash(states[crash_at % len(states)])

    @rule()
    def crash(self, index: Path | None = None) -> None:
        """What a killed process leaves: its files, as they were."""
        before = self.path
        self.crashes += 1
        self.path = Path(self.folders.name) / str(self.crashes) / "gallery.db"
        self.path.parent.mkdir()
        for file in before.parent.glob("gallery.db*"):
            if file.is_file() and not file.name.endswith("-shm"):  # made anew from the log
                shutil.copy(file, self.path.parent)
        index = index or Path(f"{before}.index")
        if index.exists():
            shutil.copytree(index, f"{self.path}.index")
        self.close()
        shutil.rmtree(before.parent)
        self.open()

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule(data=st.data(), how=st.sampled_from(["gone", "cut", "flipped"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        """Of the files that are derived, whatever becomes of them must not show in an answer."""
        folder = Path(f"{self.path}.index")
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
        if not files:
            return
        file = data.draw(st.sampled_from(files))
        whole = bytearray(file.read_bytes())
        file.unlink()  # A server that has it mapped keeps what it holds.
        if how == "cut":
            file.write_bytes(whole[: len(whole) // 2])
        if how == "flipped":
            whole[data.draw(st.integers(0, len(whole) - 1))] ^= 16
            file.write_bytes(whole)
        self.reopen()

    @invariant()
    def it_answers_like_brute_force_over_what_sqlite_says(self) -> None:
        known = self.registry.known().get("default")
        if known is None:
            return
        snapshot = known.snapshot
        compare(snapshot, self.path, known.method.search, self.random)
        assert isinstance(snapshot.embeddings, Vectors)
        self.count(snapshot.embeddings.layout)

    @invariant()
    def what_was_purged_is_in_no_file_of_the_index(self) -> None:
        if self.registry.known() and not self.index_manager.waiting:
            files = [file for file in Path(f"{self.path}.index").rglob("*") if file.is_file()]
            kept = b"".join(file.read_bytes() for file in files)
            assert not [image_id for image_id in self.purged if bytes.fromhex(image_id) in kept]

    def count(self, layout: Layout) -> None:
        generation, tail, slots = layout
        gone = len(generation) - int(np.count_nonzero(slots < len(generation)))
        type(self).over_codes += bool(generation.base.kind == self.codes and len(tail) and gone)


def run(folder: Path, examples: int, steps: int, codes: Codes, patch: pytest.MonkeyPatch) -> None:
    only_codes(patch)
    template = folder / "template.db"
    fill(template)

    class Machine(Galleries):
        pass

    Machine.template, Machine.codes = template, codes
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
    assert Machine.over_codes >= examples, f"{Machine.over_codes} searches over codes and changes"


@pytest.mark.heavy
@pytest.mark.parametrize("codes", ["ivfpq", "ivfrabitq"])
def test_any_interleaving_over_codes_answers_like_brute_force(
    tmp_path: Path, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, 6, 25, codes, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("codes", ["ivfpq", "ivfrabitq"])
def test_a_great_many_interleavings_over_codes_answer_like_brute_force(
    tmp_path: Path, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, 200, 40, codes, monkeypatch)
