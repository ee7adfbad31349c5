"""Where a store's file is: what it cannot do there is one line that says so."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Gallery, sqlite_file
from pagesight_server.gallery.sqlite_file import network_file_system, why
from tests.support import WAIT_S
from tests.support.stores import enrol

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /proc rw - proc proc rw
30 21 0:50 / /srv/pages rw shared:7 - nfs4 nas:/pages rw,vers=4.2
31 30 8:2 / /srv/pages/local rw - xfs /dev/sdb1 rw
32 21 0:51 / /mnt/with\\040space rw - cifs //nas/share rw
33 21 0:52 / /mnt/ssh rw - fuse.sshfs nas: rw
34 21 0:53 / /mnt/over rw - ext4 /dev/sdc1 rw
35 21 0:54 / /mnt/over rw - 9p host rw
36 21 0:55 / /mnt/disk rw - fuseblk /dev/sdd1 rw
"""
"""As proc(5) has it: the mount point is the fifth word, the kind the first behind the dash."""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/gallery.db", ""),
        ("/srv/pages/gallery.db", "nfs4"),
        ("/srv/pages/deep/down/gallery.db", "nfs4"),
        ("/srv/pages/local/gallery.db", ""),
        ("/srv/pages-not/gallery.db", ""),
        ("/mnt/with space/gallery.db", "cifs"),
        ("/mnt/ssh/gallery.db", "fuse.sshfs"),
        ("/mnt/over/gallery.db", "9p"),
        ("/mnt/disk/gallery.db", ""),
    ],
)
def test_network_file_systems_are_known_by_their_kind(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert network_file_system(Path(path), mounts) == kind
    assert network_file_system(Path(path), tmp_path / "none") == ""


def test_a_store_on_a_network_file_system_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sqlite_file, "network_file_system", lambda _path: "nfs4")
    Gallery(tmp_path / "gallery.db").close()
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "is on a network file system (nfs4)" in record.getMessage()
    assert "keep it on a local disk" in record.getMessage()


def test_a_read_only_place_is_told_whatever_sqlite_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gallery.db"
    Gallery(path).close()
    errors: list[OSError | sqlite3.Error] = [OSError(30, "Read-only file system")]
    read_only = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    with pytest.raises(sqlite3.OperationalError) as failed:
        read_only.execute("CREATE TABLE x (y)")
    errors.append(failed.value)
    read_only.close()
    # Root may write everywhere but on a read-only mount, so access(2) is told for it.
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    for error in errors:
        assert why(error, path).startswith("its file system, folder or file is read-only")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot open the store .*: No such file or directory"):
        Gallery(tmp_path / "none" / "gallery.db")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db")
    enrol(opened, {"one": "a"})
    yield opened
    opened.close()


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """Another thread: the read of a large gallery holds no lock of its own thread."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_a_long_read_sees_one_state_and_keeps_nobody_from_reading_or_writing(
    store: Gallery, thread: ThreadPoolExecutor
) -> None:
    with store.database.reading() as db:
        sql = "SELECT revision FROM galleries"
        assert db.execute(sql).fetchone()["revision"] == 1
        assert thread.submit(store.revisions).result(WAIT_S) == {"default": 1}
        assert thread.submit(enrol, store, {"two": "b"}).result(WAIT_S).revision == 2
        assert thread.submit(store.revisions).result(WAIT_S) == {"default": 2}
        assert db.execute(sql).fetchone()["revision"] == 1
    assert store.revisions() == {"default": 2}


def test_a_change_that_takes_long_keeps_nobody_from_reading(
    store: Gallery, thread: ThreadPoolExecutor
) -> None:
    with store.database.writing() as db:
        db.execute("UPDATE galleries SET revision = 7")
        assert thread.submit(store.revisions).result(WAIT_S) == {"default": 1}
    assert store.revisions() == {"default": 7}


def test_a_read_that_failed_half_way_keeps_nobody_at_the_state_that_it_saw(store: Gallery) -> None:
    enrol(store, {"two": "b"})

    def fail_at_the_first_row() -> None:
        with store.database.reading() as db:
            rows = db.execute("SELECT image_id FROM memberships")
            for _row in rows:
                raise ValueError("a picture of another size")

    # Kept with its traceback, and so with the query that has rows left.
    with pytest.raises(ValueError, match="another size") as failed:
        fail_at_the_first_row()
    enrol(store, {"three": "a"})
    assert store.revisions() == {"default": 3}
    assert failed.value.__traceback__ is not None


def test_who_reads_cannot_write(store: Gallery) -> None:
    with pytest.raises(SetupError), store.database.reading() as db:
        db.execute("DELETE FROM memberships")
    assert len(store.snapshot().pictures) == 1


def test_a_store_is_closed_when_the_last_has_read(
    store: Gallery, thread: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with store.database.reading() as db:
        closing = thread.submit(store.close)
        assert db.execute("SELECT count(*) AS n FROM galleries").fetchone()["n"] == 1
        assert not closing.done()
    closing.result(WAIT_S)
    with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
        store.revisions()
    # Whoever closes last puts the log into the file.
    assert [path.name for path in tmp_path.iterdir()] == ["gallery.db"]


def test_a_store_of_a_relative_path_is_read_from_wherever_the_process_goes(
    store: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Gallery(Path("gallery.db"))
    monkeypatch.chdir(tmp_path.parent)
    with relative.database.reading():  # so the next needs a connection of its own
        assert relative.revisions() == {"default": 1}
    relative.close()
    assert not (tmp_path.parent / "gallery.db").exists()
