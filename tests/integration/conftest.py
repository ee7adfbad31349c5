"""What the tests of the `pagesight` command have in common."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import Run, command_of
from tests.support.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server that answers without models, over a real socket."""
    with FakeServer() as running:
        yield running


@pytest.fixture
def pagesight(server: FakeServer) -> Run:
    """Runs `pagesight` against that server."""
    return command_of(server)


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """Two labels to enrol, one folder each."""
    folder = tmp_path / "pages"
    for label, names in {"dxm_user_info": "ab", "zsyh_amount": "c"}.items():
        (folder / label).mkdir(parents=True)
        for name in names:
            (folder / label / f"{name}.png").write_bytes(name.encode())
    return folder


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """A folder of pictures to classify, with one file that is none."""
    folder = tmp_path / "shots"
    (folder / "deep").mkdir(parents=True)
    (folder / "1.png").write_bytes(b"login")
    (folder / "2.jpg").write_bytes(b"other")
    (folder / "deep/3.webp").write_bytes(b"unsure")
    (folder / "notes.txt").write_bytes(b"no picture")
    return folder
