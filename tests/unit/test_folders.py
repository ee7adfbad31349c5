"""Folders of pictures: the server and the client take the same files and leave out the same.

The two may share no code, so this table holds them together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesight._cli import files as client
from pagesight_server.gallery import folder as server

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
HEIC = b"\0\0\0\x24ftypheic\0\0\0\0"
AVIF = b"\0\0\0\x20ftypavif\0\0\0\0"
WEBP = b"RIFF\x24\0\0\0WEBPVP8 "

Make = Callable[[Path], object]


def holding(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


def linking(target: str | Path) -> Make:
    return lambda path: path.symlink_to(target)


FILES = [
    *[
        pytest.param(name, holding(b"whatever"), "", id=f"named {name}")
        for name in ("1.png", "1.JPG", "1.jpeg", "1.jpe", "1.jfif", "1.webp", "1.HEIC", "1.avif")
    ],
    pytest.param("1", holding(PNG), "", id="a PNG without a suffix"),
    pytest.param("Screenshot_2026.01.31-12", holding(WEBP), "", id="a WebP with a date for one"),
    pytest.param("IMG_1", holding(HEIC), "", id="a HEIC without a suffix"),
    pytest.param("IMG_2", holding(AVIF), "", id="an AVIF without a suffix"),
    pytest.param("1", holding(b"\xff\xd8\xff\xe1"), "", id="a JPEG without a suffix"),
    pytest.param("README", holding(b"words"), "not named like a picture", id="words"),
    pytest.param("1", holding(b"RIFF\x24\0\0\0WAVEfmt "), "not named like a picture", id="sound"),
    pytest.param("1.mp4", holding(HEIC), "not named like a picture", id="named otherwise"),
    pytest.param("1.png.part", holding(PNG), "not named like a picture", id="half a download"),
    pytest.param("empty", holding(b""), "not named like a picture", id="nothing"),
    pytest.param(".trashed-1763000000-1.png", holding(PNG), "hidden", id="a deleted picture"),
    pytest.param("._1.png", holding(b"\0\5\x16\7"), "hidden", id="what macOS keeps beside one"),
    pytest.param("folder.png", Path.mkdir, "a folder in a label's folder", id="a folder"),
    pytest.param("pipe.png", os.mkfifo, "no regular file", id="a pipe"),
    pytest.param("pipe", os.mkfifo, "not named like a picture", id="a pipe without a suffix"),
    pytest.param("zero.png", linking("/dev/zero"), "no regular file", id="a device"),
    pytest.param("gone.png", linking("nowhere"), "no regular file", id="a dangling link"),
    pytest.param("self.png", linking("self.png"), "no regular file", id="a link to itself"),
]
"""Name, how it is made, and why it is left out: empty where it is a picture."""


@pytest.mark.parametrize(("name", "make", "reason"), FILES)
def test_both_readers_take_the_same_files(
    tmp_path: Path, name: str, make: Make, reason: str
) -> None:
    kept = tmp_path / "a" / "kept.png"
    kept.parent.mkdir()
    kept.write_bytes(PNG)
    odd = tmp_path / "a" / name
    make(odd)
    expected = {kept} if reason else {kept, odd}
    left_out = {reason: 1} if reason else {}
    by_server = server.read_folder(tmp_path)
    by_client = client.labelled([tmp_path], "")
    assert {path for files in by_server.pictures.values() for path in files} == expected
    assert {file.path for file in by_client.pictures} == expected
    assert by_server.left_out == by_client.left_out == left_out
    assert by_server.left_out_in_words == by_client.left_out_in_words
    if reason != "a folder in a label's folder":  # which `classify` looks into
        below = client.pictures([tmp_path])
        assert (set(below.pictures), below.left_out) == (expected, left_out)


def test_both_readers_count_what_lies_beside_the_label_folders(tmp_path: Path) -> None:
    for name in ("b/1.png", ".cache/2.png", "loose.png", "labels.toml", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    (tmp_path / "a").symlink_to("b")
    expected = {"hidden": 1, "in no label's folder": 1, LINKED: 1}
    by_server, by_client = server.read_folder(tmp_path), client.labelled([tmp_path], "")
    assert by_server.left_out == by_client.left_out == expected
    taken = [(file.label, file.path) for file in by_client.pictures]
    assert taken == [(label, path) for label, paths in by_server.pictures.items() for path in paths]
    assert [label for label, _ in taken] == ["b", "elsewhere"]


LINKED = "a link to a folder that is read already"
