"""Killed writers, a full disk, a second server: what was acknowledged is there, and no more.

writer: "try <change>" ──change──> "done <revision>"     the model takes what was done;
^ SIGKILL at any moment ^                      one change may be there untold
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Gallery, backup
from tests.support import WAIT_S
from tests.support.parts import BUNDLES
from tests.support.serving import serving, until
from tests.support.stores import enrol, picture_id

ROOT = Path(__file__).parents[2]

WRITE = """
import json, random, sys
from pathlib import Path
from pagesight_server.gallery import Change, Gallery
from tests.support.stores import enrol, picture_id
store = Gallery(Path(sys.argv[1]))
chance = random.Random(int(sys.argv[2]))
names = [f"p{i}" for i in range(12)]
def tell(*what):
    print(json.dumps(what), flush=True)
while True:
    held = {p.image_id: p.label for p in store.snapshot().pictures} if store.revisions() else {}
    outside = [name for name in names if picture_id(name) not in held]
    kinds = (["enrol"] if outside else []) + (["remove", "relabel"] if held else [])
    kind = chance.choice(kinds)
    if kind == "enrol":
        some = chance.sample(outside, min(3, len(outside)))
        label = chance.choice("abc")
        tell("try", kind, [picture_id(name) for name in some], label)
        done = enrol(store, dict.fromkeys(some, label))
    else:
        some = chance.sample(sorted(held), min(2, len(held)))
        label = chance.choice("abc") + str(chance.random())
        tell("try", kind, some, label)
        done = (store.remove(Change(), some) if kind == "remove"
                else store.relabel(Change(), some, label))
    tell("done", done.revision)
"""

FILL = """
import resource, sys
from pathlib import Path
from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Gallery
from tests.support.stores import enrol
store = Gallery(Path(sys.argv[1]))
size = Path(sys.argv[1] + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200_000, size + 200_000))
try:
    for i in range(1000):
        print(enrol(store, {f"{i} " * 2000: "a"}).revision, flush=True)
except StorageError as error:
    print(error, flush=True)
"""


def applied(state: dict[str, str], kind: str, ids: list[str], label: str) -> dict[str, str]:
    if kind == "remove":
        return {image_id: held for image_id, held in state.items() if image_id not in ids}
    return state | dict.fromkeys(ids, label)


def killed_midway(folder: Path, rounds: int) -> None:
    chance = random.Random(3)
    path = folder / "gallery.db"
    state: dict[str, str] = {}
    changes = 0
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), str(number)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        tried: tuple[str, list[str], str] | None = None
        lines_left = chance.randrange(1, 24)
        for line in process.stdout:
            told: list[Any] = json.loads(line)
            if told[0] == "try":
                tried = (told[1], told[2], told[3])
            elif tried is not None:
                state, tried = applied(state, *tried), None
                changes += 1
                assert told[1] >= changes
            lines_left -= 1
            if lines_left == 0:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.random() * 0.01)  # somewhere in the next change
                process.kill()  # what it had printed before is still read
        process.wait(WAIT_S)
        process.stdout.close()
        store = Gallery(path)
        held = {p.image_id: p.label for p in store.snapshot().pictures} if store.revisions() else {}
        untold = applied(state, *tried) if tried else state
        assert held in (state, untold)
        if held != state:
            changes += 1
        state = held
        assert backup.check(store) == []
        store.close()
    assert changes >= rounds


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    killed_midway(tmp_path, 6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_and_twenty_killed_writers_lose_nothing_that_was_acknowledged(
    tmp_path: Path,
) -> None:
    killed_midway(tmp_path, 120)


def test_a_disk_without_room_is_told_and_keeps_the_old_state(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    store = Gallery(path)  # held open, so that the log stays
    enrol(store, {"first": "a"})
    ran = subprocess.run(
        [sys.executable, "-c", FILL, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=3 * WAIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *revisions, problem = ran.stdout.splitlines()
    assert problem.startswith("the store could not be written and is unchanged: ")
    assert store.revisions() == {"default": int(revisions[-1])}
    assert len(store.snapshot().pictures) == int(revisions[-1])
    assert backup.check(store) == []
    assert enrol(store, {"last": "a"}).revision == int(revisions[-1]) + 1
    store.close()


RESTORE = """
import sys
from pathlib import Path
from pagesight_server.gallery import backup
print("begin", flush=True)
backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), author="li", force=True)
print("end", flush=True)
"""


def test_a_restore_that_is_killed_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    path, file = tmp_path / "gallery.db", tmp_path / "it.db"
    store = Gallery(path)  # open all the time, as a server has it
    enrol(store, {f"{i} " * 20_000: "a" for i in range(40)})
    backup.backup(store, file)
    chance = random.Random(5)
    for number in range(6):
        revision = enrol(store, {f"late {number}": "b"}).revision
        process = subprocess.Popen(
            [sys.executable, "-c", RESTORE, str(file), str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begin\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.random() * 0.4)
        process.kill()
        ended = process.stdout.read() == "end\n"
        process.wait(WAIT_S)
        process.stdout.close()
        at, labels = store.revisions()["default"], store.snapshot().labels
        assert (at, labels) in [(revision, ("a", "b")), (revision + 1, ("a",))]
        assert at == revision + 1 or not ended
        assert backup.check(store) == []
    store.close()


async def test_a_second_server_knows_within_a_second_what_the_first_was_taught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two looks a second, and the next one sees it: not timed, for a busy machine is late at both.
    interval_s = ServerConfig().follow_seconds
    assert interval_s <= 0.5
    async with serving(tmp_path) as second:
        looks = 0
        revisions = second.store.revisions

        def looked() -> dict[str, int]:
            nonlocal looks
            looks += 1
            return revisions()

        revision = 0

        def is_known() -> bool:
            known = second.registry.known().get("default")
            return known is not None and known.snapshot.revision == revision

        monkeypatch.setattr(second.store, "revisions", looked)
        following = asyncio.create_task(second.registry.follow(interval_s))
        first = Gallery(tmp_path / "gallery.db")
        try:
            for i in range(3):
                revision = enrol(first, {f"p{i}": "a"}).revision
                before = looks
                await until(is_known)
                assert looks <= before + 1
        finally:
            following.cancel()
            first.close()
        known = second.registry.get("default")
    assert known.snapshot.bundles == BUNDLES
    assert picture_id("p2") in {p.image_id for p in known.snapshot.pictures}
