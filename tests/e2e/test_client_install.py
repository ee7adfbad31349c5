"""The bare wheel is the client: small, light to import, and at home in old and new environments."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Served

OLDEST = ["grpcio==1.71.2", "protobuf==5.29.0", "googleapis-common-protos==1.66.0"]
"""The lower bounds of pyproject.toml's dependencies."""

HEAVY = ["numpy", "cv2", "onnxruntime", "faiss", "torch", "PIL", "rapidocr", "typer", "rich"]

PROBE = """
import importlib.metadata, json, sys
from pagesight import Client
with Client(sys.argv[1]) as client:
    answer = client.classify(sys.argv[2])
print(json.dumps({
    "label": answer.label,
    "imported": [name for name in json.loads(sys.argv[3]) if name in sys.modules],
    "installed": sorted(
        d.name.lower().replace("_", "-") for d in importlib.metadata.distributions()
    ),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--quiet",
            ROOT,
        ],
        check=True,
        cwd=folder,
    )
    return next(folder.glob("pagesight-*.whl"))


@pytest.mark.parametrize("pins", [pytest.param(OLDEST, id="oldest"), pytest.param([], id="newest")])
def test_the_bare_wheel_classifies_and_brings_nothing_heavy(
    wheel: Path, pins: list[str], served: Served, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, *pins],
        check=True,
    )
    screenshot = served.screenshots["zsyh_setting"]
    probe = subprocess.run(
        [python, "-W", "error", "-c", PROBE, served.address, screenshot, json.dumps(HEAVY)],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )
    answer = json.loads(probe.stdout)
    assert answer["label"] == "zsyh_setting"
    assert answer["imported"] == []
    expected = {"pagesight", "grpcio", "protobuf", "googleapis-common-protos", "typing-extensions"}
    assert set(answer["installed"]) - {"pip", "setuptools"} <= expected


def test_the_command_without_its_extra_says_how_to_get_it(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel],
        check=True,
    )
    ran = subprocess.run(
        [tmp_path / "env" / "bin" / "pagesight", "classify", "x.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert "pip install 'pagesight[cli]'" in ran.stderr
