"""Folders of labelled screenshots: what is read, what is left out, and that all readers agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_server.common.errors import InvalidRequestError, SetupError
from pagesight_server.evaluation.run import collect
from pagesight_server.gallery.folder import read_folder


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")
    return path


def test_pictures_are_listed_by_label_in_order(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "2.PNG")
    touch(tmp_path / "b" / "1.jpeg")
    touch(tmp_path / "a" / "x.webp")
    found = read_folder(tmp_path)
    assert {label: [path.name for path in files] for label, files in found.pictures.items()} == {
        "a": ["x.webp"],
        "b": ["1.jpeg", "2.PNG"],
    }
    assert (found.count, found.left_out_in_words) == (3, "")


def test_links_are_followed_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "elsewhere" / "1.png").parent
    folder = tmp_path / "set"
    touch(folder / "b" / "2.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "a").symlink_to(folder / "b")
    found = read_folder(folder)
    assert list(found.pictures) == ["b", "linked"]
    assert found.left_out == {"a link to a folder that is read already": 1}


def test_a_folder_without_pictures_says_what_it_should_hold(tmp_path: Path) -> None:
    touch(tmp_path / "loose.png")
    told = r"left out: 1 in no label's folder\): .*one folder per label"
    with pytest.raises(SetupError, match=told):
        read_folder(tmp_path)
    with pytest.raises(SetupError, match="is not a folder"):
        read_folder(tmp_path / "missing")


def test_a_name_that_cannot_be_a_label_is_refused_where_it_holds_pictures(tmp_path: Path) -> None:
    (tmp_path / " spaces ").mkdir()
    touch(tmp_path / "a" / "1.png")
    assert list(read_folder(tmp_path).pictures) == ["a"]
    touch(tmp_path / " spaces " / "1.png")
    with pytest.raises(InvalidRequestError, match="cannot be a label"):
        read_folder(tmp_path)


def test_evaluate_takes_the_files_that_index_takes(tmp_path: Path) -> None:
    # Hidden files and folders named like pictures were enrolled by one and not tested by the other.
    touch(tmp_path / "a" / "kept.png")
    touch(tmp_path / "a" / ".hidden.png")
    (tmp_path / "a" / "folder.png").mkdir()
    enrolled = [path for files in read_folder(tmp_path).pictures.values() for path in files]
    assert [tmp_path / path for path, _ in collect(tmp_path)] == enrolled
