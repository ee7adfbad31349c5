"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # the exporter's environment has no server
    from pagesight_server.gallery.location import PostgresUrl
    from tests.support.postgres import PostgresServer

# As our packages do; a test may load ONNX Runtime before it loads one of them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the long versions to `make soak`, which asks for them with `-m slow`."""
    if "slow" in (config.option.markexpr or "") or any("::" in arg for arg in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in bundles: those of the checkout, or exported for this run."""
    folder = ROOT / "bundles"
    if all((folder / kind / "manifest.json").is_file() for kind in ("encoder", "ocr")):
        return folder
    folder = tmp_path_factory.mktemp("bundles")
    tiny = ROOT / ".tools" / "tinyocr"
    draft = ["--draft", "tiny", "--draft-models", str(tiny)] if tiny.is_dir() else []
    for kind, option in (("encoder", ["--builtin"]), ("ocr", draft)):
        command = [sys.executable, "-m", "pagesight_export", kind, *option]
        subprocess.run(
            [*command, "--out", str(folder / kind)], check=True, capture_output=True, timeout=240
        )
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this run; REQUIRE_POSTGRES=1 makes its absence a failure."""
    from tests.support.postgres import server_or_reason

    server = server_or_reason()
    if isinstance(server, str):
        if os.environ.get("REQUIRE_POSTGRES") == "1":
            pytest.fail(f"REQUIRE_POSTGRES=1, and {server}")
        pytest.skip(server)
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> PostgresUrl:
    """An empty schema of the server."""
    return postgres.new_store()
