"""`pagesight-server config show`, and what every command says of settings."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pagesight_server.__main__ import main
from pagesight_server.config import NAMES, read_config

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    for name in os.environ:
        if name.startswith("PAGESIGHT_"):
            monkeypatch.delenv(name)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pagesight-server", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_every_setting_is_shown_with_what_set_it_in_a_form_that_is_read_back(
    command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "pagesight.toml"
    file.write_text('[server]\nport = 1\n[gallery]\nkeep_images = "none"\n', "utf-8-sig")
    monkeypatch.setenv("PAGESIGHT_SERVER__PORT", "2")
    code, out, err = command("config", "show", "--config", file, "--store", "店.db")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "server.port = 2  # PAGESIGHT_SERVER__PORT" in lines
    assert 'store = "店.db"  # command line' in lines
    assert f'gallery.keep_images = "none"  # {file}' in lines
    assert "security.allow_plaintext = false  # default" in lines
    assert "# security.cert is not set" in lines
    assert any(line.startswith("server.max_active = 0  # default, here ") for line in lines)
    assert len(lines) == len(NAMES)
    again = tmp_path / "again.toml"
    again.write_text(out, "utf-8")
    assert tomllib.loads(out)["server"]["port"] == 2
    overrides = {"server": {"port": 2}, "store": Path("店.db")}
    assert read_config(again, {}).model_dump() == read_config(file, overrides).model_dump()


def test_settings_for_machines_are_json(command: Run) -> None:
    code, out, _ = command("config", "show", "--json")
    assert code == 0
    shown = json.loads(out)
    assert list(shown) == list(NAMES)
    assert shown["server.port"] == {"value": 50051, "source": "default"}
    assert shown["compute.max_batch"] == {"value": 0, "source": "default", "here": 1}


def test_a_misspelt_variable_is_named_by_every_command(
    command: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PAGESIGHT_SERVER_PORT", "1")
    warning = "warning: PAGESIGHT_SERVER_PORT is no setting: did you mean PAGESIGHT_SERVER__PORT?\n"
    assert command("config", "show")[2] == warning
    code, _, err = command("gallery", "check", "--store", tmp_path / "none.db")
    assert (code, err.startswith(warning), len(err.splitlines())) == (1, True, 2)
