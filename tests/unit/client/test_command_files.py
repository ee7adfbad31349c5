"""Which pictures a command line means."""

from __future__ import annotations

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
    assert files.pictures([tmp_path]) == sorted(inside)


def test_a_named_file_is_itself_whatever_its_name_and_only_once(tmp_path: Path) -> None:
    odd = tmp_path / "screen.dat"
    touch(tmp_path / "a.png", odd)
    assert files.pictures([odd, tmp_path, tmp_path / "a.png"]) == [odd, tmp_path / "a.png"]
    assert files.pictures([tmp_path / "gone.png"]) == [tmp_path / "gone.png"]


def test_a_folder_without_pictures_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="holds no"):
        files.pictures([tmp_path])


def test_folders_name_the_labels_of_their_pictures(tmp_path: Path) -> None:
    touch(tmp_path / "b/1.png", tmp_path / "a/2.png", tmp_path / "a/deep/3.png", tmp_path / "4.png")
    found = files.labelled([tmp_path], "")
    assert [(file.label, file.source) for file in found] == [("a", "a/2.png"), ("b", "b/1.png")]
    assert list(files.unlabelled([tmp_path], "")) == [(tmp_path, 1)]


def test_a_label_that_is_given_is_that_of_every_picture(tmp_path: Path) -> None:
    touch(tmp_path / "x/1.png", tmp_path / "2.png")
    found = files.labelled([tmp_path], "login")
    assert [(file.label, file.source) for file in found] == [("login", "2.png"), ("login", "1.png")]
    assert list(files.unlabelled([tmp_path], "login")) == []


def test_a_picture_without_a_label_is_a_mistake(tmp_path: Path) -> None:
    touch(tmp_path / "1.png")
    with pytest.raises(typer.BadParameter, match="--label"):
        files.labelled([tmp_path / "1.png"], "")
    with pytest.raises(typer.BadParameter, match="one folder per label"):
        files.labelled([tmp_path], "")


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert render.shown("a\x1b[31mb\r\n\u202e放心借") == "a\ufffd[31mb\ufffd\ufffd\ufffd放心借"
