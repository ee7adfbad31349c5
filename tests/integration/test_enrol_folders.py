"""`pagesight gallery enrol`: folders of labels, broken off, full, and raced."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.command import Run, rows
from tests.support.fake_server import FakeServer


def image_id(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_label_folders_are_enrolled_one_revision_each(
    pagesight: Run, server: FakeServer, pages: Path
) -> None:
    (pages / "zsyh_amount/x.png").write_bytes(b"bad")
    (pages / "stray.png").write_bytes(b"stray")
    result = pagesight("gallery", "enrol", pages, "--gallery", "apps")
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "dxm_user_info 2 0 0 1" in lines
    assert "zsyh_amount 1 0 1 2" in lines
    assert result.stderr.splitlines() == [
        "left out: 1 in no label's folder",
        "put pictures into a label's folder, or give --label",
        f"{pages}/zsyh_amount/x.png: not a picture",
    ]
    assert {(change.gallery, change.author) for change in server.gallery.changes} == {
        ("apps", "mei")
    }
    assert server.gallery.sources[0] == "dxm_user_info/a.png"
    again = pagesight(
        "gallery", "enrol", pages / "dxm_user_info", "--label", "dxm_user_info", "--gallery", "apps"
    )
    assert again.exit_code == 0
    assert "dxm_user_info 0 2 0 2" in " ".join(again.stdout.split())


def test_a_label_with_more_pictures_than_a_call_may_hold_takes_several(
    pagesight: Run, server: FakeServer, tmp_path: Path
) -> None:
    server.gallery.max_enrol_items = 3
    folder = tmp_path / "pages" / "a"
    folder.mkdir(parents=True)
    for name in "abcdefg":
        (folder / f"{name}.png").write_bytes(name.encode())
    result = pagesight("gallery", "enrol", folder.parent, "--json")
    assert result.exit_code == 0, result.stderr
    found = rows(result)
    assert [(Path(row["file"]).stem, row["revision"]) for row in found] == [
        *zip("abc", [1] * 3, strict=True),
        *zip("def", [2] * 3, strict=True),
        ("g", 3),
    ]
    assert all(row["added"] for row in found)


def test_an_enrolment_that_was_broken_off_goes_on_and_sends_nothing_twice(
    pagesight: Run, server: FakeServer, pages: Path
) -> None:
    assert pagesight("gallery", "enrol", pages / "zsyh_amount", "--label", "zsyh_amount").stdout
    sent = len(server.gallery.sources)
    result = pagesight("gallery", "enrol", pages)
    assert result.exit_code == 0, result.stderr
    assert server.gallery.sources[sent:] == ["dxm_user_info/a.png", "dxm_user_info/b.png"]
    table = " ".join(result.stdout.split())
    assert "dxm_user_info 2 0 0 2" in table
    assert "zsyh_amount 0 1 0 2" in table
    again = rows(pagesight("gallery", "enrol", pages, "--json"))
    assert [(row["added"], row["revision"]) for row in again] == [(False, 2)] * 3
    assert {row["image_id"] for row in again} == {image_id(name) for name in (b"a", b"b", b"c")}


def test_a_gallery_that_is_full_is_not_tried_in_smaller_calls(
    pagesight: Run, server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "1.png").write_bytes(b"too many")
    (tmp_path / "2.png").write_bytes(b"another")
    result = pagesight("gallery", "enrol", tmp_path, "--label", "a")
    assert (result.exit_code, result.stderr) == (1, "pagesight: too many\n")
    assert server.gallery.images == {}


def test_an_enrolment_that_may_not_race_does_not(
    pagesight: Run, server: FakeServer, pages: Path
) -> None:
    assert pagesight("gallery", "enrol", pages).exit_code == 0
    result = pagesight("gallery", "enrol", pages, "--expected-revision", "1")
    assert result.exit_code == 1
    assert result.stderr == "pagesight: the gallery is at revision 2\n"
    for page in ("dxm_user_info", "zsyh_amount"):
        (pages / page / "new.png").write_bytes(f"new {page}".encode())
    assert pagesight("gallery", "enrol", pages, "--expected-revision", "2").exit_code == 0
    expected = [change.expected_revision for change in server.gallery.changes]
    assert expected == [0, 0, 2, 3]
    given = [change.HasField("expected_revision") for change in server.gallery.changes]
    assert given == [False, False, True, True]
    result = pagesight("gallery", "enrol", pages, "--expected-revision", "0")
    assert result.stderr == "pagesight: the gallery is at revision 4\n"
    new = pagesight("gallery", "enrol", pages, "--expected-revision", "0", "--gallery", "new")
    assert new.exit_code == 0, new.stderr
