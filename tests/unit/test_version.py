"""Each of the three commands tells its version, from the metadata of the installed distribution."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "program"),
    [
        ("pagesight", "pagesight"),
        ("pagesight_server", "pagesight-server"),
        ("pagesight_export", "pagesight-export"),
    ],
)
@pytest.mark.parametrize("more", [pytest.param([], id="alone"), pytest.param(["x"], id="eager")])
def test_version_is_that_of_the_distribution(module: str, program: str, more: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", module, "--version", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == f"{program} {importlib.metadata.version('pagesight')}\n"
    assert ran.returncode == 0


def test_without_the_extra_the_client_says_what_to_install_instead_of_a_version() -> None:
    program = "import sys; sys.modules['typer'] = None; from pagesight.__main__ import main; "
    ran = subprocess.run(
        [sys.executable, "-c", program + "sys.exit(main())", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr == "the pagesight command needs its extra: pip install 'pagesight[cli]'\n"


def test_the_changelog_and_the_readme_name_the_version_of_pyproject() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    dated = re.findall(
        r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert dated[0] == version
    assert f"dist/pagesight-{version}-py3-none-any.whl" in (ROOT / "README.md").read_text("utf-8")
