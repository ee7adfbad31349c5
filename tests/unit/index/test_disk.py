"""Generations on disk: whole or not used at all."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pagesight_server.index.disk import GenerationStore
from pagesight_server.index.ivf import IvfBase, RecallError, build
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import Generation
from tests.support import WAIT_S

Build = Callable[[NDArray[np.float16]], IvfBase]


@pytest.fixture(params=["ivfpq", "ivfrabitq"])
def made(request: pytest.FixtureRequest) -> Build:
    """Builds a base of each kind of codes."""
    return partial(build, settings=IndexSettings(min_recall=0.01), kind=request.param, threads=1)


@pytest.fixture
def halves() -> NDArray[np.float16]:
    return np.random.default_rng(1).standard_normal((600, 16)).astype(np.float16)


@pytest.fixture
def ids() -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (600, 32)).astype(np.uint8)


@pytest.fixture
def generations(
    tmp_path: Path, halves: NDArray[np.float16], ids: NDArray[np.uint8], made: Build
) -> GenerationStore:
    generations = GenerationStore(tmp_path / "g.db.index")
    generations.write("default", "encoder@1", ids, halves, made)
    return generations


def test_what_was_written_is_read(
    generations: GenerationStore, halves: NDArray[np.float16], ids: NDArray[np.uint8]
) -> None:
    taken = generations.read("default", "encoder@1")
    assert taken is not None
    np.testing.assert_array_equal(taken[0], ids)
    np.testing.assert_array_equal(taken[1].halves, halves)
    queries = halves[:3].astype(np.float32)
    slots = taken[1].base.candidates(queries, 5, None)
    assert [row in found for row, found in enumerate(slots.tolist())] == [True] * 3


def test_another_gallery_or_bundle_has_none(generations: GenerationStore) -> None:
    assert generations.read("second", "encoder@1") is None
    assert generations.read("default", "encoder@2") is None


@pytest.mark.parametrize("suffix", ["vectors", "codes"])
def test_a_flipped_byte_is_noticed(
    generations: GenerationStore, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = generations.folder.glob(f"*.{suffix}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert generations.read("default", "encoder@1") is None
    assert f"{path.name} is damaged" in caplog.text


@pytest.mark.parametrize("suffix", ["vectors", "codes"])
def test_a_missing_file_is_noticed(generations: GenerationStore, suffix: str) -> None:
    (path,) = generations.folder.glob(f"*.{suffix}")
    path.unlink()
    assert generations.read("default", "encoder@1") is None


def test_a_manifest_that_was_changed_is_noticed(
    generations: GenerationStore, caplog: pytest.LogCaptureFixture
) -> None:
    (path,) = generations.folder.glob("*.json")
    text = path.read_text()
    assert '"nprobe": 4' in text
    path.write_text(text.replace('"nprobe": 4', '"nprobe": 1'))
    assert generations.read("default", "encoder@1") is None
    assert "the manifest is damaged" in caplog.text


@pytest.mark.parametrize("text", ["", "[]", '{"version": 0}', '{"version": 1}'])
def test_a_manifest_that_makes_no_sense_is_not_used(
    generations: GenerationStore, text: str
) -> None:
    (path,) = generations.folder.glob("*.json")
    path.write_text(text)
    assert generations.read("default", "encoder@1") is None


def test_a_generation_that_fails_leaves_the_old_one(
    generations: GenerationStore, halves: NDArray[np.float16], ids: NDArray[np.uint8]
) -> None:
    def refuse(halves: NDArray[np.float16]) -> IvfBase:
        raise RecallError("too little")

    with pytest.raises(RecallError):
        generations.write("default", "encoder@1", ids[:300], halves[:300], refuse)
    taken = generations.read("default", "encoder@1")
    assert taken is not None
    assert len(taken[1]) == 600
    assert not list(generations.folder.glob("*.part"))


def test_a_disk_without_room_is_told_before_any_work(
    generations: GenerationStore,
    halves: NDArray[np.float16],
    ids: NDArray[np.uint8],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(halves: NDArray[np.float16]) -> IvfBase:
        raise AssertionError("it was built")

    # 600 pictures of 16 values of 2 bytes and 32 bytes of id, and a tenth more.
    room = shutil.disk_usage("/")._replace(free=42_239)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    with pytest.raises(OSError, match="needs 42,240 bytes and has 42,239 left"):
        generations.write("default", "encoder@1", ids, halves, never)
    assert generations.read("default", "encoder@1") is not None


def test_two_that_build_at_once_take_turns(
    generations: GenerationStore,
    halves: NDArray[np.float16],
    ids: NDArray[np.uint8],
    made: Build,
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    built = made(halves)
    order = []

    def slow(halves: NDArray[np.float16]) -> IvfBase:
        order.append("first begins")
        begun.set()
        assert go_on.wait(WAIT_S)
        order.append("first ends")
        return built

    def fast(halves: NDArray[np.float16]) -> IvfBase:
        order.append("second")
        return built

    other = GenerationStore(generations.folder)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(generations.write, "default", "encoder@1", ids, halves, slow)
        assert begun.wait(WAIT_S)
        second = threads.submit(other.write, "second", "encoder@1", ids, halves, fast)
        other.clean_up("default", "encoder@1", [])  # a start meanwhile waits for nobody
        go_on.set()
        first.result(WAIT_S)
        second.result(WAIT_S)
    assert order == ["first begins", "first ends", "second"]
    for gallery in ("default", "second"):
        taken = generations.read(gallery, "encoder@1")
        assert taken is not None
        np.testing.assert_array_equal(taken[1].halves, halves)


def test_what_a_killed_process_had_half_made_is_deleted(generations: GenerationStore) -> None:
    left = generations.folder / "0123456789abcdef-xyz.part"
    left.mkdir()
    (left / "vectors").write_bytes(b"half")
    (manifest,) = generations.folder.glob("*.json")
    renamed = generations.folder / f"{manifest.stem}-000000000000.vectors"
    renamed.write_bytes(b"not in the manifest yet")
    generations.clean_up("default", "encoder@1", [])
    assert not left.exists()
    assert not renamed.exists()
    assert generations.read("default", "encoder@1") is not None


def test_a_generation_with_a_purged_picture_is_deleted(
    generations: GenerationStore, ids: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    generations.clean_up("default", "encoder@1", ["ab" * 32])
    assert generations.read("default", "encoder@1") is not None
    generations.clean_up("default", "encoder@1", ["ab" * 32, bytes(ids[7]).hex()])
    assert "it held a purged picture" in caplog.text
    assert not any(bytes(ids[7]) in path.read_bytes() for path in generations.folder.iterdir())


class LateStore(GenerationStore):
    """A store whose lock is free only once another process has ended its build."""

    def __init__(self, folder: Path, build: Callable[[], object]) -> None:
        super().__init__(folder)
        self._build = build

    @contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        self._build()
        with super()._locked(wait=wait):
            yield


@pytest.mark.parametrize("purges", [False, True])
def test_what_another_process_ends_meanwhile_is_kept(
    generations: GenerationStore,
    halves: NDArray[np.float16],
    ids: NDArray[np.uint8],
    made: Build,
    purges: bool,
) -> None:
    late = LateStore(
        generations.folder,
        lambda: generations.write("default", "encoder@1", ids[:400], halves[:400], made),
    )
    purged = [bytes(ids[500]).hex()] if purges else []
    late.clean_up("default", "encoder@1", purged)
    taken = generations.read("default", "encoder@1")
    assert taken is not None
    np.testing.assert_array_equal(taken[0], ids[:400])


def test_a_purged_picture_goes_also_while_another_process_writes(
    generations: GenerationStore, ids: NDArray[np.uint8]
) -> None:
    with generations._locked():
        other = GenerationStore(generations.folder)
        other.clean_up("default", "encoder@1", [bytes(ids[7]).hex()])
    assert not list(generations.folder.glob("*.vectors"))
    other.clean_up("default", "encoder@1", [])
    assert [path.name for path in generations.folder.iterdir()] == ["lock"]


def test_a_new_generation_replaces_the_files_of_the_old(
    generations: GenerationStore,
    halves: NDArray[np.float16],
    ids: NDArray[np.uint8],
    made: Build,
) -> None:
    before = generations.read("default", "encoder@1")
    generations.write("default", "encoder@1", ids[:400], halves[:400], made)
    assert sorted(path.suffix for path in generations.folder.iterdir()) == [
        "",
        ".codes",
        ".json",
        ".vectors",
    ]
    assert before is not None
    np.testing.assert_array_equal(before[1].halves, halves)  # still mapped


def test_erasing_leaves_no_file(generations: GenerationStore) -> None:
    generations.delete("default", "encoder@1")
    assert [path.name for path in generations.folder.iterdir()] == ["lock"]
    generations.delete("default", "encoder@1")


def test_galleries_that_are_not_named_leave_no_file(
    generations: GenerationStore,
    halves: NDArray[np.float16],
    ids: NDArray[np.uint8],
    made: Build,
) -> None:
    generations.write("second", "encoder@1", ids, halves, made)
    generations.write("second", "encoder@2", ids, halves, made)
    assert generations.delete_all_but({"second": "encoder@2"})
    assert generations.read("default", "encoder@1") is None
    assert generations.read("second", "encoder@1") is None
    assert generations.read("second", "encoder@2") is not None
    assert sorted(path.suffix for path in generations.folder.iterdir()) == [
        "",
        ".codes",
        ".json",
        ".vectors",
    ]


def test_nothing_is_deleted_while_another_process_writes(generations: GenerationStore) -> None:
    with generations._locked():
        assert not GenerationStore(generations.folder).delete_all_but({})
    assert generations.read("default", "encoder@1") is not None


def test_a_folder_that_was_never_made_has_nothing_to_delete(tmp_path: Path) -> None:
    assert GenerationStore(tmp_path / "none").delete_all_but({})


def test_what_another_process_has_built_of_the_same_vectors_is_not_built_again(
    generations: GenerationStore, halves: NDArray[np.float16], ids: NDArray[np.uint8]
) -> None:
    def kept() -> tuple[NDArray[np.uint8], Generation] | None:
        return generations.read("default", "encoder@1")

    def not_again(_: NDArray[np.float16]) -> IvfBase:
        raise AssertionError

    taken = generations.write("default", "encoder@1", ids, halves, not_again, kept)
    np.testing.assert_array_equal(taken.halves, halves)
    others = halves.copy()
    others[3] += 1
    for other_ids, vectors in ((ids[::-1], halves), (ids, others), (ids[:590], halves[:590])):
        with pytest.raises(AssertionError):
            generations.write("default", "encoder@1", other_ids, vectors, not_again, kept)
