"""Following a store change by change ends where reading it whole does, whatever happened."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagesight_server.gallery import Change, Content, Entry, Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.index.exact import FlatIndex
from pagesight_server.index.ivf import Codes
from pagesight_server.index.layered import nearest
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Vectors
from pagesight_server.workflows.calibration_turns import CalibrationTurns
from pagesight_server.workflows.knowledge_table import KnowledgeTable
from pagesight_server.workflows.refresh import Refresher
from pagesight_server.workflows.registry import Registry
from tests.support.parts import BUNDLES, reading, unit

LABELS = ["a", "b", "other_x"]
TEXTS_PER_LABEL = 3
"""Few, so that texts come into the sample and leave it."""
some = st.lists(st.integers(0, 9), min_size=1, max_size=4)


def picture(store: Gallery, number: int, dimension: int = 8) -> str:
    """Stores an imagined picture; the even ones are each other's twins."""
    seed = 0 if number % 2 == 0 and number < 10 else number
    direction = np.random.default_rng(seed).normal(size=dimension)
    data = f"p{number}".encode()
    content = Content(
        image_id=hashlib.sha256(data).hexdigest(),
        width_px=108,
        height_px=240,
        data=data,
        embedding=unit(*direction),
        reading=reading(f"第{number}页"),
    )
    store.put_content(content, BUNDLES)
    return content.image_id


def registry_of(store: Gallery, index_manager: IndexManager | None = None) -> Registry:
    return Registry(store, BUNDLES, method="seed", epsilon=0.05, index_manager=index_manager)


def same(followed: Snapshot, whole: Snapshot) -> None:
    """They say the same, and answer the same."""
    assert followed.pictures == whole.pictures
    assert followed.revision == whole.revision
    assert followed.facts == whole.facts
    assert dict(followed.sample) == dict(whole.sample)
    np.testing.assert_array_equal(followed.embeddings[:], whole.embeddings[:])
    rows = np.arange(len(whole.pictures), dtype=np.int64)[::2]
    query = unit(*np.random.default_rng(whole.revision).normal(size=8))
    if len(rows):
        hits = nearest(followed.embeddings, rows).search(query, 4)
        expected = FlatIndex(whole.embeddings[:], rows).search(query, 4)
        assert hits.rows.tolist() == expected.rows.tolist()
        assert hits.cosines.tolist() == expected.cosines.tolist()


class Follower(RuleBasedStateMachine):
    """A store, and a server's view of it that reads only what changed."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "gallery.db"
        self.store = Gallery(self.path, texts_per_label=TEXTS_PER_LABEL)
        self.ids = [picture(self.store, number) for number in range(10)]
        self.store.enrol(Change(), [Entry(image_id=self.ids[0], label="a")], BUNDLES)
        self.reopen()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    def members(self) -> list[str]:
        return [p.image_id for p in self.store.snapshot().pictures]

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Gallery(self.path, texts_per_label=TEXTS_PER_LABEL)
        self.index_manager = IndexManager()
        self.refresher = Refresher(
            KnowledgeTable(),
            self.store,
            method="seed",
            epsilon=0.05,
            index_manager=self.index_manager,
            turns=CalibrationTurns(self.store, "seed", 0.05, calibrates=True, replica_id=""),
        )
        self.followed: Snapshot | None = None

    @rule(numbers=some, label=st.sampled_from(LABELS))
    def enrol(self, numbers: list[int], label: str) -> None:
        entries = [Entry(image_id=self.ids[n], label=label) for n in dict.fromkeys(numbers)]
        self.store.enrol(Change(), entries, BUNDLES)

    @rule(numbers=some)
    def remove(self, numbers: list[int]) -> None:
        gone = [self.ids[n] for n in numbers if self.ids[n] in self.members()]
        if gone:
            self.store.remove(Change(), gone)

    @rule(numbers=some, label=st.sampled_from(LABELS))
    def relabel(self, numbers: list[int], label: str) -> None:
        there = [self.ids[n] for n in numbers if self.ids[n] in self.members()]
        if there:
            self.store.relabel(Change(), there, label)

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        now = self.store.revisions()["default"]
        self.store.rollback(Change(), data.draw(st.integers(1, now)))

    @precondition(lambda self: self.followed is not None and self.followed.pictures)
    @rule()
    def rebuild(self) -> None:
        assert self.followed is not None
        vectors = self.followed.embeddings
        assert isinstance(vectors, Vectors)
        ids = [p.image_id for p in self.followed.pictures]
        assert self.index_manager.rebuild("default", BUNDLES.encoder, ids, vectors).result()
        assert vectors.changed == 0

    @rule()
    def follow(self) -> None:
        """Steps by several revisions when this comes seldom."""
        self.followed = self.refresher.read_snapshot("default", self.followed)
        same(self.followed, self.store.snapshot())

    @invariant()
    def an_old_snapshot_is_still_what_it_was(self) -> None:
        if getattr(self, "followed", None) is not None:
            assert self.followed is not None
            same(self.followed, self.store.snapshot(revision=self.followed.revision))


def test_any_interleaving_of_changes_is_followed_exactly() -> None:
    run_state_machine_as_test(Follower, settings=settings(max_examples=15, stateful_step_count=20))


@pytest.fixture
def store(tmp_path: Path) -> Gallery:
    store = Gallery(tmp_path / "gallery.db")
    entries = [
        Entry(image_id=picture(store, number, 16), label=f"l{number % 7}")
        for number in range(10, 610)
    ]
    store.enrol(Change(), entries, BUNDLES)
    return store


CODES: tuple[Codes, Codes] = ("ivfpq", "ivfrabitq")


def manager_of(store: Gallery, codes: Codes = "ivfpq", min_recall: float = 0.98) -> IndexManager:
    chosen = IndexSettings(kind=codes, device="cpu", min_recall=min_recall)
    return IndexManager(chosen, store.database.derived_folder)


def kind(registry: Registry) -> str:
    vectors = registry.get("default").snapshot.embeddings
    assert isinstance(vectors, Vectors)
    return vectors.layout.generation.base.kind


def kept_by(store: Gallery, vector: bytes) -> bool:
    """Whether a file of the index holds these bytes."""
    folder = store.database.derived_folder
    return any(vector in path.read_bytes() for path in folder.iterdir())


@pytest.mark.parametrize("codes", CODES)
async def test_a_gallery_answers_at_once_and_moves_to_codes_when_they_are_ready(
    store: Gallery, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.index.ivf.STEPS", ((1_000, 1_000),))
    registry = registry_of(store, manager_of(store, codes))
    await registry.refresh()
    query = registry.get("default").snapshot.embeddings[3]
    before = registry.get("default").method.search(query)
    await registry.settled()
    assert kind(registry) == codes
    after = registry.get("default").method.search(query)
    assert after.rows.tolist() == before.rows.tolist()
    assert after.cosines.tolist() == before.cosines.tolist()
    store.close()


@pytest.mark.parametrize("codes", CODES)
async def test_what_was_enrolled_while_codes_were_made_is_found(
    store: Gallery, codes: Codes
) -> None:
    registry = registry_of(store, manager_of(store, codes))
    await registry.refresh()
    new = picture(store, 900, 16)
    store.enrol(Change(), [Entry(image_id=new, label="new")], BUNDLES)
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == codes
    snapshot = registry.get("default").snapshot
    (row,) = (i for i, p in enumerate(snapshot.pictures) if p.image_id == new)
    assert registry.get("default").method.search(snapshot.embeddings[row]).rows[0] == row
    store.close()


@pytest.mark.parametrize("codes", CODES)
async def test_a_restart_takes_the_codes_that_were_kept_and_what_changed_since(
    store: Gallery, codes: Codes
) -> None:
    registry = registry_of(store, manager_of(store, codes))
    await registry.refresh()
    await registry.settled()
    gone = registry.get("default").snapshot.pictures[0].image_id
    store.remove(Change(), [gone])
    new = picture(store, 900, 16)
    store.enrol(Change(), [Entry(image_id=new, label="new")], BUNDLES)

    again = registry_of(store, manager_of(store, codes))
    await again.refresh()
    assert kind(again) == codes
    snapshot, whole = again.get("default").snapshot, store.snapshot()
    assert snapshot.pictures == whole.pictures
    np.testing.assert_array_equal(snapshot.embeddings[:], whole.embeddings[:])
    vectors = snapshot.embeddings
    assert isinstance(vectors, Vectors)
    assert vectors.changed == 2
    assert not again._rebuilder.tasks
    store.close()


@pytest.mark.parametrize(("before", "after"), [CODES, CODES[::-1]])
async def test_kept_codes_of_another_kind_are_made_anew(
    store: Gallery, before: Codes, after: Codes
) -> None:
    registry = registry_of(store, manager_of(store, before))
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == before

    again = registry_of(store, manager_of(store, after))
    await again.refresh()
    assert kind(again) == "flat"
    await again.settled()
    assert kind(again) == after
    restarted = registry_of(store, manager_of(store, after))
    await restarted.refresh()
    assert kind(restarted) == after
    store.close()


async def test_codes_that_find_too_little_are_said_and_not_used(
    store: Gallery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.index.ivf.STEPS", ((1, 1),))
    registry = registry_of(store, manager_of(store, min_recall=1.0))
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == "flat"
    assert "gallery default stays on its old index: IVF-PQ over 600 pictures" in caplog.text
    await registry.refresh()
    assert not registry._rebuilder.tasks
    store.close()


async def test_codes_that_were_refused_are_not_tried_again_at_every_change(
    store: Gallery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_manager = manager_of(store)
    registry = registry_of(store, index_manager)
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == "ivfpq"
    monkeypatch.setattr(IndexSettings, "is_due", lambda self, base, changed: changed > 0)
    monkeypatch.setattr("pagesight_server.index.ivf.STEPS", ((1, 1),))
    index_manager.settings = IndexSettings(kind="ivfpq", min_recall=1.0)
    for number in (900, 901):
        new = picture(store, number, 16)
        store.enrol(Change(), [Entry(image_id=new, label="new")], BUNDLES)
        await registry.refresh()
        await registry.settled()
    assert caplog.text.count("stays on its old index") == 1
    assert kind(registry) == "ivfpq"
    store.close()


async def test_where_the_disk_was_full_the_next_change_tries_again(
    store: Gallery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(store, manager_of(store))
    with monkeypatch.context() as full:
        room = shutil.disk_usage("/")._replace(free=0)
        full.setattr(shutil, "disk_usage", lambda path: room)
        await registry.refresh()
        await registry.settled()
    assert kind(registry) == "flat"
    assert "gallery default stays on its old index: [Errno 28]" in caplog.text
    new = picture(store, 900, 16)
    store.enrol(Change(), [Entry(image_id=new, label="new")], BUNDLES)
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == "ivfpq"
    store.close()


async def test_kept_codes_that_find_less_than_is_asked_now_are_made_anew(
    store: Gallery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pagesight_server.index.ivf.STEPS", ((1, 1),))
        registry = registry_of(store, manager_of(store, min_recall=0.01))
        await registry.refresh()
        await registry.settled()
        assert kind(registry) == "ivfpq"
    again = registry_of(store, manager_of(store, min_recall=0.98))
    await again.refresh()
    assert kind(again) == "flat"
    assert "less than index.min_recall" in caplog.text
    await again.settled()
    assert kind(again) == "ivfpq"
    store.close()


async def test_a_purge_leaves_no_vector_in_the_index(store: Gallery) -> None:
    registry = registry_of(store, manager_of(store))
    await registry.refresh()
    await registry.settled()
    purged = registry.get("default").snapshot.pictures[0].image_id
    vector = registry.get("default").snapshot.embeddings[0].astype(np.float16).tobytes()
    assert kept_by(store, vector)
    store.purge([purged], author="mei")
    await registry.refresh()
    await registry.settled()
    assert kind(registry) == "ivfpq"
    assert not kept_by(store, vector)
    assert purged not in {p.image_id for p in registry.get("default").snapshot.pictures}
    store.close()
