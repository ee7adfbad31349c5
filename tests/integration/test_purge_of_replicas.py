"""A purge while real servers serve the store: they forget, say so, and take their note along."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import StoreLocation
from tests.integration.test_serve_command import START_S, enrol, screenshot, server


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    """Where a store may be made."""
    if request.param == "sqlite":
        return tmp_path / "gallery.db"
    url: StoreLocation = request.getfixturevalue("postgres_url")
    return url


@pytest.mark.heavy
async def test_a_purge_waits_for_a_server_that_forgets(
    location: StoreLocation, bundles: Path
) -> None:
    page = screenshot("Login", left=20, shade=0)
    with server(location, bundles) as (process, address):
        async with grpc.aio.insecure_channel(address) as channel:
            other = screenshot("Balance", left=20, shade=250)
            enrolled = await enrol(channel, ("login", page), ("balance", other))
        command = [sys.executable, "-m", "pagesight_server", "gallery", "purge", "--json"]
        command += ["--store", str(location), "--wait", str(START_S)]
        command += [enrolled.outcomes[0].image_id]
        purge = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, check=True)
        name = f"{socket.gethostname()}:pid {process.pid}"
        assert json.loads(purge.stdout)["replicas"] == {
            "forgotten": [name],
            "remembering": [],
            "silent": [],
        }
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0
    with closing(Gallery(location)) as store:
        assert store.replicas() == []
