"""Which pictures a command line means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer

from pagesight._cli import files, render


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_means_all_pictures_below_it(tmp_path: Path) -> None:
    inside = [tmp_path / name for name in ("a.JPG", "b/c.webp", "b/d/e.jpeg", "f.png")]
    touch(*inside, tmp_path / "notes.txt", tmp_path / ".hidden.png")
    found = files.pictures([tmp_path])
    assert list(found.pictures) == sorted(inside)
    assert found.left_out_in_words == "1 hidden, 1 not named like a picture"


def test_a_named_file_is_itself_whatever_its_name_and_only_once(tmp_path: Path) -> None:
    odd = tmp_path / "screen.dat"
    touch(tmp_path / "a.png", odd)
    named = files.pictures([odd, tmp_path, tmp_path / "a.png"])
    assert named.pictures == (odd, tmp_path / "a.png")
    assert files.pictures([tmp_path / "gone.png"]).pictures == (tmp_path / "gone.png",)


def test_a_folder_without_pictures_is_a_mistake(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt")
    with pytest.raises(typer.BadParameter, match=r"holds no .*left out: 1 not named like a pic"):
        files.pictures([tmp_path])


def test_folders_name_the_labels_of_their_pictures(tmp_path: Path) -> None:
    touch(tmp_path / "b/1.png", tmp_path / "a/2.png", tmp_path / "a/deep/3.png", tmp_path / "4.png")
    found = files.labelled([tmp_path], "")
    assert [(file.label, file.source) for file in found.pictures] == [
        ("a", "a/2.png"),
        ("b", "b/1.png"),
    ]
    assert found.left_out == {"a folder in a label's folder": 1, "in no label's folder": 1}


def test_a_label_that_is_given_is_that_of_every_picture(tmp_path: Path) -> None:
    touch(tmp_path / "x/1.png", tmp_path / "2.png")
    found = files.labelled([tmp_path], "login")
    assert [(file.label, file.source) for file in found.pictures] == [
        ("login", "2.png"),
        ("login", "1.png"),
    ]
    assert found.left_out == {}


def test_two_spellings_of_a_folder_are_one_label(tmp_path: Path) -> None:
    touch(tmp_path / "caf\u00e9/1.png", tmp_path / "cafe\u0301/2.png")
    found = files.labelled([tmp_path], "")
    assert [file.label for file in found.pictures] == ["caf\u00e9", "caf\u00e9"]


def test_a_name_that_is_not_utf8_is_no_label_and_no_obstacle_in_a_source(tmp_path: Path) -> None:
    gbk = os.fsdecode("登录".encode("gbk"))
    touch(tmp_path / "a" / f"{gbk}.png")
    (file,) = files.labelled([tmp_path], "").pictures
    assert file.source == "a/\ufffd\ufffd¼.png"
    touch(tmp_path / gbk / "1.png")
    with pytest.raises(typer.BadParameter, match="a label is UTF-8"):
        files.labelled([tmp_path], "")


def test_folders_below_are_read_once_whatever_links_lead_to_them(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere/deep/1.png", tmp_path / "in/a/2.png", tmp_path / "in/.trash/3.png")
    root = tmp_path / "in"
    (root / "0-linked").symlink_to(tmp_path / "elsewhere")
    (root / "a/up").symlink_to(root)  # a circle
    (root / "again").symlink_to(root / "a")
    found = files.pictures([root])
    assert found.pictures == (root / "0-linked/deep/1.png", root / "a/2.png")
    assert found.left_out == {"a link to a folder that is read already": 2, "hidden": 1}


def test_a_picture_without_a_label_is_a_mistake(tmp_path: Path) -> None:
    touch(tmp_path / "1.png")
    with pytest.raises(typer.BadParameter, match="--label"):
        files.labelled([tmp_path / "1.png"], "")
    with pytest.raises(typer.BadParameter, match="one folder per label"):
        files.labelled([tmp_path], "")


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert render.shown("a\x1b[31mb\r\n\u202e放心借") == "a\ufffd[31mb\ufffd\ufffd\ufffd放心借"
