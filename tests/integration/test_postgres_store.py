"""A store on PostgreSQL behind the commands and the service: as a file, but for what it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.__main__ import main
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import PostgresUrl
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.postgres import PostgresServer
from tests.support.serving import details, serving, status_of
from tests.support.stores import enrol, picture_id

SECRET = "tr0ub4dor"
WITH_PASSWORD = f"postgresql://me:{SECRET}@127.0.0.1:1/pages"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `pagesight-server ...` here: exit code, stdout, stderr."""
    for name in os.environ:
        if name.startswith("PAGESIGHT_"):
            monkeypatch.delenv(name)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pagesight-server", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


@pytest.fixture
def store(postgres_url: PostgresUrl) -> PostgresUrl:
    """A store with two pictures."""
    with closing(Gallery(postgres_url)) as opened:
        enrol(opened, {"one": "a", "two": "b"})
    return postgres_url


def test_the_commands_take_an_address_where_they_take_a_file(
    command: Run, store: PostgresUrl, tmp_path: Path
) -> None:
    code, out, err = command("gallery", "check", "--store", store)
    assert (code, out.splitlines()[0], err) == (0, f"{store} is sound: default at revision 1", "")
    settings = tmp_path / "pagesight.toml"
    folder = tmp_path / "indexes"
    settings.write_text(f'store = "{store}"\n[gallery]\nstore_folder = "{folder}"\n', "utf-8")
    code, out, err = command("gallery", "purge", picture_id("one")[:12], "--config", settings)
    assert (code, out, err) == (
        0,
        "purged 1 pictures, also from 0 backups; default is at revision 2\n",
        "",
    )
    code, out, _ = command("config", "show", "--config", settings)
    assert code == 0
    assert f'store = "{store}"  # {settings}' in out.splitlines()
    code, out, _ = command("doctor", "--json", "--config", settings, "--bundles", tmp_path)
    told = json.loads(out)
    assert told["store"] == store
    assert told["gallery default"].startswith("revision 2, 1 labels, 1 pictures")


def test_copies_are_left_to_postgresql(command: Run, store: PostgresUrl, tmp_path: Path) -> None:
    for words in (["backup", tmp_path / "it.db"], ["restore", tmp_path / "it.db", "--force"]):
        code, out, err = command("gallery", *words, "--store", store)
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "use pg_dump or pg_basebackup, or `pagesight-server gallery copy`" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["option", "environment", "file"])
@pytest.mark.parametrize("words", [("gallery", "check"), ("config", "show"), ("doctor",)])
def test_a_password_in_an_address_is_refused_wherever_it_comes_from_and_not_shown(
    command: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    words: tuple[str, ...],
) -> None:
    options: list[object] = []
    if source == "option":
        options = ["--store", WITH_PASSWORD]
    elif source == "environment":
        monkeypatch.setenv("PAGESIGHT_STORE", WITH_PASSWORD)
    else:
        file = tmp_path / "pagesight.toml"
        file.write_text(f'store = "{WITH_PASSWORD}"\n')
        options = ["--config", file]
    code, out, err = command(*words, *options)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "postgresql://me:***@127.0.0.1:1/pages" in err
    assert SECRET not in err


def test_a_database_that_is_not_there_is_one_line(command: Run, tmp_path: Path) -> None:
    address = f"postgresql://me@/pages?host={tmp_path}"
    code, out, err = command("gallery", "check", "--store", address)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "the store's database cannot be reached" in err


async def test_callers_are_told_to_come_back_while_the_database_is_away(tmp_path: Path) -> None:
    server = await asyncio.to_thread(PostgresServer)
    try:
        async with serving(tmp_path, location=server.new_store()) as served:
            await served.enrol(("a", solid(RED)), ("b", solid(BLUE)))
            await asyncio.to_thread(server.kill)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await served.enrol(("c", solid(GREEN)))
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert details(status_of(error.value)) == ("STORE_AWAY", 1.0)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await served.gallery.ListGalleries(gpb.ListGalleriesRequest(), timeout=WAIT_S)
            assert details(status_of(error.value)) == ("STORE_AWAY", 1.0)
            # What is known needs no store.
            assert (await served.classify(solid(RED))).closest_label == "a"
            await asyncio.to_thread(server.restart)
            assert (await served.enrol(("c", solid(GREEN)))).revision == 2
            assert (await served.classify(solid(GREEN))).closest_label == "c"
    finally:
        await asyncio.to_thread(server.close)


async def test_a_replica_is_told_of_what_another_enrolled_before_it_polls(
    postgres_url: PostgresUrl, tmp_path: Path
) -> None:
    async with (
        serving(tmp_path, location=postgres_url) as one,
        serving(tmp_path, location=postgres_url) as other,
    ):
        following = asyncio.create_task(other.registry.follow(10 * WAIT_S))
        enrolled = await one.enrol(("a", solid(RED)))
        async with asyncio.timeout(WAIT_S):
            await other.registry._table.wait_for_revision("default", enrolled.revision)
        assert (await other.classify(solid(RED))).closest_label == "a"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
