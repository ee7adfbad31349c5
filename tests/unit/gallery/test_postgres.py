"""A store on PostgreSQL: connections that end, what is refused, hints, and purges."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from pagesight_server.common.errors import (
    InvalidRequestError,
    NotFoundError,
    SetupError,
    StorageError,
    StoreAwayError,
)
from pagesight_server.gallery import Change, Entry, Gallery, backup
from pagesight_server.gallery.location import PostgresOptions, PostgresUrl, store_location
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.postgres import CommitLoser, PostgresServer
from tests.support.stores import enrol, picture_id, put


@pytest.fixture
def store(postgres_url: PostgresUrl) -> Iterator[Gallery]:
    opened = Gallery(postgres_url)
    yield opened
    opened.close()


# --- connections that end ---------------------------------------------------------------


def end_connections(postgres: PostgresServer) -> None:
    """Ends every other connection to the server, as its restart does."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


def test_a_connection_that_ended_while_idle_is_made_again_unseen(
    store: Gallery, postgres: PostgresServer
) -> None:
    enrol(store, {"one": "a"})
    end_connections(postgres)
    assert store.revisions() == {"default": 1}
    end_connections(postgres)
    assert enrol(store, {"two": "a"}).revision == 2


def test_a_connection_that_ends_in_a_change_leaves_all_as_it_was(
    store: Gallery, postgres: PostgresServer
) -> None:
    enrol(store, {"one": "a"})

    def change() -> None:
        with store.database.writing() as db:
            db.execute("UPDATE galleries SET revision = 7")
            end_connections(postgres)
            db.execute("UPDATE galleries SET revision = 8")

    with pytest.raises(StoreAwayError, match="cannot be reached or used now") as told:
        change()
    assert "\n" not in str(told.value)
    assert told.value.status == "UNAVAILABLE"
    assert told.value.retry_after_ms
    assert store.revisions() == {"default": 1}


@pytest.mark.parametrize("delivers", [True, False])
def test_a_change_whose_answer_was_lost_is_found_by_its_request_id(
    postgres: PostgresServer, postgres_url: PostgresUrl, delivers: bool
) -> None:
    relay = CommitLoser(postgres, delivers=delivers)
    with closing(relay), closing(Gallery(relay.store(postgres_url))) as store:
        put(store, "one")
        change = Change(request_id="r1", expected_revision=0)
        entries = [Entry(image_id=picture_id("one"), label="a")]
        relay.armed.set()
        with pytest.raises(StoreAwayError, match=r"may have been made: repeat it .* request_id"):
            store.enrol(change, entries, BUNDLES)
        # The repeat waits for whatever the server still does of the first.
        assert store.enrol(change, entries, BUNDLES).revision == 1
        assert store.revisions() == {"default": 1}
        assert [made.revision for made in store.history("default")] == [1]


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreAwayError, match="cannot be reached") as told:
        Gallery(PostgresUrl(f"postgresql://me@/pages?host={tmp_path}"))
    assert "\n" not in str(told.value)


def test_too_many_connections_is_one_line_and_over_when_they_end(
    postgres: PostgresServer,
) -> None:
    postgres.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
    postgres.execute("CREATE SCHEMA narrow AUTHORIZATION narrow")
    url = PostgresUrl(postgres.store("narrow").replace("postgres@", "narrow@"))
    with closing(Gallery(url)) as first:
        enrol(first, {"one": "a"})
        with pytest.raises(StoreAwayError, match='too many connections for role "narrow"'):
            Gallery(url)
    # The server may take a moment to notice that it has gone.
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'narrow'"
    )
    with closing(Gallery(url)) as second:
        assert second.revisions() == {"default": 1}


def test_a_store_waits_for_a_connection_of_its_own_and_says_when_none_comes_free(
    postgres_url: PostgresUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.gallery.postgres_connections.WAIT_S", 0.05)
    with closing(Gallery(postgres_url, postgres=PostgresOptions(connections=1))) as store:
        with store.database.reading(), pytest.raises(StoreAwayError, match="store_connections"):
            store.revisions()
        assert store.revisions() == {}


def test_a_change_that_others_hold_up_for_too_long_is_refused(
    store: Gallery, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {"one": "a"})
    other = Gallery(store.location)
    impatient = "BEGIN; SET LOCAL lock_timeout = '50ms'"
    monkeypatch.setattr("pagesight_server.gallery.postgres._TOGETHER", impatient)
    with store.database.writing() as db:
        db.execute("UPDATE galleries SET revision = revision")
        with pytest.raises(StoreAwayError, match="busy with other changes"):
            other.remove(Change(), [picture_id("one")])
    assert other.remove(Change(), [picture_id("one")]).revision == 2
    other.close()


def test_a_change_that_hangs_does_not_hold_up_others_for_ever(
    store: Gallery, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {"one": "a"})
    hasty = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '10ms'"
    monkeypatch.setattr("pagesight_server.gallery.postgres._TOGETHER", hasty)

    def hang() -> None:
        with store.database.writing() as db:
            row = db.execute("SELECT pg_backend_pid() AS pid").fetchone()
            db.execute("UPDATE galleries SET revision = 7")
            while postgres.execute(f"SELECT 1 FROM pg_stat_activity WHERE pid = {row['pid']}"):
                pass  # the server ends it in a moment
            db.execute("UPDATE galleries SET revision = 8")

    with pytest.raises(StoreAwayError):
        hang()
    assert store.revisions() == {"default": 1}


@pytest.fixture
def small_disk(postgres: PostgresServer) -> Iterator[Path]:
    """A file system of 24 MB that the server may write to, where this user may mount one."""
    folder = Path(tempfile.mkdtemp(dir=postgres.folder))
    owner = (postgres.folder / "data").stat().st_uid
    mount = ["mount", "-t", "tmpfs", "-o", f"size=24m,mode=700,uid={owner}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no disk to fill: {error}")
    if mounted.returncode:
        pytest.skip(f"no disk to fill: {mounted.stderr.strip()}")
    postgres.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_change_and_leaves_the_old_state(
    postgres: PostgresServer, small_disk: Path
) -> None:
    url = postgres.new_store()
    on_it = PostgresUrl(f"{url}%20-cdefault_tablespace%3Dsmall")
    with closing(Gallery(on_it)) as store:
        enrol(store, {"one": "a"})

        def fill() -> None:
            for i in range(100):
                enrol(store, {f"p{i}" + "x" * 1_000_000: "b"})

        with pytest.raises(StorageError, match=r"is unchanged: .*No space left on device") as told:
            fill()
        assert (told.value.status, "\n" in str(told.value)) == ("RESOURCE_EXHAUSTED", False)
        full_at = store.snapshot().revision
        assert len(store.snapshot().pictures) == full_at
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert enrol(store, {"last": "z"}).revision == full_at + 1
        assert backup.check(store) == []
    postgres.execute(f"DROP SCHEMA {schema_of(url)} CASCADE")
    postgres.execute("CHECKPOINT")
    postgres.execute("DROP TABLESPACE small")


def test_rows_that_nobody_reads_to_their_end_do_not_disturb_the_next_transaction(
    postgres_url: PostgresUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.gallery.postgres._STREAMED_ROWS", 2)
    with closing(Gallery(postgres_url, postgres=PostgresOptions(connections=1))) as store:
        enrol(store, {f"p{i}": "a" for i in range(5)})
        with store.database.reading() as db:
            left = iter(db.stream("SELECT id FROM images ORDER BY id"))
            first = next(left)
            others = db.stream("SELECT id FROM images ORDER BY id")
            assert len(list(others)) == 5
        with store.database.reading() as db:
            rows = iter(db.stream("SELECT id FROM images ORDER BY id"))
            assert next(rows) == first
            assert list(left) == []
            del left
            assert len(list(rows)) == 4


# --- what is refused --------------------------------------------------------------------


def test_a_schema_of_another_program_is_refused_and_left_alone(
    postgres: PostgresServer, postgres_url: PostgresUrl
) -> None:
    postgres.execute(f"CREATE TABLE {schema_of(postgres_url)}.notes (it text)")
    with pytest.raises(SetupError, match=r"tables of another program \(notes\).*of its own"):
        Gallery(postgres_url)
    tables = f"SELECT relname FROM pg_class WHERE relnamespace = '{schema_of(postgres_url)}'"
    assert postgres.execute(f"{tables}::regnamespace AND relkind = 'r'") == [("notes",)]


def schema_of(url: PostgresUrl) -> str:
    return url.rpartition("%3D")[2]


def test_a_schema_that_is_not_there_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(SetupError, match="no schema to make tables in"):
        Gallery(postgres.store("nowhere"))


def test_a_database_in_another_encoding_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = store_location(postgres.uri.replace("/postgres?", "/latin?"))
    with pytest.raises(SetupError, match="must be UTF8, and is LATIN1"):
        Gallery(url)


def test_a_role_that_may_not_make_tables_is_one_line(postgres: PostgresServer) -> None:
    postgres.execute("CREATE ROLE guest LOGIN")
    postgres.execute("CREATE SCHEMA theirs")
    postgres.execute("GRANT USAGE ON SCHEMA theirs TO guest")
    url = PostgresUrl(postgres.store("theirs").replace("postgres@", "guest@"))
    with pytest.raises(SetupError, match="permission denied for schema theirs") as told:
        Gallery(url)
    assert "\n" not in str(told.value)


def test_text_that_the_database_cannot_hold_is_the_callers_fault(store: Gallery) -> None:
    put(store, "one")
    entries = [Entry(image_id=picture_id("one"), label="a")]
    with pytest.raises(InvalidRequestError, match="NUL"):
        store.enrol(Change(author="m\0i"), entries, BUNDLES)
    assert store.revisions() == {}


def test_a_password_comes_from_a_file_and_is_never_shown(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    url = postgres.new_store()
    options = PostgresOptions(password_file=secret)
    with pytest.raises(SetupError, match=r"store_password_file.*No such file"):
        Gallery(url, postgres=options)
    secret.write_text("tr0ub4dor\nmore\n")
    with closing(Gallery(url, postgres=options)) as opened:
        assert opened.revisions() == {}
    nowhere = PostgresUrl(url.replace("/postgres?", "/nowhere?"))
    with pytest.raises(StoreAwayError, match='database "nowhere" does not exist') as told:
        Gallery(nowhere, postgres=options)
    assert "tr0ub4dor" not in str(told.value) + caplog.text


# --- hints, purges, copies --------------------------------------------------------------


def test_whoever_listens_hears_of_a_change_once_it_can_be_read(
    store: Gallery, postgres: PostgresServer
) -> None:
    heard = threading.Event()
    other = Gallery(store.location)
    stop = other.listen(heard.set)
    assert heard.wait(WAIT_S)  # as soon as it listens
    heard.clear()
    enrol(store, {"one": "a"})
    assert heard.wait(WAIT_S)
    assert other.revisions() == {"default": 1}
    stop()
    other.close()


def test_another_stores_changes_are_not_heard(store: Gallery, postgres: PostgresServer) -> None:
    heard: list[str] = []
    listening, told = threading.Event(), threading.Event()
    with closing(Gallery(postgres.new_store())) as other:

        def hear() -> None:
            heard.append(",".join(store.revisions()))
            (told if listening.is_set() else listening).set()

        stop = store.listen(hear)
        assert listening.wait(WAIT_S)
        enrol(other, {"one": "a"}, gallery="theirs")
        enrol(store, {"one": "a"}, gallery="ours")
        assert told.wait(WAIT_S)
        stop()
    assert heard == ["", "ours"]


def test_no_table_holds_anything_of_a_purged_picture(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    mark = "the mark of a secret"
    options = PostgresOptions(folder=tmp_path)
    with closing(Gallery(postgres.new_store(), postgres=options)) as store:
        secret = enrol(store, {mark + "x" * 5_000: mark}).outcomes[0].image_id
        enrol(store, {f"p{i}": "a" for i in range(20)})
        store.settle("default", [], author="mei", note=mark)
        store.database.derived_folder.mkdir()
        postgres.execute("CHECKPOINT")
        assert holding(postgres, mark)
        done = store.purge([secret], author="li")
        postgres.execute("CHECKPOINT")
        assert done.revisions == {"default": 3}
        assert holding(postgres, mark) == []
        assert not store.database.derived_folder.exists()
        assert backup.check(store) == []


def holding(postgres: PostgresServer, mark: str) -> list[str]:
    """The files of tables in which something is found; the log (WAL) is beside them."""
    return [
        file.name
        for file in (postgres.folder / "data" / "base").rglob("*")
        if file.is_file() and mark.encode() in file.read_bytes()
    ]


def test_a_purge_is_not_ended_while_an_older_transaction_keeps_what_it_deleted(
    store: Gallery, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    enrol(store, {"one": "a"})
    monkeypatch.setattr("pagesight_server.gallery.postgres_scrub.WAIT_S", 1)
    with psycopg.connect(postgres.uri, autocommit=True) as older:
        older.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        older.execute("SELECT count(*) FROM pg_class")
        with pytest.raises(StorageError, match="is older: end it and run it again"):
            store.purge([picture_id("one")], author="li")
        unended = "the purge of 1 pictures did not end: run `gallery purge` again"
        assert backup.check(store) == [unended]
        older.execute("COMMIT")
    store.purge([picture_id("one")], author="li")
    assert backup.check(store) == []


def test_a_purge_by_a_role_that_does_not_own_the_tables_says_so(
    store: Gallery, postgres: PostgresServer
) -> None:
    enrol(store, {"one": "a"})
    assert isinstance(store.location, PostgresUrl)
    schema = schema_of(store.location)
    postgres.execute("CREATE ROLE writer LOGIN")
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO writer")
    rights = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES"
    postgres.execute(f"GRANT {rights} IN SCHEMA {schema} TO writer")
    url = PostgresUrl(store.location.replace("postgres@", "writer@"))
    with closing(Gallery(url)) as other:
        assert other.relabel(Change(), [picture_id("one")], "b").revision == 2
        with pytest.raises(StorageError, match="as the owner of its tables"):
            other.purge([picture_id("one")], author="li")
    assert backup.check(store) == ["the purge of 1 pictures did not end: run `gallery purge` again"]
    store.purge([picture_id("one")], author="li")
    assert backup.check(store) == []


def test_a_copy_into_a_file_is_postgresqls_business(store: Gallery, tmp_path: Path) -> None:
    for copy in (
        lambda: backup.backup(store, tmp_path / "it.db"),
        lambda: backup.backup_into(store, tmp_path / "copies", keep=2),
    ):
        with pytest.raises(SetupError, match=r"pg_dump or pg_basebackup, or .*gallery copy"):
            copy()
    assert list(tmp_path.iterdir()) == []


def test_an_option_of_the_address_reaches_libpq(postgres: PostgresServer) -> None:
    url = postgres.new_store()
    named = PostgresUrl(f"{url}&application_name={quote('the pages')}")
    with closing(Gallery(named)) as opened, opened.database.reading() as db:
        row = db.execute("SELECT current_setting('application_name') AS it").fetchone()
    assert row["it"] == "the pages"
    with closing(Gallery(url)) as opened, opened.database.reading() as db:
        row = db.execute("SELECT current_setting('application_name') AS it").fetchone()
    assert row["it"] == "pagesight"
    with pytest.raises(SetupError, match="cannot open the store"):
        Gallery(PostgresUrl("postgresql://db/pages?no_such_option=1"))
    with closing(Gallery(url)) as opened, pytest.raises(NotFoundError):
        opened.snapshot("none")
