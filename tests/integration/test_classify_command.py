"""`pagesight classify`, as a person at a terminal."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pagesight import Classification
from pagesight._cli import session, wire
from tests.support import WAIT_S
from tests.support.command import Run, command_of, rows
from tests.support.fake_server import FakeServer


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


def test_json_alone_keeps_no_answer_of_a_folder_without_end(
    server: FakeServer, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def noting(value: Classification, **_more: object) -> None:
        assert value.label
        kept.append(sum(isinstance(one, Classification) for one in gc.get_objects()))

    monkeypatch.setattr(wire, "print_line", noting)
    for number in range(30):
        (shots / f"more{number}.png").write_bytes(b"login")
    result = command_of(server)("classify", shots, "--json", "--in-flight", "1")
    assert (result.exit_code, len(kept)) == (0, 33)
    # One is in hand, and one may be on its way.
    assert max(kept) - kept[0] <= 2


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


def test_what_was_answered_before_the_server_left_is_shown(pagesight: Run, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(b"login")
    (tmp_path / "2.png").write_bytes(b"hang up")
    result = pagesight("classify", tmp_path, "--in-flight", "1", "--retry-for", "0")
    assert result.exit_code == 1
    assert "login" in result.stdout
    assert result.stderr.splitlines() == ["pagesight: the server is shutting down"]


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


def test_file_names_that_are_no_text_do_no_harm(pagesight: Run, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m.png")
    Path(name).write_bytes(b"login")
    table = pagesight("classify", tmp_path)
    assert table.exit_code == 0
    assert "\x1b" not in table.stdout
    [row] = rows(pagesight("classify", tmp_path, "--json"))
    assert row["label"] == "login"
