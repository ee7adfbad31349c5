"""Files that hold pictures or texts are their owner's alone, under whatever umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagesight_server.common import files
from pagesight_server.evaluation.feature_cache import FeatureFile
from pagesight_server.gallery import Gallery, backup
from tests.support.parts import BUNDLES
from tests.support.stores import enrol


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The usual one, which leaves files readable by everybody."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_and_folders_are_their_owners_alone(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    files.make_file(tmp_path / "a" / "b" / "c")
    files.write_text(tmp_path / "a" / "d", "words \udcff")
    assert [mode(tmp_path / name) for name in ("a", "a/b")] == [0o700] * 2
    assert [mode(tmp_path / name) for name in ("a/b/c", "a/d")] == [0o600] * 2
    assert (tmp_path / "a" / "d").read_text("utf-8") == "words \\udcff"


def test_what_exists_keeps_its_mode(tmp_path: Path) -> None:
    folder, file = tmp_path / "shared", tmp_path / "shared" / "file"
    folder.mkdir(mode=0o750)
    file.touch()
    file.chmod(0o640)
    files.make_folder(folder)
    files.make_file(file)
    files.write_text(file, "words")
    assert (mode(folder), mode(file), file.read_text("utf-8")) == (0o750, 0o640, "words")
    with pytest.raises(OSError, match="Not a directory"):
        files.make_folder(file)


def test_a_store_and_all_that_is_made_of_it_are_their_owners_alone(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"one": "a"})
    assert (tmp_path / "gallery.db-wal").exists()
    for path in tmp_path.iterdir():  # the log and its index are there while it is open
        assert mode(path) == 0o600, path
    managed = backup.backup_into(store, tmp_path / "copies", keep=1)
    assert mode(tmp_path / "copies") == 0o700
    assert mode(managed) == 0o600
    backup.backup(store, tmp_path / "copy.db")
    assert mode(tmp_path / "copy.db") == 0o600
    backup.restore(tmp_path / "copy.db", tmp_path / "restored.db", author="li")
    assert mode(tmp_path / "restored.db") == 0o600
    store.close()


def test_kept_features_are_their_owners_alone(tmp_path: Path) -> None:
    FeatureFile(tmp_path / "features.jsonl", BUNDLES, {}).close()
    assert mode(tmp_path / "features.jsonl") == 0o600
