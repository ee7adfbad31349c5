"""The README's way without make, as a newcomer types it: an environment, two exports, a server.

The commands are read from the README, so that neither can drift from the other. Only what cannot be
the same for every reader differs: the Python that makes the environment, the port, and who stops
the server.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT
from tests.samples import draw, draw_other

LABELS = ("zsyh_setting", "jb_main_page")
SOURCES = (
    "pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE",
    "client", "server", "export", "protos",
)  # fmt: skip
"""What a checkout holds for the installation; environments, bundles and tests stay behind."""
INSTALL_SECONDS = 900
"""For each command: pip may download 400 MB over a slow line."""


def shell_blocks(section: str) -> list[list[list[str]]]:
    """Return the shell blocks of a section of the README as commands, as words."""
    text = (ROOT / "README.md").read_text("utf-8")
    body = re.split(r"^## ", text.split(f"\n## {section}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"^```sh\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
    return [
        [shlex.split(line, comments=True) for line in block.splitlines() if line.strip()]
        for block in blocks
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, with pictures as the README asks for."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    for label in LABELS:
        (folder / "mine" / label).mkdir(parents=True)
        for seed in range(3):
            draw(label, seed=seed, width=720).save(folder / "mine" / label / f"{seed}.png")
    (folder / "new").mkdir()
    draw(LABELS[0], seed=9, width=720).save(folder / "new" / "known.png")
    draw_other("other_unrelated", seed=1, width=720).save(folder / "new" / "unknown.png")
    return folder


@pytest.mark.heavy
@pytest.mark.timeout(2 * INSTALL_SECONDS)
def test_a_newcomer_without_make_installs_exports_indexes_serves_and_classifies(
    checkout: Path,
) -> None:
    (*setting_up, serve), (classify,) = shell_blocks("Without make")
    # A newcomer's shell knows nothing of this checkout; pip's settings are the machine's, except
    # that of thousands of files only those that are used are compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PIP_NO_COMPILE"] = "1"

    def run(command: list[str]) -> str:
        ran = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_SECONDS,
        )
        assert ran.returncode == 0, f"{shlex.join(command)}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout

    make_environment, *others = setting_up
    assert make_environment[1:] == ["-m", "venv", "venv"]
    run([sys.executable, *make_environment[1:]])
    for command in others:
        run(command)

    with subprocess.Popen(
        [*serve, "--port", "0", "--json"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            listening = json.loads(server.stdout.readline())
            paths = sorted(str(path) for path in checkout.glob(classify.pop()))
            address = f"{listening['host']}:{listening['port']}"
            answers = run([*classify, *paths, "--json", "--address", address])
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()

    labels = {Path(row["file"]).name: row["label"] for row in map(json.loads, answers.splitlines())}
    assert labels == {"known.png": LABELS[0], "unknown.png": "other"}
