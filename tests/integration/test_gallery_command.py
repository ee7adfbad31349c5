"""`pagesight gallery`: listing, correcting, going back and deleting."""

from __future__ import annotations

import hashlib
from pathlib import Path

from typer.testing import CliRunner

from pagesight._cli import app
from tests.support.command import Run, rows
from tests.support.fake_server import FakeServer


def image_id(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_a_gallery_is_listed_corrected_and_gone_back_on(pagesight: Run, pages: Path) -> None:
    enrolled = rows(pagesight("gallery", "enrol", pages, "--json"))
    assert [(row["label"], row["added"], row["revision"]) for row in enrolled] == [
        ("dxm_user_info", True, 1),
        ("dxm_user_info", True, 1),
        ("zsyh_amount", True, 2),
    ]
    listed = pagesight("gallery", "images").stdout.splitlines()
    assert listed[0] == "dxm_user_info"
    assert listed[-1] == f"  {image_id(b'c')}  1080×2400  2025-11-22  r1"
    assert max(map(len, listed)) <= 100
    [row] = rows(pagesight("gallery", "images", "--label", "zsyh_amount", "--json"))
    assert (row["image_id"], row["author"]) == (image_id(b"c"), "mei")
    assert row["added_at"] == "2025-11-22T12:01:00+00:00"

    relabelled = pagesight("gallery", "relabel", "zsyh_amount", image_id(b"a"))
    assert relabelled.stdout == "relabelled 1; the gallery is at revision 3\n"
    removed = pagesight("gallery", "remove", image_id(b"b"), "--json")
    assert rows(removed) == [{"revision": 4, "removed": 1}]
    gone = pagesight("gallery", "remove", image_id(b"b"))
    assert (gone.exit_code, gone.stdout) == (1, "")
    assert gone.stderr == f"pagesight: there is no image {image_id(b'b')}\n"
    back = pagesight("gallery", "rollback", "0")
    assert back.stdout == "restored 0, removed 2; the gallery is at revision 5\n"

    shown = " ".join(pagesight("gallery", "history", "--limit", "2").stdout.split())
    assert "5 2025-11-22 12:05 mei rollback 0 rolled back to 0" in shown
    assert "4 2025-11-22 12:04 mei remove 2 removed 1" in shown
    assert "12:03" not in shown
    made = rows(pagesight("gallery", "history", "--limit", "0", "--json"))
    assert [row["revision"] for row in made] == [5, 4, 3, 2, 1]


def test_the_first_characters_of_an_id_are_enough_where_no_other_picture_has_them(
    pagesight: Run, server: FakeServer, pages: Path
) -> None:
    pagesight("gallery", "enrol", pages)
    short = image_id(b"a")[:12]
    assert pagesight("gallery", "relabel", "zsyh_amount", short.upper()).exit_code == 0
    assert server.gallery.images[image_id(b"a")] == "zsyh_amount"
    assert pagesight("gallery", "remove", short, image_id(b"b")).exit_code == 0
    assert list(server.gallery.images) == [image_id(b"c")]
    gone = pagesight("gallery", "remove", short)
    assert (gone.exit_code, gone.stderr) == (
        1,
        f"pagesight: the gallery has no picture whose id begins with {short}\n",
    )
    twin = image_id(b"c")[:12] + "0" * 52
    server.gallery["default"].images[twin] = "zsyh_amount"
    several = pagesight("gallery", "remove", image_id(b"c")[:12])
    assert several.exit_code == 1
    assert f"is short for several pictures: {twin}" in several.stderr
    assert len(server.gallery.images) == 2
    for wrong in (short[:11], "x" * 12, "0" * 65):
        assert pagesight("gallery", "remove", wrong).exit_code == 2


def test_galleries_are_listed_shown_and_deleted(
    pagesight: Run, server: FakeServer, pages: Path
) -> None:
    pagesight("gallery", "enrol", pages, "--gallery", "apps")
    pagesight("gallery", "enrol", pages)
    shown = " ".join(pagesight("gallery", "list").stdout.split())
    assert "apps 2 3 2 0.625 builtin-1 ppocr-6" in shown
    assert [row["name"] for row in rows(pagesight("gallery", "list", "--json"))] == [
        "apps",
        "default",
    ]
    one = pagesight("gallery", "show", "apps").stdout
    assert "below 0.625 with text, 0.500 without" in one
    assert "placed by its own pictures, left out in turn: 3 pictures, at revision 2" in one
    told = " ".join(one.split())
    assert "of these pictures 25.0% would be rejected, without text 50.0%" in told
    assert "that is many: enrol more pictures of the labels that are rejected most" in told
    [row] = rows(pagesight("gallery", "show", "--json"))
    assert (row["name"], row["calibration"]["source"]) == ("default", "gallery")
    assert row["calibration"]["rejected_with_text"] == 0.25

    asked = pagesight("gallery", "delete", "apps")
    assert asked.exit_code == 1
    assert "delete gallery apps with 3 pictures of 2 labels? [y/N]" in asked.stderr
    assert server.gallery["apps"].exists
    done = pagesight("gallery", "delete", "apps", "--yes")
    assert done.stdout == "deleted apps with 3 pictures, at revision 3\n"
    gone = pagesight("gallery", "show", "apps")
    assert (gone.exit_code, gone.stderr) == (1, 'pagesight: there is no gallery "apps"\n')
    again = pagesight("gallery", "enrol", pages, "--gallery", "apps", "--json")
    assert [row["revision"] for row in rows(again)] == [4, 4, 5]


def test_what_is_deleted_is_what_was_asked_about(server: FakeServer, pages: Path) -> None:
    settings = {"PAGESIGHT_ADDRESS": server.address, "PAGESIGHT_AUTHOR": "mei"}
    CliRunner().invoke(app, ["gallery", "enrol", str(pages)], env=settings)
    done = CliRunner().invoke(app, ["gallery", "delete", "default"], env=settings, input="y\n")
    assert done.exit_code == 0, done.stderr
    assert server.gallery.changes[-1].expected_revision == 2
    assert server.gallery.changes[-1].author == "mei"
