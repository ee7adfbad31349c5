"""A line for every change of a gallery: through the server, past it, and of who did not wait."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

import pagesight
from pagesight import AsyncClient
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.gallery import Applied, Change, Gallery, backup
from pagesight_server.gallery.snapshot import LabelFacts
from pagesight_server.service.audit import Audit
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support import WAIT_S
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import Serving, complaints, serving, until
from tests.support.stores import enrol

RED_ID = hashlib.sha256(solid(RED)).hexdigest()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pagesight_server.audit")


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines so far."""
    return [r.getMessage() for r in caplog.records if r.name == "pagesight_server.audit"]


async def test_every_change_leaves_a_line_with_who_made_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tokens.toml"
    digest = hashlib.sha256(b"teach-me").hexdigest()
    file.write_text(
        f"[[token]]\nname = 'teacher'\nsha256 = '{digest}'\nroles = ['gallery-write']\n", "utf-8"
    )
    guard = RequireRole(read_tokens(file))
    async with (
        serving(tmp_path, guards=[guard]) as guarded,
        AsyncClient(guarded.address, token="teach-me", timeout_s=WAIT_S) as teacher,
    ):
        await teacher.enrol([pagesight.EnrolItem(image=solid(RED), label="a")], author="mei")
        image_id = hashlib.sha256(solid(RED)).hexdigest()
        await teacher.relabel([image_id], "b")
        await teacher.set_labels([pagesight.LabelInfo(label="b", outputs=("limit",))])
        await teacher.remove([image_id])
        await teacher.rollback(1)
        await teacher.get_labels()
    first, *_ = told = audited(caplog)
    assert first.startswith("gallery 'default' enrol by 'teacher' (author 'mei') from ipv4:127")
    assert first.endswith("revision 1, 1 added")
    assert [line.split(" by 'teacher'")[0] for line in told] == [
        f"gallery 'default' {kind}" for kind in ("enrol", "relabel", "labels", "remove", "rollback")
    ]
    assert "teach-me" not in caplog.text


async def test_what_changes_nothing_and_what_is_repeated_leaves_no_line(
    served: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    await served.enrol(("a", solid(RED)), request_id="once")
    await served.enrol(("a", solid(RED)), request_id="once")
    await served.enrol(("a", solid(RED)))
    with pytest.raises(grpc.aio.AioRpcError):
        await served.gallery.Remove(gpb.RemoveRequest(image_ids=["0" * 64]), timeout=WAIT_S)
    assert len(audited(caplog)) == 1


async def test_whoever_leaves_before_the_answer_leaves_a_line_all_the_same(
    served: Serving, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.enrol(("a", solid(RED)))
    begun, left = threading.Event(), threading.Event()
    remove = served.store.remove

    def slowly(change: Change, image_ids: list[str]) -> Applied:
        begun.set()
        assert left.wait(WAIT_S)
        return remove(change, image_ids)

    monkeypatch.setattr(served.store, "remove", slowly)
    call = served.gallery.Remove(gpb.RemoveRequest(image_ids=[RED_ID]), timeout=WAIT_S)
    asking = asyncio.ensure_future(call.wait_for_connection())
    assert await asyncio.to_thread(begun.wait, WAIT_S)
    call.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    left.set()
    await until(lambda: served.store.revisions() == {"default": 2})
    await until(lambda: len(audited(caplog)) == 2)
    assert audited(caplog)[1].startswith("gallery 'default' remove by 'anybody'")


async def test_changes_by_another_process_leave_lines_in_the_log_of_the_server(
    served: Serving, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)), ("b", solid(GREEN)))
    copy = tmp_path / "copy.db"
    other = Gallery(tmp_path / "gallery.db")
    backup.backup(other, copy)
    # As `index` with a labels.toml, `gallery purge` and `gallery restore` do.
    other.set_facts(Change(author="li"), {"a": LabelFacts(brands=("A",))})
    backup.purge(other, [RED_ID], author="root")
    other.close()
    await served.enrol(("c", solid((9, 9, 9))))
    for _ in range(3):
        served.audit.look()
    # What a backup does not know of is in no history afterwards.
    backup.restore(copy, tmp_path / "gallery.db", author="root", force=True)
    for _ in range(3):
        served.audit.look()
    own, added, labels, purge, restore, *more = audited(caplog)
    assert not more
    assert (own.split(" by ")[0], added.split(" by ")[0]) == ("gallery 'default' enrol",) * 2
    by = "by another process (author"
    assert labels == f"gallery 'default' labels {by} 'li'): revision 2, set labels a"
    assert purge == f"gallery 'default' purge {by} 'root'): revision 3, purged {RED_ID}"
    assert restore.startswith(f"gallery 'default' restore {by} 'root'): revision 5, restored")


async def test_a_history_longer_than_a_page_is_told_whole_and_in_order(
    served: Serving, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    await served.enrol(("a", solid(RED)))
    other = Gallery(tmp_path / "gallery.db")
    for number in range(250):
        other.relabel(Change(), [RED_ID], f"l{number}")
    other.close()
    for _ in range(2):
        served.audit.look()
    told = audited(caplog)[1:]
    assert [line.partition("revision ")[2].split(",")[0] for line in told] == [
        str(revision) for revision in range(2, 252)
    ]


async def test_a_store_that_cannot_be_read_is_told_once_and_followed_again(
    served: Serving, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await served.enrol(("a", solid(RED)))
    looks = 0
    revisions = served.store.last_revisions

    def failing() -> dict[str, int]:
        nonlocal looks
        looks += 1
        if looks < 4:
            raise OSError("the disk is away")
        return revisions()

    monkeypatch.setattr(served.store, "last_revisions", failing)
    following = asyncio.create_task(served.audit.follow(0.001))
    await until(lambda: looks > 5)
    following.cancel()
    assert complaints(caplog.records) == [
        "cannot read the history of the store; looking again and again"
    ]


def test_of_two_processes_of_one_server_each_change_has_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leading, other = Gallery(tmp_path / "gallery.db"), Gallery(tmp_path / "gallery.db")
    reading = Audit(leading)
    Audit(other, reading.has_line)
    stranger = Gallery(tmp_path / "gallery.db")
    for store, name in ((leading, "one"), (other, "two"), (stranger, "three")):
        enrol(store, {name: name})
    for _ in range(2):  # what is new is looked at again, as its line may come in a moment
        reading.look()
    assert [line.split(" (author")[0] for line in audited(caplog)] == [
        "gallery 'default' enrol by 'anybody'",
        "gallery 'default' enrol by 'anybody'",
        "gallery 'default' enrol by another process",
    ]
    for store in (leading, other, stranger):
        store.close()
