"""What holds of every `pagesight` command: its help, its mistakes, its settings, what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pagesight._cli import session
from pagesight_server.config import NAMES
from tests.support import WAIT_S
from tests.support.command import Run
from tests.support.fake_server import FakeServer


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
