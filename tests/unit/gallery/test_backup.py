"""Backups: whole, checked, made while others write; put back whole, never past a purge."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pagesight_server.common.errors import NotFoundError, SetupError
from pagesight_server.gallery import Change, Gallery, backup
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.stores import enrol, file_of, picture_id, sqlite

ONE, TWO, THREE = (picture_id(name) for name in ("one", "two", "three"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db")
    yield opened
    opened.close()


def held(path: Path) -> dict[str, str]:
    opened = Gallery(path)
    try:
        return {picture.image_id: picture.label for picture in opened.snapshot().pictures}
    finally:
        opened.close()


def damage(store: Gallery, statement: str) -> None:
    sqlite(store).execute("PRAGMA foreign_keys = OFF")
    sqlite(store).execute(statement)


def test_a_sound_store_has_no_faults(store: Gallery) -> None:
    assert backup.check(store) == []
    enrol(store, {"one": "a", "two": "b"})
    enrol(store, {"one": "b"}, gallery="second")
    store.remove(Change(), [ONE])
    store.rollback(Change(), 1)
    assert backup.check(store) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE images SET bytes = 'on3' WHERE bytes = x'6f6e65'", "its bytes have changed"),
        ("UPDATE images SET bytes = NULL", "is marked original, which it is not"),
        ("DELETE FROM kept", "an older pagesight wrote it"),
        ("DELETE FROM images", "refers to what images lacks"),
        ("UPDATE embeddings SET vector = zeroblob(6)", "has length 0, not 1"),
        ("UPDATE embeddings SET vector = x'007e007e007e'", "has length nan, not 1"),
        (
            f"UPDATE embeddings SET vector = x'003c' WHERE image_id = x'{ONE}'",
            "has 1 values, others have 3",
        ),
        ("UPDATE readings SET reading = '[]'", "cannot be read"),
        ("UPDATE readings SET bundle = 'other'", "has no embedding or text of the gallery's"),
        ("DELETE FROM embeddings", "has no embedding or text of the gallery's bundles"),
        ("UPDATE galleries SET revision = 7", "is at revision 7, its history ends elsewhere"),
        ("UPDATE revisions SET images = 7", "revision 1: 3 pictures, not 7 as it says"),
        ("DELETE FROM revisions", "came or went at revision 1, which the history lacks"),
        ("UPDATE memberships SET removed_revision = 1", "removed before it was added, at 1"),
    ],
)
def test_what_is_wrong_is_found_and_told(store: Gallery, statement: str, told: str) -> None:
    enrol(store, {"one": "a", "two": "a", "three": "a"})
    damage(store, statement)
    # As of one that wrote it so: what changed since is found by its digest (test_digests.py).
    sqlite(store).execute("UPDATE embeddings SET sha256 = digest(image_id, bundle, vector)")
    sqlite(store).execute(
        "UPDATE readings SET sha256 = digest(image_id, bundle, CAST(reading AS BLOB))"
    )
    found = backup.check(store)
    assert any(told in line for line in found), found


def test_a_damaged_page_is_found(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {f"p{i}": "a" for i in range(50)})
    store.close()
    path = tmp_path / "gallery.db"
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    try:
        opened = Gallery(path)
    except SetupError:
        return
    assert any("damaged file" in line for line in backup.check(opened))
    opened.close()


def test_a_backup_is_one_file_with_everything(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {"one": "a", "two": "b"})
    store.remove(Change(), [ONE])
    file = tmp_path / "copies" / "it.db"
    file.parent.mkdir()
    backup.backup(store, file)
    assert [left.name for left in file.parent.iterdir()] == ["it.db"]
    assert held(file) == {TWO: "b"}
    enrol(store, {"three": "c"})
    backup.backup(store, file)  # replaces
    assert held(file) == {TWO: "b", THREE: "c"}


def test_a_backup_made_while_another_process_enrols_is_one_state_of_the_store(
    store: Gallery, tmp_path: Path
) -> None:
    enrol(store, {"first": "a"})
    stop = threading.Event()

    def enrol_until_told() -> None:
        other = Gallery(tmp_path / "gallery.db")
        i = 0
        while not stop.is_set():
            enrol(other, {f"p{i}": "a"})
            i += 1
        other.close()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(enrol_until_told)
        try:
            for i in range(5):
                # Its own check compares every revision with its pictures.
                backup.backup(store, tmp_path / f"{i}.db")
        finally:
            stop.set()
        writing.result(WAIT_S)
    sizes = [len(held(tmp_path / f"{i}.db")) for i in range(5)]
    assert sizes == sorted(sizes)


def test_a_faulty_store_makes_no_backup_and_keeps_the_last(store: Gallery, tmp_path: Path) -> None:
    file = tmp_path / "it.db"
    enrol(store, {"one": "a"})
    backup.backup(store, file)
    damage(store, "UPDATE images SET bytes = 'on3'")
    with pytest.raises(SetupError, match="has 1 faults, the first: picture"):
        backup.backup(store, file)
    assert held(file) == {ONE: "a"}
    assert not list(tmp_path.glob(".it*"))


def test_a_restored_store_has_everything(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {"one": "a"})
    backup.backup(store, tmp_path / "it.db")
    path = tmp_path / "new.db"
    assert backup.restore(tmp_path / "it.db", path, author="li") == []
    assert held(path) == {ONE: "a"}
    assert held(tmp_path / "it.db") == {ONE: "a"}


def test_a_store_is_replaced_only_by_force_and_everyone_follows(
    store: Gallery, tmp_path: Path
) -> None:
    enrol(store, {"one": "a"})
    backup.backup(store, tmp_path / "it.db")
    enrol(store, {"two": "a"})
    enrol(store, {"three": "a"})
    with pytest.raises(SetupError, match="exists: name another --store, or replace it with"):
        backup.restore(tmp_path / "it.db", file_of(store), author="li")
    assert len(store.snapshot().pictures) == 3
    backup.restore(tmp_path / "it.db", file_of(store), author="li", force=True)
    # The connection that was open all the time sees it, and a number it has not seen.
    assert store.revisions() == {"default": 4}
    assert {p.image_id for p in store.snapshot().pictures} == {ONE}
    newest = store.history("default")[0]
    assert (newest.kind, newest.author) == ("restore", "li")
    assert newest.summary == "restored revision 1 from a backup"
    with pytest.raises(NotFoundError):
        store.rollback(Change(), 3)
    assert enrol(store, {"four": "a"}).revision == 5
    assert backup.check(store) == []
    assert not list(tmp_path.glob(".gallery*"))


def test_a_faulty_backup_is_not_restored(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {"one": "a"})
    file = tmp_path / "it.db"
    backup.backup(store, file)
    enrol(store, {"two": "a"})
    database = sqlite3.connect(file)
    database.execute("UPDATE images SET bytes = 'on3'")
    database.commit()
    database.close()
    with pytest.raises(SetupError, match="its bytes have changed"):
        backup.restore(file, file_of(store), author="li", force=True)
    file.write_bytes(b"no store" * 1000)
    with pytest.raises(SetupError, match="cannot be restored: file is not a database"):
        backup.restore(file, file_of(store), author="li", force=True)
    with pytest.raises(SetupError, match="no backup"):
        backup.restore(tmp_path / "none.db", file_of(store), author="li", force=True)
    assert {p.image_id for p in store.snapshot().pictures} == {ONE, TWO}


def test_a_store_that_cannot_be_opened_is_set_aside(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {"one": "a"})
    backup.backup(store, tmp_path / "it.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no store" * 1000)
    backup.restore(tmp_path / "it.db", broken, author="li", force=True)
    assert held(broken) == {ONE: "a"}
    assert (tmp_path / "broken.db.damaged").read_bytes() == b"no store" * 1000


def test_a_restore_purges_again_what_was_purged_since(store: Gallery, tmp_path: Path) -> None:
    enrol(store, {"one-and-only": "a", "two": "a"})
    secret = picture_id("one-and-only")
    backup.backup(store, tmp_path / "it.db")
    store.purge([secret], author="li")
    assert backup.restore(tmp_path / "it.db", file_of(store), author="li", force=True) == [secret]
    assert {p.image_id for p in store.snapshot().pictures} == {TWO}
    assert store.purged() == [secret]
    assert backup.check(store) == []


def test_managed_backups_are_kept_in_number_and_others_left_alone(
    store: Gallery, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    folder.mkdir()
    (folder / "mine.db").write_bytes(b"not ours to delete")
    made = []
    for name in ("one", "two", "three", "four"):
        enrol(store, {name: "a"})
        made.append(backup.backup_into(store, folder, keep=2))
    assert backup.managed(store) == made[2:]
    assert sorted(folder.iterdir()) == sorted([*made[2:], folder / "mine.db"])
    assert [len(held(file)) for file in made[2:]] == [3, 4]


def test_the_new_backup_stays_whatever_the_clock_said_of_the_old_ones(tmp_path: Path) -> None:
    # Ahead by a century, then right, then behind, then standing still.
    clock = iter([4_000_000_000_000, 1_000, 500, 500, 500])
    store = Gallery(tmp_path / "gallery.db", now_ms=lambda: next(clock))
    folder = tmp_path / "copies"
    made = [backup.backup_into(store, folder, keep=2) for _ in range(5)]
    assert len(set(made)) == 5
    assert backup.managed(store) == made[3:]
    assert sorted(folder.iterdir()) == sorted(made[3:])
    store.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from pagesight_server.gallery import Gallery, backup
store = Gallery(Path(sys.argv[1]))
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
setattr(backup, sys.argv[3], die)
backup.backup_into(store, Path(sys.argv[2]), keep=2)
"""


@pytest.mark.parametrize(
    ("step", "left"),
    [("_verify", 0), ("_into_place", 0), ("_complete", 1)],
    ids=["before it was checked", "before it had its name", "before it was known to be complete"],
)
def test_a_killed_backup_blocks_no_purge_and_nothing_is_left_of_it(
    store: Gallery, tmp_path: Path, step: str, left: int
) -> None:
    secret = "the-secret-picture" * 30
    enrol(store, {secret: "a", "two": "a"})
    copies = tmp_path / "copies"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, file_of(store), copies, step], check=False, timeout=WAIT_S
    )
    assert killed.returncode == -signal.SIGKILL
    assert any(copies.iterdir())
    _, rewritten = backup.purge(store, [picture_id(secret)], author="li")
    assert len(rewritten) == len(backup.managed(store)) == left
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    made = backup.backup_into(store, copies, keep=1)
    assert list(copies.iterdir()) == [made]


def test_a_purge_waits_for_the_backup_that_is_being_made_and_reaches_it(
    store: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {"one": "a", "two": "a"})
    copied, go_on, waiting = threading.Event(), threading.Event(), threading.Event()
    into_place, settle = backup._into_place, backup._settle

    def held_up(beside: Path, file: Path) -> None:
        copied.set()
        assert go_on.wait(WAIT_S)
        into_place(beside, file)

    def settling(store: Gallery, *, wait: bool = False) -> None:
        if wait:
            waiting.set()
        settle(store, wait=wait)

    monkeypatch.setattr(backup, "_into_place", held_up)
    monkeypatch.setattr(backup, "_settle", settling)
    other = Gallery(file_of(store))
    with ThreadPoolExecutor(2) as threads:
        making = threads.submit(backup.backup_into, other, tmp_path / "copies", keep=2)
        assert copied.wait(WAIT_S)
        purging = threads.submit(backup.purge, store, [ONE], author="li")
        assert waiting.wait(WAIT_S)  # it has purged the store
        assert not purging.done()
        go_on.set()
        file = making.result(WAIT_S)
        assert purging.result(WAIT_S)[1] == [file]
    other.close()
    assert held(file) == {TWO: "a"}


def test_half_a_backup_that_is_out_of_reach_is_not_forgotten(
    store: Gallery, tmp_path: Path
) -> None:
    enrol(store, {"one": "a", "two": "a"})
    copies = tmp_path / "copies"
    command = [sys.executable, "-c", KILLED, str(file_of(store)), str(copies), "_verify"]
    subprocess.run(command, check=False, timeout=WAIT_S)
    copies.rename(tmp_path / "away")
    with pytest.raises(SetupError, match=r"nothing was purged: the backups .* are not there"):
        backup.purge(store, [ONE], author="li")
    assert len(store.snapshot().pictures) == 2
    assert backup.purge(store, [ONE], author="li", forget_missing=True)[1] == []
    assert backup._backups(store, complete=False) == []


def test_a_purge_reaches_the_managed_backups(store: Gallery, tmp_path: Path) -> None:
    secret = "the-secret-picture" * 30
    enrol(store, {secret: "a", "two": "a"})
    copies = tmp_path / "copies"
    file = backup.backup_into(store, copies, keep=2)
    (copies / ".gallery-x.db.new").write_text(secret)
    assert secret.encode() in file.read_bytes()
    revisions, rewritten = backup.purge(store, [picture_id(secret)], author="li")
    assert (revisions, rewritten) == ({"default": 2}, [file])
    for left in tmp_path.rglob("*"):
        assert not left.is_file() or secret.encode() not in left.read_bytes()
    assert held(file) == {TWO: "a"}


def test_a_purge_refuses_while_a_managed_backup_is_out_of_reach(
    store: Gallery, tmp_path: Path
) -> None:
    enrol(store, {"one": "a"})
    file = backup.backup_into(store, tmp_path / "copies", keep=2)
    away = file.rename(tmp_path / "away.db")
    with pytest.raises(SetupError, match=f"nothing was purged: the backups {file} are not there"):
        backup.purge(store, [ONE], author="li")
    assert len(store.snapshot().pictures) == 1
    away.rename(file)
    assert backup.purge(store, [ONE], author="li")[1] == [file]
    file.unlink()
    backup.purge(store, [ONE], author="li", forget_missing=True)
    assert backup.managed(store) == []


async def test_a_server_follows_a_restore_and_what_comes_after(
    store: Gallery, tmp_path: Path
) -> None:
    live = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
    enrol(store, {"one": "a"})
    backup.backup(store, tmp_path / "it.db")
    enrol(store, {"two": "b"})
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a", "b")
    backup.restore(tmp_path / "it.db", file_of(store), author="li", force=True)
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a",)
    enrol(store, {"three": "c"})
    await live.refresh()
    assert live.get("default").snapshot.labels == ("a", "c")
