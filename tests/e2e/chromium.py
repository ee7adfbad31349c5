"""A real browser for the tests of pages: Debian's Chromium, or the one of `make chromium`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PACKAGED = Path(__file__).parents[2] / ".tools" / "chromium" / "chromium"


def find() -> str:
    """Returns where Chromium is; skips the test where there is none, or fails it in CI."""
    for candidate in (shutil.which("chromium"), str(PACKAGED)):
        if candidate and Path(candidate).exists():
            return candidate
    why = "needs Chromium: apt install chromium, or make chromium"
    if os.environ.get("REQUIRE_CHROMIUM") == "1":
        pytest.fail(why)
    pytest.skip(why)
