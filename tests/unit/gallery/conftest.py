"""Stores on both databases: what is said of one holds of the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_server.gallery.location import StoreLocation


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    """Where a store may be made: a file, then a schema of a server."""
    if request.param == "sqlite":
        return tmp_path / "gallery.db"
    url: StoreLocation = request.getfixturevalue("postgres_url")
    return url
