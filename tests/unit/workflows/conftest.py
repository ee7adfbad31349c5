"""Stores that the tests of workflows begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registries import Store, with_large


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store that tells when it is asked, and fails as the test says."""
    opened = Store(tmp_path / "gallery.db")
    yield opened
    opened.close()


@pytest.fixture
def large(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The same with a gallery that takes long to calibrate."""
    return with_large(store, monkeypatch)
