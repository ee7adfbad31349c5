"""What the command says beside its results: it quotes servers, which must not steer a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import typer

from pagesight._cli import session
from pagesight._cli.review import _AuditHandler
from pagesight._review_page.jobs import Job
from tests.support import WAIT_S

HOSTILE = "no\x1b]0;title\x1b\\\x1b[2J\x9b2Jgallery\u202e\nroot#"
MARKED = "no\ufffd]0;title\ufffd\\\ufffd[2J\ufffd2Jgallery\ufffd\ufffdroot#"


@pytest.mark.parametrize("terminal", ["", "1"], ids=["a file", "a terminal"])
@pytest.mark.parametrize(
    ("say", "before"),
    [
        (session.tell, ""),
        (session.warn, ""),
        (session.tell_left_out, "left out: "),
        (session.fail, "pagesight: "),
    ],
)
def test_what_a_server_says_does_not_reach_the_terminal_raw(
    say: Callable[[str], None],
    before: str,
    terminal: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    try:
        say(HOSTILE)
    except typer.Exit:
        assert say is session.fail
    (line,) = capsys.readouterr().err.splitlines()
    coloured = {"\x1b[31m", "\x1b[33m", "\x1b[0m"}
    for code in coloured if terminal else ():
        line = line.replace(code, "")
    assert line == f"{before}{MARKED}"


def test_the_terminal_says_why_work_behind_the_page_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(_note: object) -> None:
        raise LookupError("a bug\x1b[2J")

    logger, handler = logging.getLogger("pagesight.review"), _AuditHandler()
    logger.addHandler(handler)
    try:
        job = Job(work)
        job._thread.join(WAIT_S)
    finally:
        logger.removeHandler(handler)
    assert job.error == "it failed; the terminal of pagesight review says why"
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["work behind the page failed", "Traceback (most recent call last):"]
    assert lines[-1] == "LookupError: a bug\ufffd[2J"
