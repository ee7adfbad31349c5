"""The examples do what they say, against a server on a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.pictures import GREEN, RED, solid
from tests.support.replicas import until
from tests.support.serving import serving

ROOT = Path(__file__).parents[2]
NODE = ROOT / ".tools" / "node"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    files = {"login.png": b"login", "a/other.jpg": b"other", "a/broken.png": b"bad"}
    for name, data in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    return [tmp_path / name for name in files]


def test_the_service_is_short_and_answers_over_http(server: FakeServer) -> None:
    source = (ROOT / "examples/http_service.py").read_text("utf-8")
    body = source[source.index("class Pages") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15
    environment = os.environ | {"PAGESIGHT_ADDRESS": server.address, "PORT": "0"}
    with subprocess.Popen(
        [sys.executable, "examples/http_service.py"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as service:
        try:
            assert service.stdout is not None
            address = service.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:")
            with urllib.request.urlopen(address, b"login", timeout=WAIT_S) as reply:
                assert reply.read() == b"login\n"
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(address, b"bad", timeout=WAIT_S)
            with refused.value as reply:
                assert (reply.code, reply.read()) == (
                    422,
                    b"the picture is neither JPEG, PNG nor WebP\n",
                )
        finally:
            service.terminate()


def test_the_pipeline_sorts_a_folder_and_tells_what_is_broken(
    server: FakeServer, pictures: list[Path]
) -> None:
    done = subprocess.run(
        [sys.executable, "examples/async_folder.py", str(pictures[0].parent)],
        cwd=ROOT,
        env=os.environ | {"PAGESIGHT_ADDRESS": server.address},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.stdout.splitlines() == ["     1 login", "     1 other"]
    assert done.stderr == f"{pictures[2]}: the picture is neither JPEG, PNG nor WebP\n"


@pytest.fixture
def node() -> str:
    """Node, which `make node` put into .tools/node with @grpc/grpc-js."""
    if not (NODE / ".done").exists():
        missing = "Node and @grpc/grpc-js are not in .tools/node: make node"
        if os.environ.get("REQUIRE_NODE") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return str(NODE / "bin/node")


def test_node_waits_for_a_server_that_is_away_and_loses_no_answer(
    pictures: list[Path], node: str
) -> None:
    with FakeServer() as gone:
        pass
    pictures[1].write_bytes(b"break")
    many = [*pictures, *[pictures[0]] * 40]
    with subprocess.Popen(
        [node, "examples/node/classify.mjs", "protos", gone.address, *map(str, many)],
        cwd=ROOT,
        env=os.environ | {"NODE_MODULES": str(NODE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as asking:
        try:
            assert asking.stderr is not None
            assert "trying again for 60 s" in asking.stderr.readline()
            server = FakeServer(gone.port)
            server.classifier.breaks = 2
            with server:
                stdout, _ = asking.communicate(timeout=WAIT_S)
        finally:
            asking.kill()
    assert asking.returncode == 0
    said = Counter(Path(json.loads(line)["file"]).name for line in stdout.splitlines())
    assert said == {"login.png": 41, "other.jpg": 1, "broken.png": 1}


def holds(server: FakeServer) -> bool:
    """Whether a picture that is not to be answered has come to a server."""
    return any(query.image == b"hold" for query in server.classifier.queries)


def test_node_has_several_servers_share_the_work_of_one_that_dies(
    pictures: list[Path], node: str
) -> None:
    pictures[1].write_bytes(b"hold")
    many = [pictures[1], *[pictures[0]] * 60, pictures[1]]
    with FakeServer() as gone:
        pass
    with FakeServer() as first, FakeServer() as second:
        where = f"{gone.address},{first.address},{second.address}"
        with subprocess.Popen(
            [node, "examples/node/classify.mjs", "protos", where, *map(str, many)],
            cwd=ROOT,
            env=os.environ | {"NODE_MODULES": str(NODE)},
            stdout=subprocess.PIPE,
            text=True,
        ) as asking:
            try:
                until(
                    lambda: any(holds(server) for server in (first, second)),
                    "a picture that is held",
                    working=lambda: asking.poll() is None,
                )
                # Whoever holds it dies with it, and the other one answers.
                dying, other = (first, second) if holds(first) else (second, first)
                other.classifier.release()
                dying._server.stop(None)
                stdout, _ = asking.communicate(timeout=WAIT_S)
            finally:
                asking.kill()
                for server in (first, second):
                    server.classifier.release()
    assert asking.returncode == 0
    files = [json.loads(line)["file"] for line in stdout.splitlines()]
    assert Counter(files) == Counter(map(str, many))


def test_node_streams_pictures_with_nothing_but_the_contract(
    server: FakeServer, pictures: list[Path], node: str
) -> None:
    command = [node, "examples/node/classify.mjs", "protos", server.address, *map(str, pictures)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NODE_MODULES": str(NODE)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.stderr == ""
    said = {Path(row["file"]).name: row for row in map(json.loads, done.stdout.splitlines())}
    assert said["login.png"]["label"] == "login"
    assert said["login.png"]["score"] == 0.875
    assert (said["login.png"]["doubt"], said["login.png"]["review"]) == (0.125, [])
    assert said["other.jpg"]["label"] == "other"
    assert said["broken.png"]["error"] == "the picture is neither JPEG, PNG nor WebP"
    assert said["broken.png"]["code"] == 3  # INVALID_ARGUMENT


async def test_the_examples_sort_real_screenshots_on_the_real_server(
    tmp_path: Path, node: str
) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("red_page", solid(RED)), ("green_page", solid(GREEN)))
        folder = tmp_path / "screenshots"
        folder.mkdir()
        for name, data in {"r": solid(RED), "g": solid(GREEN), "x": b"no picture"}.items():
            (folder / f"{name}.png").write_bytes(data)
        files = [str(folder / f"{name}.png") for name in "rgx"]
        commands = (
            [node, "examples/node/classify.mjs", "protos", served.address, *files],
            [sys.executable, "examples/async_folder.py", str(folder)],
        )
        environment = os.environ | {
            "PAGESIGHT_ADDRESS": served.address,
            "NODE_MODULES": str(NODE),
        }
        from_node, from_python = [
            await asyncio.to_thread(
                subprocess.run,
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=WAIT_S,
            )
            for command in commands
        ]
    assert from_node.stderr == ""
    said = {Path(row["file"]).stem: row for row in map(json.loads, from_node.stdout.splitlines())}
    assert (said["r"]["label"], said["g"]["label"]) == ("red_page", "green_page")
    assert said["x"]["code"] == 3  # INVALID_ARGUMENT
    assert from_python.stdout.splitlines() == ["     1 green_page", "     1 red_page"]
    assert "x.png" in from_python.stderr
