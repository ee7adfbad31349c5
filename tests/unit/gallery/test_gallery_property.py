"""The store against a model in plain Python, for any interleaving of changes.

The model keeps a copy of every revision; after each step, all of them must be
what the store gives for that revision.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pagesight_server.common.errors import NotFoundError, RevisionError
from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.gallery.snapshot import LabelFacts
from tests.support.parts import BUNDLES
from tests.support.postgres import PostgresServer
from tests.support.stores import picture_id, put, sqlite

NAMES = [f"p{i}" for i in range(6)]
LABELS = ["a", "b", "other_x"]
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)
labels = st.sampled_from(LABELS)
facts = st.builds(
    LabelFacts,
    brands=st.lists(st.sampled_from("AB"), max_size=2).map(tuple),
    outputs=st.lists(st.sampled_from("xy"), max_size=2).map(tuple),
)

State = tuple[dict[str, str], dict[str, LabelFacts]]
"""Label by image id, facts by label."""


class Galleries(RuleBasedStateMachine):
    """One gallery and its model."""

    @staticmethod
    def new_location(folder: Path) -> StoreLocation:
        """Where the store of one example is made."""
        return folder / "gallery.db"

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.location = self.new_location(Path(self.folder.name))
        self.store = Gallery(self.location)
        # The disk is not what is tested here, and syncing to it takes all the time.
        self.hurry()
        for name in NAMES:
            put(self.store, name)
        first = picture_id(NAMES[0])
        self.store.enrol(Change(), [Entry(image_id=first, label="a")], BUNDLES)
        self.past: list[State] = [({}, {}), ({first: "a"}, {})]
        self.counted = [0, 1]
        """Pictures of each revision when it was made: a purge does not change that."""
        self.purged: set[str] = set()
        self.had: list[set[str]] = []
        """Members of the revisions before the last purge, with those that it purged."""
        self.told: dict[str, tuple[str, int]] = {}
        self.deleted = False

    def hurry(self) -> None:
        if isinstance(self.location, Path):
            sqlite(self.store).execute("PRAGMA synchronous = OFF")

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @property
    def now(self) -> State:
        members, known = self.past[-1]
        return dict(members), dict(known)

    def append(self, state: State) -> None:
        self.past.append(state)
        self.counted.append(len(state[0]))

    def changed(self, revision: int, state: State) -> None:
        if self.deleted and state == self.past[-1]:
            # Nothing could be enrolled, so that no gallery came of it.
            assert revision == 0
            return
        self.deleted = False
        if state != self.past[-1] or revision == len(self.past):
            self.append(state)
        assert revision == len(self.past) - 1

    @rule(chosen=names, label=labels)
    def enrol(self, chosen: list[str], label: str) -> None:
        entries = [Entry(image_id=picture_id(name), label=label) for name in chosen]
        applied = self.store.enrol(Change(), entries, BUNDLES)
        members, known = self.now
        for entry, outcome in zip(entries, applied.outcomes, strict=True):
            if entry.image_id in self.purged:
                assert outcome.error is not None
                assert outcome.error[1] == "PURGED"
                continue
            present = members.setdefault(entry.image_id, label)
            assert (outcome.error is None) == (present == label)
        assert sum(outcome.added for outcome in applied.outcomes) == len(members) - len(
            self.past[-1][0]
        )
        self.changed(applied.revision, (members, known))

    @precondition(lambda self: not self.deleted)
    @rule(chosen=names)
    def remove(self, chosen: list[str]) -> None:
        members, known = self.now
        ids = [picture_id(name) for name in chosen]
        if all(image_id in members for image_id in ids):
            applied = self.store.remove(Change(), ids)
            for image_id in set(ids):
                del members[image_id]
            self.changed(applied.revision, (members, known))
        else:
            with pytest.raises(NotFoundError):
                self.store.remove(Change(), ids)

    @precondition(lambda self: not self.deleted)
    @rule(chosen=names, label=labels)
    def relabel(self, chosen: list[str], label: str) -> None:
        members, known = self.now
        ids = [picture_id(name) for name in chosen]
        if all(image_id in members for image_id in ids):
            applied = self.store.relabel(Change(), ids, label)
            differ = {image_id for image_id in ids if members[image_id] != label}
            assert applied.counts == {"relabelled": len(differ)}
            self.changed(applied.revision, (members | dict.fromkeys(ids, label), known))
        else:
            with pytest.raises(NotFoundError):
                self.store.relabel(Change(), ids, label)

    @precondition(lambda self: not self.deleted)
    @rule(label=labels, value=facts)
    def set_facts(self, label: str, value: LabelFacts) -> None:
        members, known = self.now
        if label in members.values():
            applied = self.store.set_facts(Change(), {label: value})
            known[label] = value
            if value == LabelFacts():
                del known[label]
            self.changed(applied.revision, (members, known))
        else:
            with pytest.raises(NotFoundError):
                self.store.set_facts(Change(), {label: value})

    @precondition(lambda self: not self.deleted)
    @rule()
    def delete(self) -> None:
        applied = self.store.delete(Change())
        assert applied.counts == {"removed": len(self.past[-1][0])}
        self.append(({}, {}))
        assert applied.revision == len(self.past) - 1
        self.deleted = True
        self.told.clear()
        for change in (self.store.delete, lambda change: self.store.rollback(change, 1)):
            with pytest.raises(NotFoundError):
                change(Change())

    @precondition(lambda self: not self.deleted)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        to = data.draw(st.integers(0, len(self.past) - 1))
        applied = self.store.rollback(Change(), to)
        assert {outcome.image_id for outcome in applied.outcomes} == self.lost[to]
        self.append(self.past[to])
        assert applied.revision == len(self.past) - 1

    @rule(request_id=st.sampled_from(["r1", "r2"]), name=st.sampled_from(NAMES), label=labels)
    def enrol_once(self, request_id: str, name: str, label: str) -> None:
        entries = [Entry(image_id=picture_id(name), label=label)]
        applied = self.store.enrol(Change(request_id=request_id), entries, BUNDLES)
        if request_id in self.told:
            assert (applied.to_json(), applied.revision) == self.told[request_id]
            return
        created = not self.deleted or any(outcome.added for outcome in applied.outcomes)
        if created:  # A gallery that is not there remembers nothing.
            self.told[request_id] = (applied.to_json(), applied.revision)
        members, known = self.now
        if picture_id(name) not in self.purged:
            members.setdefault(picture_id(name), label)
        self.changed(applied.revision, (members, known))

    @precondition(lambda self: len(self.past) > 1 and not self.deleted)
    @rule(data=st.data())
    def expect_a_revision(self, data: st.DataObject) -> None:
        expected = data.draw(st.integers(1, len(self.past)))
        change = Change(expected_revision=expected)
        if expected == len(self.past) - 1:
            self.store.rollback(change, expected)
            self.append(self.past[-1])
        else:
            with pytest.raises(RevisionError):
                self.store.rollback(change, 0)

    @property
    def lost(self) -> list[set[str]]:
        """Of each revision: the pictures that it had and that were purged."""
        had = self.had + [set(members) for members, _ in self.past[len(self.had) :]]
        return [members & self.purged for members in had]

    @rule(chosen=names)
    def purge(self, chosen: list[str]) -> None:
        ids = {picture_id(name) for name in chosen}
        # What each revision had, before it is taken out of all of them.
        self.had += [set(members) for members, _ in self.past[len(self.had) :]]
        new = ids - self.purged
        touches = any(new & members for members in self.had)
        revisions = self.store.purge(sorted(ids), author="li").revisions
        told = {} if self.deleted else {"default": len(self.past)}
        assert revisions == (told if touches else {})
        self.purged |= ids
        self.past = [
            ({i: label for i, label in members.items() if i not in ids}, known)
            for members, known in self.past
        ]
        # An answer that quotes a purged picture is forgotten with it.
        self.told = {
            request_id: told
            for request_id, told in self.told.items()
            if not any(image_id in told[0] for image_id in new)
        }
        if touches:
            self.append(self.past[-1])

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Gallery(self.location)
        self.hurry()

    @invariant()
    def every_revision_is_as_it_was(self) -> None:
        assert self.store.last_revisions() == {"default": len(self.past) - 1}
        assert backup.check(self.store) == []
        if self.deleted:
            assert self.store.revisions() == {}
            assert self.store.galleries() == []
            return
        for revision, (members, known) in enumerate(self.past):
            snapshot = self.store.snapshot(revision=revision)
            assert {p.image_id: p.label for p in snapshot.pictures} == members
            assert dict(snapshot.facts) == known
            assert len(snapshot.embeddings) == len(members)
        history = self.store.history("default", limit=1000)
        assert [made.images for made in reversed(history)] == [*self.counted[1:]]
        [listed] = self.store.galleries()
        members = self.past[-1][0]
        assert (listed.revision, listed.images) == (len(self.past) - 1, len(members))
        assert listed.labels == len(set(members.values()) - {"other_x"})


def run(machine: type[Galleries], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_any_interleaving_of_changes_leaves_every_revision_as_the_model_has_it() -> None:
    run(Galleries, 40)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_great_many_interleavings_leave_every_revision_as_the_model_has_it() -> None:
    run(Galleries, 2_000)


def on(postgres: PostgresServer) -> type[Galleries]:
    """The same machine with its stores on PostgreSQL."""

    class OnPostgres(Galleries):
        @staticmethod
        def new_location(folder: Path) -> StoreLocation:
            return postgres.new_store()

    return OnPostgres


def test_any_interleaving_of_changes_is_the_same_on_postgresql(postgres: PostgresServer) -> None:
    run(on(postgres), 6)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_great_many_interleavings_are_the_same_on_postgresql(postgres: PostgresServer) -> None:
    run(on(postgres), 500)
