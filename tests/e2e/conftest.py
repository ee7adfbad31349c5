"""One real server for the end-to-end tests: real bundles, drawn screenshots, real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.samples import draw

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
LABELS = ("zsyh_setting", "jb_main_page")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server and what it can be asked."""

    address: str
    store: Path
    screenshots: dict[str, Path]
    """By label: a screenshot that the gallery does not hold."""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serves a gallery of two pages, three pictures each, from a process of its own."""
    folder = tmp_path_factory.mktemp("e2e")
    screenshots = {}
    for label in LABELS:
        (folder / "gallery" / label).mkdir(parents=True)
        for seed in range(3):
            draw(label, seed=seed, width=720).save(folder / "gallery" / label / f"{seed}.png")
        screenshots[label] = folder / f"{label}.jpg"
        draw(label, seed=9, width=720).save(screenshots[label], quality=90)
    common = ["--store", str(folder / "gallery.db"), "--bundles", str(ROOT / "bundles")]
    subprocess.run(
        [BIN / "pagesight-server", "index", folder / "gallery", *common],
        check=True,
        capture_output=True,
        timeout=240,
    )
    with subprocess.Popen(
        [BIN / "pagesight-server", "serve", *common, "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            listening = json.loads(server.stdout.readline())
            yield Served(
                address=f"{listening['host']}:{listening['port']}",
                store=folder / "gallery.db",
                screenshots=screenshots,
            )
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0
        finally:
            server.kill()
