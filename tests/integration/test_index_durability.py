"""Servers killed while they make an index: the next one answers like brute force over SQLite.

server: change ──> "done <revision>" ──> follow ──> codes, whole, written anew ──> change
^ SIGKILL at any moment ^
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.gallery import Gallery
from pagesight_server.index.ivf import Codes
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Vectors
from pagesight_server.workflows.registry import Registry
from tests.support import WAIT_S
from tests.support.codes import compare, fill, only_codes
from tests.support.parts import BUNDLES

ROOT = Path(__file__).parents[2]

SERVE = """
import asyncio, random, sys
from pathlib import Path
from pagesight_server.gallery import Change, Entry, Gallery
from pagesight_server.index.manager import IndexManager
from pagesight_server.index.policy import IndexSettings
from pagesight_server.workflows.registry import Registry
from tests.support.codes import LATE, at_revision, only_codes
from tests.support.parts import BUNDLES
from tests.support.stores import picture_id
path = Path(sys.argv[1])
store = Gallery(path)
only_codes()
IndexSettings.is_due = lambda self, base, changed: changed > 0
settings = IndexSettings(kind=sys.argv[3], device="cpu")
index_manager = IndexManager(settings, Path(f"{path}.index"))
registry = Registry(store, BUNDLES, method="seed", epsilon=0.05, index_manager=index_manager)
chance = random.Random(int(sys.argv[2]))
async def serve():
    while True:
        held = {row.image_id for row in at_revision(path, store.revisions()["default"])}
        image_id = picture_id(chance.choice(LATE))
        if image_id in held:
            done = store.remove(Change(), [image_id])
        else:
            done = store.enrol(Change(), [Entry(image_id=image_id, label="a")], BUNDLES)
        print(done.revision, flush=True)
        await registry.refresh()
        await registry.settled()
asyncio.run(serve())
"""


async def answers(path: Path, acknowledged: int, codes: Codes) -> str:
    """What kind of index a server has right after its start; asserts that it answers rightly."""
    store = Gallery(path)
    assert store.revisions()["default"] >= acknowledged
    index_manager = IndexManager(IndexSettings(kind=codes, device="cpu"), _folder(path))
    registry = Registry(store, BUNDLES, method="seed", epsilon=0.05, index_manager=index_manager)
    await registry.refresh()
    known = registry.get("default")
    vectors = known.snapshot.embeddings
    assert isinstance(vectors, Vectors)
    kind = vectors.layout.generation.base.kind
    compare(known.snapshot, path, known.method.search, np.random.default_rng(acknowledged))
    await registry.settled()
    assert not list(_folder(path).glob("*.part"))
    store.close()
    return kind


def _folder(path: Path) -> Path:
    return Path(f"{path}.index")


def killed(folder: Path, rounds: int, codes: Codes, patch: pytest.MonkeyPatch) -> None:
    only_codes(patch)
    path = folder / "gallery.db"
    fill(path)
    chance = random.Random(3)
    kinds: list[str] = []
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(path), str(number), codes],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        acknowledged = 0
        changes_left = chance.randrange(2, 5)
        for line in process.stdout:
            acknowledged = int(line)
            changes_left -= 1
            if not changes_left:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(chance.random() * 0.5)  # somewhere in making codes
                process.kill()
        process.wait(WAIT_S)
        process.stdout.close()
        assert acknowledged, "the server made no change"
        kinds.append(asyncio.run(answers(path, acknowledged, codes)))
    assert codes in kinds


@pytest.mark.parametrize("codes", ["ivfpq", "ivfrabitq"])
def test_a_server_killed_while_it_makes_an_index_leaves_one_that_answers_rightly(
    tmp_path: Path, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, 3, codes, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("codes", ["ivfpq", "ivfrabitq"])
def test_a_hundred_servers_killed_while_they_make_an_index_leave_one_that_answers_rightly(
    tmp_path: Path, codes: Codes, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, 100, codes, monkeypatch)
