"""The `pagesight` command against a server on a real socket, as a person at a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner, Result

from pagesight._cli import app, session
from pagesight_server.config import NAMES
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def pagesight(server: FakeServer) -> Run:
    def run(*arguments: object, **environment: str) -> Result:
        settings = {
            "PAGESIGHT_ADDRESS": server.address,
            "PAGESIGHT_AUTHOR": "mei",
            "COLUMNS": "100",
            **environment,
        }
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=settings)

    return run


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    (folder / "1.png").write_bytes(b"login")
    (folder / "2.jpg").write_bytes(b"other")
    (folder / "deep/3.webp").write_bytes(b"unsure")
    (folder / "notes.txt").write_bytes(b"no picture")
    return folder


def rows(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- classify ---


def test_a_folder_becomes_a_table_of_answers(pagesight: Run, shots: Path) -> None:
    result = pagesight("classify", shots)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert f"in {shots}" in lines
    assert "1.png login 0.875 ≥ 0.625 zsyh_user_info 0.250 40" in lines
    assert "2.jpg other 0.500 < 0.625 closest dxm_user_info 40" in lines
    assert "deep/3.webp unsure (review) 0.875 ≥ 0.625 zsyh_user_info 0.250 40" in lines
    assert lines[-1] == "3 pictures: 2 known, 1 other, 1 to review"
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert result.stderr == "left out: 1 not named like a picture\n"


def test_explain_shows_reasons_candidates_and_common_lines(pagesight: Run, shots: Path) -> None:
    result = pagesight("classify", shots / "1.png", "--explain")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "why brand 度小满: visible" in lines
    assert "doubt 0.12" in lines
    assert "0.875 0.750 0.750 0.500 login" in lines
    assert "0.750 looks + 0.375 stable text - 0.250 missing brand" in lines
    assert "0.250 0.125 0.750 0.500 zsyh_user_info" in lines
    assert "a1" * 32 in lines  # in full, to be copied
    assert "lines in common with login" in lines
    assert "likeness on the screenshot on the gallery's picture" in lines
    assert "1.00 个人信息 the same" in lines
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_json_is_one_object_per_picture(pagesight: Run, shots: Path) -> None:
    (shots / "4.png").write_bytes(b"busy")
    result = pagesight("classify", shots, "--json", "--top-k", "1", "--retry-for", "0")
    assert result.exit_code == 1
    found = {Path(row["file"]).name: row for row in rows(result)}
    assert found["1.png"]["label"] == "login"
    assert found["1.png"]["threshold"] == 0.625
    assert [candidate["label"] for candidate in found["1.png"]["candidates"]] == ["login"]
    assert found["2.jpg"]["label"] == "other"
    assert found["4.png"] == {
        "file": str(shots / "4.png"),
        "error": {
            "code": "RESOURCE_EXHAUSTED",
            "reason": "OVERLOADED",
            "message": "the queue is full",
            "retry_after_s": 0.25,
        },
    }
    assert len(found) == 4


def test_pictures_that_fail_are_one_line_each_and_exit_code_1(pagesight: Run, shots: Path) -> None:
    (shots / "4.png").write_bytes(b"bad")
    result = pagesight("classify", shots, shots / "gone.png")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == ("5 pictures: 2 known, 1 other, 1 to review, 2 failed")
    assert result.stderr.splitlines() == [
        "left out: 1 not named like a picture",
        f"{shots}/4.png: the picture is neither JPEG, PNG nor WebP",
        f"cannot read {shots}/gone.png: No such file or directory",
    ]


def test_options_of_the_command_reach_the_server(
    pagesight: Run, server: FakeServer, shots: Path
) -> None:
    pagesight("classify", shots / "1.png", "--gallery", "apps", "--top-k", "7", "--no-ocr")
    [query] = server.classifier.queries
    assert query.gallery == "apps"
    assert query.options.top_k == 7
    assert query.options.ocr == 2  # OCR_MODE_OFF


def test_an_unreachable_server_is_one_line_that_says_how_to_start_one(
    pagesight: Run, shots: Path
) -> None:
    picture = shots / "1.png"
    for arguments in (["classify", picture], ["classify", picture, "--json"], ["gallery", "list"]):
        result = pagesight(*arguments, "--address", "127.0.0.1:1")
        assert result.exit_code == 1
        assert result.stdout == ""
        [line] = result.stderr.splitlines()
        assert "no server answers at 127.0.0.1:1" in line
        assert "pagesight-server serve" in line


def test_what_was_answered_before_the_server_left_is_shown(pagesight: Run, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"login")
    (tmp_path / "2.png").write_bytes(b"hang up")
    result = pagesight("classify", tmp_path, "--in-flight", "1", "--retry-for", "0")
    assert result.exit_code == 1
    assert "login" in result.stdout
    assert result.stderr.splitlines() == ["pagesight: the server is shutting down"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify"],
        ["classify", "x.png", "--in-flight", "0"],
        ["classify", "x.png", "--top-k", "-1"],
        ["classify", "x.png", "--address", ""],
        ["gallery", "remove", "abc"],
        ["gallery", "enrol", "x.png"],
        ["gallery", "rollback", "-1"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(pagesight: Run, arguments: list[str]) -> None:
    result = pagesight(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_every_command_teaches_with_an_example(pagesight: Run) -> None:
    gallery = (
        "list show delete enrol remove relabel images history rollback get-labels set-labels "
        "doctor suggest-brands"
    )
    for command in (["classify"], ["load"], *(["gallery", name] for name in gallery.split())):
        shown = pagesight(*command, "--help").stdout
        example = "[dyfxj_amount]" if command[-1] == "set-labels" else "    pagesight "
        assert example in shown, command
        assert "PAGESIGHT_ADDRESS" in shown


def test_progress_is_shown_only_after_a_while_and_only_to_a_person(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "PROGRESS_AFTER_S", 0.0)
    for terminal in ("", "1"):
        monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
        with session.progress(2, "working") as bar:
            bar.step()
            bar.step()
        shown = capfd.readouterr()
        assert shown.out == ""
        assert ("working" in shown.err) == bool(terminal)


def test_ctrl_c_ends_the_command_at_once(server: FakeServer, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"mute")
    # What a shell starts in the background inherits that SIGINT is ignored; a terminal's does not.
    run = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('pagesight', run_name='__main__')"
    )
    command = [sys.executable, "-c", run, "classify", str(tmp_path), "--address", server.address]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            server.classifier.wait_until_owed(1)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    assert process.returncode not in (0, -signal.SIGKILL)
    assert "Traceback" not in said
    assert server.classifier.stream_ended.wait(WAIT_S)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("PAGESIGHT_ADRESS", "PAGESIGHT_ADRESS is not read: did you mean PAGESIGHT_ADDRESS?"),
        ("PAGESIGHT_ADDR", "PAGESIGHT_ADDR is not read: did you mean PAGESIGHT_ADDRESS?"),
        ("PAGESIGHT_TLSCA", "PAGESIGHT_TLSCA is not read: did you mean PAGESIGHT_TLS_CA?"),
        ("PAGESIGHT_STORE", None),
        ("PAGESIGHT_SERVER__PORT", None),
    ],
)
def test_a_misspelt_variable_is_named(pagesight: Run, name: str, told: str | None) -> None:
    result = pagesight("gallery", "list", **{name: "x"})
    assert result.stderr.splitlines() == ([told] if told else [])


def test_no_setting_of_the_server_is_taken_for_a_misspelt_variable() -> None:
    variables = [f"PAGESIGHT_{name.upper().replace('.', '__')}" for name in NAMES]
    assert session.misspelt_variables(variables) == []


# --- gallery ---


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    folder = tmp_path / "pages"
    for label, names in {"dxm_user_info": "ab", "zsyh_amount": "c"}.items():
        (folder / label).mkdir(parents=True)
        for name in names:
            (folder / label / f"{name}.png").write_bytes(name.encode())
    return folder


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


def test_an_answer_may_be_asked_for_at_a_revision(
    pagesight: Run, server: FakeServer, shots: Path
) -> None:
    assert pagesight("classify", shots / "1.png", "--min-revision", "0").exit_code == 0
    assert server.classifier.queries[-1].HasField("min_revision")
    behind = pagesight(
        "classify", shots / "1.png", "--min-revision", "3", "--json", "--retry-for", "0"
    )
    assert behind.exit_code == 1
    assert rows(behind)[0]["error"]["reason"] == "REVISION_BEHIND"


def test_labels_are_edited_as_a_file(pagesight: Run, pages: Path, tmp_path: Path) -> None:
    pagesight("gallery", "enrol", pages)
    file = tmp_path / "labels.toml"
    file.write_text("[dxm_user_info]\nbrands = ['度小满', '有钱花']\noutputs = ['dxm', 'info']\n")
    done = pagesight("gallery", "set-labels", file)
    assert done.stdout == "set 1 label; the gallery is at revision 3\n"
    shown = " ".join(pagesight("gallery", "get-labels").stdout.split())
    assert "dxm_user_info 2 度小满, 有钱花 dxm, info" in shown
    assert "zsyh_amount 1 zsyh_amount" in shown
    file.write_text("[dxm_user_info]\noutputs = ['info']\n[zsyh_amount]\nbrands = ['招商']\n")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    known = rows(pagesight("gallery", "get-labels", "--json"))
    assert [(row["brands"], row["outputs"]) for row in known] == [
        (["度小满", "有钱花"], ["info"]),
        (["招商"], []),
    ]
    file.write_text("[dxm_user_info]\noutputs = ['dxm', 'info']\n[zsyh_amount]\nbrands = []\n")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    file.write_text(pagesight("gallery", "get-labels", "--toml").stdout, "utf-8")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    assert rows(pagesight("gallery", "get-labels", "--json"))[0] == {
        "label": "dxm_user_info",
        "brands": ["度小满", "有钱花"],
        "outputs": ["dxm", "info"],
        "images": 2,
    }


def test_a_labels_file_with_a_mistake_changes_nothing(
    pagesight: Run, server: FakeServer, pages: Path, tmp_path: Path
) -> None:
    file = tmp_path / "labels.toml"
    file.write_text("[a]\nbrand = ['x']\n")
    result = pagesight("gallery", "set-labels", file)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        f"pagesight: {file}, line 2: unknown key 'brand': use brands or outputs"
    ]
    result = pagesight("gallery", "enrol", pages)
    file.write_text("[unheard_of]\nbrands = ['x']\n")
    result = pagesight("gallery", "set-labels", file)
    assert result.stderr == 'pagesight: the gallery has no label "unheard_of"\n'
    assert len(server.gallery.changes) == 2


def test_what_may_be_wrong_is_shown_as_text_as_json_and_side_by_side(
    pagesight: Run, pages: Path, tmp_path: Path
) -> None:
    pagesight("gallery", "enrol", pages)
    page = tmp_path / "doctor.html"
    shown = pagesight("gallery", "doctor", "--html", page)
    assert shown.exit_code == 0, shown.stderr
    first = min(map(image_id, (b"a", b"b", b"c")))
    assert (
        "revision 2, 3 of 3 pictures examined: 1 label in doubt, 0 odd pictures, 1 group"
        in shown.stdout
    )
    assert first[:12] in shown.stdout
    assert "under several labels" in shown.stdout
    assert "up to 95% of its screenshots" in shown.stdout
    told = " ".join(shown.stdout.split())
    assert "1 of 2 pictures, each left out in turn, would be rejected (50%); that is many" in told
    assert f"zsyh_amount 1 of 2 {first[:12]} 0.500 0.375" in told
    assert "11 of 20 lines were hardly read: the OCR bundle may not know the script" in told
    assert "zsyh_amount has no text of its own: all that it always shows also stands on" in told
    assert f"zsyh_amount {first[:12]} 0.250" in told
    [found] = rows(pagesight("gallery", "doctor", "--json"))
    assert (found["left_out_images"], found["rejected_images"]) == (2, 1)
    assert found["hardly_read"][0]["hardly_read_lines"] == 11
    assert found["labels"][0]["text_shared_with"] == ["<other page>"]
    assert found["suspects"][0]["suggested_label"] == "<other page>"
    assert [image["label"] for image in found["duplicates"][0]].count("dxm_user_info") == 2
    assert page.stat().st_mode & 0o077 == 0  # it shows screenshots
    html = page.read_text("utf-8")
    # Two of the suspect, three of the group, one hardly read, and of each of two labels one that is
    # rejected and one of whose look more are wanted.
    assert html.count("data:image/jpeg;base64,") == 10
    assert "1 of 2 rejected, mean score 0.500, least 0.375" in html
    assert "least alike: cosine 0.250 with any other" in html
    assert "&lt;other page&gt;" in html
    assert "<other page>" not in html
    assert f"pagesight gallery relabel &#x27;&lt;other page&gt;&#x27; {first}" in html


def test_suggested_brands_are_comments_until_a_person_confirms_them(
    pagesight: Run, server: FakeServer, pages: Path, tmp_path: Path
) -> None:
    pagesight("gallery", "enrol", pages)
    known = tmp_path / "known.toml"
    known.write_text("[zsyh_amount]\nbrands = ['闪电贷']\noutputs = ['zs']\n", "utf-8")
    pagesight("gallery", "set-labels", known)
    file = tmp_path / "labels.toml"
    done = pagesight("gallery", "suggest-brands", "--out", file)
    assert done.exit_code == 0
    assert "names for 2 of 2 labels" in done.stdout
    before = dict(server.gallery.labels)
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    # As it comes, the file sets what was set.
    after = server.gallery.labels
    assert list(after["zsyh_amount"].brands) == list(before["zsyh_amount"].brands) == ["闪电贷"]
    assert list(after["zsyh_amount"].outputs) == ["zs"]
    assert not after["dxm_user_info"].brands
    file.write_text(file.read_text("utf-8").replace('# "度小满"', '"度小满"'), "utf-8")
    assert pagesight("gallery", "set-labels", file).exit_code == 0
    assert list(server.gallery.labels["dxm_user_info"].brands) == ["度小满"]
    again = pagesight("gallery", "suggest-brands", "--out", file)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    printed = rows(pagesight("gallery", "suggest-brands", "--json"))
    assert printed[1]["suggestions"] == [{"text": "度小满", "reason": "a title", "images": 1}]


@pytest.mark.parametrize("encoding", ["gbk", "ascii", "cp1252"])
def test_what_the_terminal_cannot_say_is_escaped_and_json_is_utf8(
    server: FakeServer, tmp_path: Path, encoding: str
) -> None:
    names = ["1.png", "¥ 5 €.png", "登录.png", "\U0001f600.png"]
    for name in names:
        (tmp_path / name).write_bytes(b"login")
    command = [sys.executable, "-m", "pagesight", "classify", ".", "--address", server.address]

    def printed(*options: str) -> bytes:
        done = subprocess.run(
            [*command, *options],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=WAIT_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout

    for options in ([], ["--explain"]):
        table = printed(*options).decode(encoding)
        assert table.rstrip().endswith("4 pictures: 4 known, 0 other")
        assert "\\U0001f600.png" in table
    found = [json.loads(line) for line in printed("--json").decode("utf-8").splitlines()]
    assert {row["file"] for row in found} == set(names)


def test_file_names_that_are_no_text_do_no_harm(pagesight: Run, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m.png")
    Path(name).write_bytes(b"login")
    table = pagesight("classify", tmp_path)
    assert table.exit_code == 0
    assert "\x1b" not in table.stdout
    [row] = rows(pagesight("classify", tmp_path, "--json"))
    assert row["label"] == "login"
