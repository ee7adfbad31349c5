"""The whole way: checkpoint folder -> bundles -> a server without torch -> answers.

The exporting half runs in this environment, the serving half in `.venv`, as they do for an
operator; what they share is the bundle folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pagesight_export import pictures

ROOT = Path(__file__).parents[2]
SERVER = ROOT / ".venv" / "bin" / "pagesight-server"
PAGES = (2, 10, 11, 12, 26, 34)
"""Parity pictures that are quick to draw, each a label of its own."""

pytestmark = pytest.mark.skipif(not SERVER.exists(), reason="no .venv: run `make setup`")


def export(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pagesight_export", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def serve(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(SERVER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def draw(folder: Path, *crops: int) -> Path:
    """Write each page as often as there are crops, less so many rows at the foot."""
    for number in PAGES:
        page = pictures.picture(number)
        (folder / f"page{number}").mkdir(parents=True)
        for crop in crops:
            image = Image.fromarray(page[: page.shape[0] - crop])
            image.save(folder / f"page{number}" / f"{crop}.png")
    return folder


def test_a_checkpoint_answers_through_the_server(checkpoint: Path, tmp_path: Path) -> None:
    bundles, store = tmp_path / "bundles", tmp_path / "gallery.db"
    export("encoder", "--model", checkpoint, "--out", bundles / "encoder")
    export("ocr", "--source", "rapidocr", "--out", bundles / "ocr")
    at = ("--store", store, "--bundles", bundles)

    indexed = serve("index", draw(tmp_path / "gallery", 0, 1), *at)
    checked = serve("doctor", *at)
    asked = serve(
        "evaluate", draw(tmp_path / "test", 2, 3), *at,
        "--method", "seed", "--no-ocr", "--out", tmp_path / "report",
    )  # fmt: skip

    assert indexed.returncode == 0, indexed.stderr
    assert checked.returncode == 0, checked.stderr
    assert "small-naflex@" in checked.stdout
    assert asked.returncode == 0, asked.stderr
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text("utf-8"))
    assert metrics["n"] == 12
    assert metrics["accuracy"] == 1.0

    # Another dtype is another encoder: its embeddings are not the gallery's.
    export("encoder", "--model", checkpoint, "--dtype", "fp16", "--out", bundles / "encoder")
    other = serve("evaluate", tmp_path / "test", *at, "--out", tmp_path / "refused")
    assert other.returncode == 1
    assert "small-naflex@" in other.stderr
    assert not (tmp_path / "refused" / "metrics.json").exists()
