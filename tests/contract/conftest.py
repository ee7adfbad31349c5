"""Each test here is run with the fake server and with the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.party import Party, faked, served


@pytest.fixture(params=[faked, served], ids=["fake", "server"])
async def party(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Party]:
    """Each of the two."""
    async with request.param(tmp_path) as made:
        yield made
