"""What is acknowledged stays: reopening, full disks, other processes and kills."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError, StorageError
from pagesight_server.gallery import Change, Gallery, backup
from pagesight_server.gallery.location import PostgresUrl, StoreLocation
from tests.support import WAIT_S
from tests.support.parts import held
from tests.support.stores import enrol, picture_id, sqlite

ONE, TWO = picture_id("one"), picture_id("two")


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


def test_everything_is_there_after_closing_and_opening(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.close()
    again = Gallery(store.location)
    assert held(again.snapshot()) == {ONE: "a"}
    assert again.image_bytes(ONE) == b"one"
    again.close()


def test_another_connection_sees_a_change_at_once(store: Gallery) -> None:
    other = Gallery(store.location)
    enrol(store, {"one": "a"})
    assert other.revisions() == {"default": 1}
    enrol(other, {"two": "a"})
    assert held(store.snapshot()) == {ONE: "a", TWO: "a"}
    other.close()


def foreign(file: Path) -> None:
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE notes (text)")
    database.execute("INSERT INTO notes VALUES ('mine')")
    database.commit()
    database.close()


def newer(file: Path) -> None:
    Gallery(file).close()
    database = sqlite3.connect(file)
    database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        pytest.param(foreign, "is a database of another program", id="foreign"),
        pytest.param(newer, r"newer pagesight \(schema 99, this one reads \d+\)", id="newer"),
        pytest.param(lambda f: f.write_text("a text, not a database\n" * 99), "not a database"),
        pytest.param(lambda f: f.mkdir(), "unable to open", id="a folder"),
    ],
)
def test_a_file_that_is_no_store_of_ours_is_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    file = tmp_path / "it.db"
    make(file)
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(SetupError, match=problem):
        Gallery(file)
    if before is not None:
        assert file.read_bytes() == before


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot open the store .*none/gallery\.db"):
        Gallery(tmp_path / "none" / "gallery.db")


def test_a_full_disk_fails_the_change_and_leaves_the_old_state(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"one": "a"})
    pages = sqlite(store).execute("PRAGMA page_count").fetchone()[0]
    sqlite(store).execute(f"PRAGMA max_page_count = {pages}")

    def enrol_many() -> None:
        for i in range(1000):
            enrol(store, {f"p{i}": "b" * 100})

    def roll_back_many() -> None:
        for i in range(1000):
            store.rollback(Change(author="x" * 250), i % 2)

    with pytest.raises(StorageError, match="unchanged: database or disk is full"):
        enrol_many()
    full_at = store.snapshot().revision
    assert len(store.snapshot().pictures) == full_at
    with pytest.raises(StorageError):
        roll_back_many()
    # Reading goes on, here and elsewhere; with room again, so does writing.
    now = store.snapshot()
    other = Gallery(tmp_path / "gallery.db")
    assert held(other.snapshot()) == held(now)
    other.close()
    sqlite(store).execute("PRAGMA max_page_count = 1000000")
    assert enrol(store, {"last": "z"}).revision == now.revision + 1
    store.close()


ENROL_FOR_EVER = """
import sys
from pagesight_server.gallery import Change, Gallery
from pagesight_server.gallery.location import store_location
from tests.support.stores import enrol
store = Gallery(store_location(sys.argv[1]))
sys.stdin.readline()
for i in range(int(sys.argv[3])):
    applied = enrol(store, {f"{sys.argv[2]} {i}": sys.argv[2]})
    print(applied.revision, i, flush=True)
"""


def writer(location: StoreLocation, name: str, count: int) -> subprocess.Popen[str]:
    """A process that enrols when told to go, and prints each acknowledged revision."""
    return subprocess.Popen(
        [sys.executable, "-c", ENROL_FOR_EVER, str(location), name, str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )


def test_two_processes_take_turns_and_lose_nothing(location: StoreLocation) -> None:
    writers = [writer(location, name, 25) for name in ("a", "b")]
    for process in writers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=WAIT_S)[0].split("\n")[:-1] for process in writers]
    assert [process.returncode for process in writers] == [0, 0]
    revisions = sorted(int(line.split()[0]) for lines in told for line in lines)
    assert revisions == list(range(1, 51))
    store = Gallery(location)
    assert len(store.snapshot().pictures) == 50
    assert [made.images for made in store.history("default")] == list(range(50, 0, -1))
    store.close()


def killed_midway(location: StoreLocation, rounds: int) -> None:
    """Kills a writing process again and again; what it acknowledged must be there."""
    chance = random.Random(0)
    Gallery(location).close()
    acknowledged: dict[str, int] = {}
    for number in range(rounds):
        process = writer(location, f"r{number}", 10_000)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for line in process.stdout:
            revision, i = map(int, line.split())
            acknowledged[picture_id(f"r{number} {i}")] = revision
            if chance.random() < 0.15:
                process.kill()  # what it had printed before is still read
        process.wait(WAIT_S)
        process.stdin.close()
        process.stdout.close()
        store = Gallery(location)
        added = {p.image_id: p.added_revision for p in store.snapshot().pictures}
        history = store.history("default", limit=100_000)
        store.close()
        assert acknowledged.items() <= added.items()
        # At most the last, killed between its commit and its acknowledgement, is there untold.
        assert len(added) - len(acknowledged) <= number + 1
        assert [made.revision for made in history] == list(range(len(history), 0, -1))
        assert history[0].images == len(history) == len(added)
    with closing(Gallery(location)) as store:
        assert backup.check(store) == []


def test_a_killed_process_loses_nothing_that_was_acknowledged(location: StoreLocation) -> None:
    killed_midway(location, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_killed_processes_lose_nothing_that_was_acknowledged(
    location: StoreLocation,
) -> None:
    killed_midway(location, 100)


OPEN = """
import sys
from pathlib import Path
from pagesight_server.gallery import Gallery
print("ready", flush=True)
sys.stdin.readline()
for i in range(20):
    Gallery(Path(f"{sys.argv[1]}/{i}.db")).close()
"""


def test_a_change_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    # No test can cut the power: https://sqlite.org/pragma.html says what these two mean.
    assert sqlite(store).execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert sqlite(store).execute("PRAGMA synchronous").fetchone()[0] == 2
    store.close()


def test_a_change_is_on_the_disk_whatever_the_default_of_a_database_is(
    postgres_url: PostgresUrl,
) -> None:
    lazy = PostgresUrl(f"{postgres_url}%20-csynchronous_commit%3Doff")
    with closing(Gallery(lazy)) as store, store.database.writing() as db:
        told = db.execute("SELECT current_setting('synchronous_commit') AS it").fetchone()
        assert told["it"] == "on"
    patient = PostgresUrl(f"{postgres_url}%20-csynchronous_commit%3Dremote_apply")
    with closing(Gallery(patient)) as store, store.database.writing() as db:
        told = db.execute("SELECT current_setting('synchronous_commit') AS it").fetchone()
        assert told["it"] == "remote_apply"


def test_whoever_opens_a_store_while_another_makes_it_waits(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "gallery.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(Gallery, tmp_path / "gallery.db")
        with pytest.raises(TimeoutError):
            opening.result(0.2)
        other.execute("ROLLBACK")
        other.close()
        opening.result(WAIT_S).close()


def test_processes_that_make_the_same_store_at_once_wait_for_each_other(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ended = [process.communicate("go\n", timeout=2 * WAIT_S) for process in processes]
    assert [
        (process.returncode, errors) for process, (_, errors) in zip(processes, ended, strict=True)
    ] == [(0, "")] * 3


def test_a_store_may_be_read_and_written_by_many_threads(store: Gallery) -> None:
    def work(number: int) -> int:
        enrol(store, {f"p{number}": "a"})
        snapshot = store.snapshot()
        assert len(snapshot.pictures) == snapshot.revision == len(snapshot.embeddings)
        return snapshot.revision

    with ThreadPoolExecutor(4) as threads:
        assert max(threads.map(work, range(40))) == 40
