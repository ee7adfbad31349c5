"""What is kept for review is bounded, forgotten in time, and goes with purge and gallery."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import NotFoundError, PurgedError
from pagesight_server.gallery import (
    Change,
    Decision,
    Gallery,
    KeepLimits,
    Waiting,
    backup,
)
from pagesight_server.gallery.location import StoreLocation
from tests.support.parts import BUNDLES, OTHER_BUNDLES
from tests.support.stores import ANSWERED_AT_MS as NOW_MS
from tests.support.stores import ANSWERED_TEXT as TEXT
from tests.support.stores import SINCE_SCHEMA_5, answered, enrol, file_of, picture_id

DAY_MS = 86_400_000
LIMITS = KeepLimits(answers=10, max_bytes=1_000_000, keep_days=14.0)


class Clock:
    """A clock that is set by hand."""

    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(location: StoreLocation, clock: Clock) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=clock)
    enrol(opened, {"one": "a", "two": "a"})
    yield opened
    opened.close()


@pytest.fixture
def in_file(tmp_path: Path, clock: Clock) -> Iterator[Gallery]:
    """A store whose bytes can be looked at."""
    opened = Gallery(tmp_path / "gallery.db", now_ms=clock)
    enrol(opened, {"one": "a", "two": "a"})
    yield opened
    opened.close()


def decision(decision_id: str, name: str, reviewer: str = "mei", known_label: str = "") -> Decision:
    return Decision(
        decision_id=decision_id,
        image_id=picture_id(name),
        label="a",
        reviewer=reviewer,
        known_label=known_label,
    )


def kept_ids(store: Gallery, gallery: str = "default") -> list[str]:
    return [listed.answer.image_id for listed in store.kept(gallery)]


def test_a_kept_answer_is_read_back_with_its_picture_and_what_models_made_of_it(
    store: Gallery,
) -> None:
    kept = answered("shot")
    assert store.keep([kept], LIMITS) == 1
    again = Gallery(store.location)
    (listed,) = again.kept("default")
    assert listed.answer == kept.answer
    assert (listed.decisions, listed.reviewers) == (0, ())
    assert again.kept_image("default", picture_id("shot")) == b"shot"
    (features,) = again.kept_features("default", BUNDLES)
    assert features.answer == kept.answer
    assert features.reading == kept.reading
    np.testing.assert_allclose(features.embedding, kept.embedding, atol=1e-3)
    assert again.kept_features("default", OTHER_BUNDLES) == []
    assert again.revisions() == {"default": 1}
    again.close()
    assert backup.check(store) == []


def test_an_answer_without_text_has_no_reading(store: Gallery) -> None:
    store.keep([replace(answered("shot"), reading=None)], LIMITS)
    assert store.kept_features("default", BUNDLES)[0].reading is None
    assert backup.check(store) == []


def test_the_oldest_go_when_there_are_more_than_may_be_kept(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery="second")
    store.keep([answered("kept", gallery="second")], LIMITS)
    for number in range(25):
        store.keep([answered(f"shot {number}")], LIMITS)
    assert kept_ids(store) == [picture_id(f"shot {number}") for number in range(24, 14, -1)]
    store.keep([answered("last")], replace(LIMITS, answers=2))
    assert kept_ids(store) == [picture_id("last"), picture_id("shot 24")]
    assert kept_ids(store, "second") == [picture_id("kept")]


def test_the_oldest_go_when_their_pictures_take_more_bytes_than_they_may(store: Gallery) -> None:
    limits = replace(LIMITS, max_bytes=250)
    for number in range(4):
        store.keep([answered(f"shot {number}", image=bytes(100))], limits)
    assert kept_ids(store) == [picture_id("shot 3"), picture_id("shot 2")]
    store.keep([answered("too large", image=bytes(251))], limits)
    assert kept_ids(store) == []


def test_of_a_picture_that_comes_again_the_newest_answer_is_kept(store: Gallery) -> None:
    store.keep([answered("shot"), answered("next")], LIMITS)
    later = answered("shot", at_ms=NOW_MS + 1)
    store.keep([later], LIMITS)
    assert kept_ids(store) == [picture_id("shot"), picture_id("next")]
    assert store.kept("default")[0].answer == later.answer


def test_what_is_too_old_is_listed_no_more_and_forgotten(store: Gallery, clock: Clock) -> None:
    store.keep([answered("old"), answered("new", at_ms=NOW_MS + DAY_MS)], LIMITS)
    clock.now_ms = NOW_MS + 14 * DAY_MS + 1
    since_ms = LIMITS.since_ms(clock())
    (listed,) = store.kept("default", since_ms=since_ms)
    assert listed.answer.image_id == picture_id("new")
    with pytest.raises(NotFoundError):
        store.kept_image("default", picture_id("old"), since_ms=since_ms)
    assert len(store.kept_features("default", BUNDLES, since_ms=since_ms)) == 1
    assert store.waiting("default", since_ms=since_ms).answers == 1
    assert store.forget_kept(LIMITS) == 1
    assert store.forget_kept(LIMITS) == 0
    assert kept_ids(store) == [picture_id("new")]


def test_where_none_are_kept_any_more_all_are_forgotten(store: Gallery) -> None:
    store.keep([answered("shot")], LIMITS)
    assert store.forget_kept(KeepLimits()) == 1
    assert kept_ids(store) == []


def test_an_answer_of_a_gallery_that_is_gone_is_not_kept(store: Gallery) -> None:
    assert store.keep([answered("shot", gallery="gone"), answered("shot")], LIMITS) == 1


def test_listings_say_who_decided_and_leave_out_what_a_reviewer_has_decided(
    store: Gallery,
) -> None:
    store.keep([answered(name) for name in ("first", "second", "third")], LIMITS)
    store.record_decisions(
        "default",
        [
            decision("d1", "second"),
            decision("d2", "second", "li"),
            decision("d3", "second", "li"),
            decision("d4", "third", known_label="a"),
        ],
    )
    told = [(one.decisions, one.reviewers) for one in store.kept("default")]
    assert told == [(0, ()), (3, ("li", "mei")), (0, ())]

    def undecided(*names: str) -> list[str]:
        return [one.answer.image_id for one in store.kept("default", undecided_by=names)]

    left = [picture_id("third"), picture_id("first")]
    assert undecided("mei") == undecided("nobody", "li") == left
    assert len(undecided("nobody")) == 3
    assert store.waiting("default") == Waiting(answers=2, oldest_ms=NOW_MS)
    store.withdraw_decisions("default", ["d1", "d2", "d3"])
    assert store.waiting("default").answers == 3


def test_pages_of_a_listing_go_on_where_the_last_one_ended(store: Gallery) -> None:
    store.keep([answered(f"shot {number}") for number in range(5)], LIMITS)
    first = store.kept("default", limit=2)
    store.keep([answered("newer")], LIMITS)
    second = store.kept("default", before=first[-1].number)
    assert [one.answer.image_id for one in (*first, *second)] == [
        picture_id(f"shot {number}") for number in range(4, -1, -1)
    ]


def test_a_decision_is_written_once_with_the_time_of_the_store(store: Gallery) -> None:
    made = decision("d", "shot")
    assert store.record_decisions("default", [made, made]) == 1
    assert store.record_decisions("default", [replace(made, label="b")]) == 0
    (listed,) = store.decisions("default")
    assert listed.decision == replace(made, decided_at_ms=NOW_MS)
    assert store.withdraw_decisions("default", ["d", "e", "d"]) == 1
    assert store.decisions("default") == []


def test_several_servers_share_one_ring(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery="second")
    others = [Gallery(store.location, now_ms=store.now_ms) for _ in range(3)]
    names = [f"shot {number}" for number in range(12)]
    galleries = ("default", "second")

    def keep(other: Gallery, number: int) -> int:
        # The same pictures, in other orders.
        mine = names[number:] + names[:number]
        pictures = [answered(name, gallery=gallery) for name in mine for gallery in galleries]
        return sum(other.keep(pictures[i : i + 5], LIMITS) for i in range(0, len(pictures), 5))

    with ThreadPoolExecutor(len(others)) as threads:
        taken = threads.map(keep, others, (0, 4, 8))
        assert list(taken) == [24, 24, 24]
    for other in others:
        other.close()
    for gallery in galleries:
        assert len(set(kept_ids(store, gallery))) == LIMITS.answers
    assert backup.check(store) == []


# --- letting go ---------------------------------------------------------------------------


def traces(folder: Path) -> set[str]:
    """Files in which a picture that was kept, or its text, is found."""
    marks = (b"the bytes of the secret", TEXT.encode(), TEXT.encode("unicode_escape"))
    return {
        file.name
        for file in folder.rglob("*")
        if file.is_file() and any(mark in file.read_bytes() for mark in marks)
    }


def test_a_purge_reaches_a_screenshot_that_was_kept_and_never_enrolled(
    in_file: Gallery, tmp_path: Path
) -> None:
    name = "the bytes of the secret"
    in_file.keep([answered(name)], LIMITS)
    backup.backup_into(in_file, tmp_path / "backups", keep=2)
    in_file.record_decisions("default", [decision("d1", name), decision("d2", "one")])
    assert traces(tmp_path)
    assert in_file.full_ids([picture_id(name)[:12]]) == [picture_id(name)]
    revisions, files = backup.purge(in_file, [picture_id(name)], author="li")
    assert (revisions, len(files)) == ({}, 1)
    assert kept_ids(in_file) == []
    assert [one.decision.decision_id for one in in_file.decisions("default")] == ["d2"]
    assert traces(tmp_path) == set()
    assert backup.check(in_file) == []
    # It does not come back: neither the answer, nor a decision, nor from a backup.
    assert in_file.keep([answered(name)], LIMITS) == 0
    with pytest.raises(PurgedError):
        in_file.record_decisions("default", [decision("d3", name)])
    assert in_file.purge([picture_id(name)], author="li").revisions == {}


def test_a_purge_reaches_what_was_only_decided(store: Gallery) -> None:
    store.record_decisions("default", [decision("d", "of a folder")])
    store.purge([picture_id("of a folder")], author="li")
    assert store.decisions("default") == []
    with pytest.raises(NotFoundError, match="nothing was purged"):
        store.purge([picture_id("never seen")], author="li")


def test_a_purge_of_a_picture_of_the_gallery_takes_along_what_was_kept_of_it(
    store: Gallery,
) -> None:
    store.keep([answered("one")], LIMITS)
    assert store.purge([picture_id("one")], author="li").revisions == {"default": 2}
    assert kept_ids(store) == []


def test_expiring_forgets_old_answers_and_leaves_no_trace(
    in_file: Gallery, clock: Clock, tmp_path: Path
) -> None:
    in_file.keep([answered("the bytes of the secret"), answered("new", at_ms=NOW_MS * 2)], LIMITS)
    clock.now_ms = NOW_MS + 15 * DAY_MS
    assert in_file.expire(0).answers == 0
    assert in_file.expire(0, LIMITS).answers == 1
    assert kept_ids(in_file) == [picture_id("new")]
    assert b"the bytes of the secret" not in file_of(in_file).read_bytes()


def test_deleting_a_gallery_forgets_what_was_kept_and_decided_in_it_alone(store: Gallery) -> None:
    enrol(store, {"one": "a"}, gallery="second")
    for gallery in ("default", "second"):
        store.keep([answered("shot", gallery=gallery)], LIMITS)
        store.record_decisions(gallery, [decision("d", "shot")])
    store.delete(Change(gallery="second"))
    enrol(store, {"one": "a"}, gallery="second")
    assert kept_ids(store, "second") == []
    assert store.decisions("second") == []
    assert kept_ids(store) == [picture_id("shot")]
    assert len(store.decisions("default")) == 1


def test_a_backup_carries_what_was_kept_and_decided_but_for_what_was_purged_since(
    in_file: Gallery, tmp_path: Path
) -> None:
    in_file.keep([answered("shot"), answered("secret")], LIMITS)
    in_file.record_decisions("default", [decision("d1", "shot"), decision("d2", "secret")])
    file = tmp_path / "backup.db"
    backup.backup(in_file, file)
    in_file.withdraw_decisions("default", ["d1"])
    in_file.purge([picture_id("secret")], author="li")
    path = file_of(in_file)
    in_file.close()
    again = backup.restore(file, path, author="li", force=True)
    assert again == [picture_id("secret")]
    restored = Gallery(path)
    assert kept_ids(restored) == [picture_id("shot")]
    assert [one.decision.decision_id for one in restored.decisions("default")] == ["d1"]
    restored.close()


@pytest.mark.parametrize("column", ["image", "vector", "reading"])
def test_a_kept_answer_that_has_changed_on_the_disk_is_found(store: Gallery, column: str) -> None:
    store.keep([answered("shot")], LIMITS)
    value = "[1, 2, []]" if column == "reading" else b"\0\0"
    with store.database.writing() as db:
        db.execute(f"UPDATE kept_answers SET {column} = :value", {"value": value})
    (finding,) = backup.check(store)
    assert finding.startswith("gallery default: what is kept for review of picture")
    assert "has changed" in finding
    assert len(store.kept_features("default", BUNDLES)) == (column == "image")


def test_what_outlived_its_purge_is_found(store: Gallery) -> None:
    store.keep([answered("shot")], LIMITS)
    store.record_decisions("default", [decision("d", "shot")])
    key = bytes.fromhex(picture_id("shot"))
    with store.database.writing() as db:
        db.execute("INSERT INTO purged VALUES (:key, 0, 'li', 1)", {"key": key})
    assert len(backup.check(store)) == 2
    store.purge([picture_id("shot")], author="li")
    assert backup.check(store) == []


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
def test_a_shared_store_of_the_fifth_schema_keeps_nothing_and_can_keep(store: Gallery) -> None:
    with store.database.writing() as db:
        for table in SINCE_SCHEMA_5:
            db.execute(f"DROP TABLE {table}")
        db.execute("UPDATE pagesight_store SET version = 5")
    opened = Gallery(store.location)
    assert opened.kept("default") == []
    opened.keep([answered("shot")], LIMITS)
    assert kept_ids(opened) == [picture_id("shot")]
    opened.close()


def test_a_store_of_the_fifth_schema_keeps_nothing_and_can_keep(in_file: Gallery) -> None:
    path = file_of(in_file)
    in_file.close()
    db = sqlite3.connect(path)
    for table in SINCE_SCHEMA_5:
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version = 5")
    db.commit()
    db.close()
    opened = Gallery(path)
    assert len(opened.snapshot().pictures) == 2
    assert not opened.kept("default")
    assert not opened.decisions("default")
    opened.keep([answered("shot")], LIMITS)
    assert kept_ids(opened) == [picture_id("shot")]
    opened.close()
