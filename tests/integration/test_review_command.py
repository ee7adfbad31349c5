"""`pagesight review` and `classify --html` as commands: what they print, refuse and leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import WAIT_S
from tests.support.reviewing import (
    ACCOUNT,
    CARD_NUMBER,
    LOGIN,
    StubServer,
    picture,
    stub_server,
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    with stub_server(tmp_path / "server") as made:
        made.enrol(LOGIN, ACCOUNT)
        yield made


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = tmp_path / "screenshots"
    folder.mkdir()
    (folder / "one.png").write_bytes(picture(LOGIN, 20))
    (folder / "two.png").write_bytes(picture(ACCOUNT, 20))
    return folder


@contextmanager
def started(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Runs the command, which hears SIGHUP though whoever runs the tests may not (nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        command = subprocess.Popen(
            [sys.executable, "-m", "pagesight", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PAGESIGHT_AUTHOR": "ann"},
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    with command:
        try:
            yield command
        except BaseException:
            command.kill()
            raise


def ran(*arguments: object) -> tuple[int, str, str]:
    with started(*arguments) as command:
        out, err = command.communicate(timeout=WAIT_S)
    return command.returncode, out, err


@pytest.mark.parametrize(
    "how",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
    ids=["Ctrl-C", "SIGTERM", "the terminal is closed"],
)
def test_it_prints_an_address_and_says_at_its_end_what_was_decided(
    server: StubServer, screenshots: Path, how: signal.Signals
) -> None:
    with started("review", screenshots, "--address", server.address) as command:
        assert command.stdout is not None
        address = command.stdout.readline().strip()
        command.send_signal(how)
        _, err = command.communicate(timeout=WAIT_S)
    assert address.startswith("http://127.0.0.1:")
    assert "/?token=" in address
    assert err.splitlines()[-1] == "0 decisions, 0 corrected"
    assert command.returncode == 0


def test_a_reviewer_whom_no_server_would_note_is_refused_at_once(
    server: StubServer, screenshots: Path
) -> None:
    for name in ("x" * 257, "an\tn"):
        code, _, err = ran("review", screenshots, "--address", server.address, "--reviewer", name)
        assert code != 0
        assert err.splitlines()[-1].startswith("pagesight: --reviewer has at most 256 characters")


def test_a_folder_that_is_not_there_is_told_and_no_page_is_served(
    server: StubServer, tmp_path: Path
) -> None:
    code, out, err = ran("review", tmp_path / "nowhere", "--address", server.address)
    assert (code, out) == (2, "")
    assert "does not exist" in err


def test_a_gallery_that_is_not_there_is_told_and_no_page_says_that_all_is_decided(
    server: StubServer, screenshots: Path
) -> None:
    where = ("--address", server.address, "--gallery", "mistyped")
    code, out, err = ran("review", screenshots, *where)
    assert (code, out) == (1, "")
    assert "no gallery 'mistyped'" in err.splitlines()[-1]


def test_without_a_folder_a_server_that_keeps_nothing_is_told_of(server: StubServer) -> None:
    code, out, err = ran("review", "--address", server.address)
    assert (code, out) == (1, "")
    assert err.strip().endswith("set review.keep, or name a folder of pictures")


def test_whoever_lacks_the_role_is_told_which(tmp_path: Path, screenshots: Path) -> None:
    with stub_server(tmp_path / "server", roles={"caller": ["classify"]}) as server:
        os.environ["PAGESIGHT_TOKEN"] = "caller"
        try:
            code, _, err = ran("review", screenshots, "--address", server.address)
        finally:
            del os.environ["PAGESIGHT_TOKEN"]
    assert code == 1
    assert err.strip().endswith("recording what you decide needs the role review")
    assert len(err.splitlines()) == 1


def test_without_the_extra_one_line_says_what_to_install(screenshots: Path) -> None:
    code = (
        "import sys; sys.modules['starlette'] = None; sys.argv = ['pagesight', 'review', "
        f"{str(screenshots)!r}]; import pagesight.__main__ as m; m.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S
    )
    assert ended.returncode == 2
    assert ended.stderr == "pagesight: this needs its extra: pip install 'pagesight[review]'\n"


def test_classify_writes_a_folder_to_look_at_masked_and_its_owner_s_alone(
    server: StubServer, screenshots: Path, tmp_path: Path
) -> None:
    out = tmp_path / "seen"
    code, table, err = ran("classify", screenshots, "--address", server.address, "--html", out)
    assert (code, "2 known" in table) == (0, True)
    assert err.strip() == f"the same with pictures: {out / 'index.html'}"
    text = (out / "index.html").read_text(encoding="utf-8")
    assert "Card •••• ••••" in text
    assert CARD_NUMBER not in text
    assert "http" not in text.replace("http-equiv", "")
    assert len(list((out / "pictures").iterdir())) >= 4
    assert (out / "index.html").stat().st_mode & 0o077 == 0
    assert (out / "style.css").is_file()


def test_digits_boxes_come_with_an_explained_answer_alone(server: StubServer) -> None:
    with server.client() as client:
        explained = client.classify(picture(LOGIN, 20), explain=True, top_k=1)
        plain = client.classify(picture(LOGIN, 20), top_k=1)
    # The fourth line of the fake reading, 10 pixels high; the gallery's pictures have none.
    (box,) = explained.digit_boxes
    assert (box.left, box.top, box.right, box.bottom) == (0, 30, 100, 40)
    assert explained.candidates[0].digit_boxes == ()
    assert plain.digit_boxes == ()
