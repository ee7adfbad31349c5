"""The real `pagesight-server serve --processes 2`, over fake models: one port, two processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pagesight import Client, EnrolItem
from pagesight_server.gallery import Change, Entry, Gallery
from tests.support import WAIT_S
from tests.support.gallery_calls import id_of
from tests.support.parts import BUNDLES, unit
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving_processes import HOLD_LOADING, Arrivals, Server, command, gone, served
from tests.support.stores import content

pytestmark = pytest.mark.heavy


@pytest.fixture
def arrivals(tmp_path: Path) -> Iterator[Arrivals]:
    with Arrivals(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, with metrics, that several tests look at and leave as it is."""
    settings = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "0"}
    settings["OTEL_RESOURCE_ATTRIBUTES"] = "service.instance.id=here"
    with served(tmp_path_factory.mktemp("resting"), **settings) as (server, _):
        yield server


def blue(number: int) -> bytes:
    """A blue picture of its own."""
    return solid((number, 0, 250))


def pids_that_answer(address: str, arrivals: Arrivals, revision: int) -> set[int]:
    """Asks over ever new connections until two processes have had a picture."""
    seen: set[int] = set()
    give_up_s = time.monotonic() + WAIT_S
    while len(seen) < 2:
        assert time.monotonic() < give_up_s, f"only {seen} answer"
        with Client(address, channel_options=[("grpc.use_local_subchannel_pool", 1)]) as client:
            client.classify(solid(RED), min_revision=revision)
        seen.add(arrivals.next())
    return seen


def health(address: str) -> int:
    """The status of one process."""
    own = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options=own) as channel:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=WAIT_S
        )
    status: int = reply.status
    return status


def until_serving(address: str) -> None:
    """Waits until the server says that it serves."""
    watching = health_pb2.HealthCheckRequest()
    with grpc.insecure_channel(address) as channel:
        for reply in health_pb2_grpc.HealthStub(channel).Watch(watching, timeout=WAIT_S):
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return


def test_both_processes_answer_follow_the_store_and_drain(
    tmp_path: Path, arrivals: Arrivals
) -> None:
    with served(tmp_path, **arrivals.variables) as (server, log):
        assert [worker["number"] for worker in server.listening["processes"]] == [1, 2]
        until_serving(server.address)
        assert {health(server.address) for _ in range(10)} == {
            health_pb2.HealthCheckResponse.SERVING
        }
        with Client(server.address, connections=4) as client:
            pages = [
                EnrolItem(image=solid(RED), label="red"),
                EnrolItem(image=solid(GREEN), label="green"),
            ]
            revision = client.enrol(pages).revision
            # Whichever process is asked, and however soon.
            for _ in range(8):
                assert client.classify(solid(RED), min_revision=revision).label == "red"
        assert {arrivals.next() for _ in range(2 + 8)} <= set(server.pids)
        assert pids_that_answer(server.address, arrivals, revision) == set(server.pids)

        arrivals.close()
        results: list[str] = []

        def ask() -> None:
            # One alone: what a process had not read when it was told to end, it refuses.
            with Client(server.address) as client:
                results.extend(
                    result.unwrap().closest_label for result in client.classify_stream([blue(0)])
                )

        asking = threading.Thread(target=ask)
        asking.start()
        arrivals.next()
        server.process.send_signal(signal.SIGTERM)
        arrivals.open()
        asking.join(WAIT_S)
        assert not asking.is_alive()
        assert server.process.wait(WAIT_S) == 0
        assert server.process.stdout is not None
        assert server.process.stdout.read() == ""
        assert all(gone(pid) for pid in server.pids)
    lines = log.read_text("utf-8")
    assert "Traceback" not in lines
    assert "Warning" not in lines
    assert len(results) == 1
    # One line for a change, of the process that made it, however many follow the store.
    assert lines.count("audit: gallery 'default' enrol by") == 1
    assert "by another process" not in lines
    for number in ("1", "2"):
        assert re.search(rf"INFO \[{number}\] .*: draining for at most 20 s", lines)
    assert "INFO [supervisor] " in lines


def test_no_process_says_that_it_serves_before_all_know_the_galleries(
    tmp_path: Path, arrivals: Arrivals
) -> None:
    arrivals.close()
    with served(tmp_path, **arrivals.variables, **{HOLD_LOADING: "1"}) as (server, log):
        give_up_s = time.monotonic() + WAIT_S
        while not re.search(r"\[1\] .*all galleries are known", log.read_text("utf-8")):
            assert time.monotonic() < give_up_s
            time.sleep(0.01)
        # Each of ten connections ends at one of the two.
        assert {health(server.address) for _ in range(10)} == {
            health_pb2.HealthCheckResponse.NOT_SERVING
        }
        assert "[2] pagesight_server.cli.serve: all galleries are known" not in log.read_text()
        arrivals.open()
        until_serving(server.address)


def test_what_a_start_makes_anew_is_answered_from_whatever_was_read_meanwhile(
    tmp_path: Path, arrivals: Arrivals
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    for colour in (RED, BLUE):
        data = solid(colour)
        seen = unit(*(value + 1 for value in colour))  # as the fake encoder does
        store.put_content(
            replace(content("any"), image_id=id_of(data), data=data, embedding=seen), BUNDLES
        )
    pages = [Entry(image_id=id_of(solid(RED)), label="red")]
    pages.append(Entry(image_id=id_of(solid(BLUE)), label="blue"))
    store.enrol(Change(), pages, BUNDLES)
    with store.database.writing() as db:
        sql = "UPDATE embeddings SET vector = :zeros WHERE image_id = :blue"
        db.execute(sql, {"zeros": bytes(6), "blue": bytes.fromhex(id_of(solid(BLUE)))})
    assert len(store.snapshot().pictures) == 1
    store.close()
    arrivals.close()
    with served(tmp_path, **arrivals.variables) as (server, _):
        arrivals.next()  # the damaged picture: it waits at the gate
        with Client(server.address) as client:
            # Whoever makes a change has the process read the gallery, damaged as it is.
            revision = client.relabel([id_of(solid(RED))], "rot").revision
            arrivals.open()
            until_serving(server.address)
        seen_by: set[int] = set()
        give_up_s = time.monotonic() + WAIT_S
        while len(seen_by) < 2:
            assert time.monotonic() < give_up_s, f"only {seen_by} answer"
            own = [("grpc.use_local_subchannel_pool", 1)]
            with Client(server.address, channel_options=own) as client:
                result = client.classify(blue(len(seen_by)), min_revision=revision)
            assert result.closest_label == "blue"
            seen_by.add(arrivals.next())
        assert seen_by == set(server.pids)


def test_a_worker_that_is_killed_loses_what_it_had_in_flight_which_is_sent_again(
    tmp_path: Path, arrivals: Arrivals
) -> None:
    with served(tmp_path, **arrivals.variables) as (server, log):
        until_serving(server.address)
        with Client(server.address) as client:
            pages = [
                EnrolItem(image=solid(RED), label="red"),
                EnrolItem(image=solid(BLUE), label="blue"),
            ]
            revision = client.enrol(pages).revision
            assert {arrivals.next(), arrivals.next()} <= set(server.pids)
            arrivals.close()
            results: list[int] = []
            failed: list[Exception] = []

            def ask() -> None:
                pictures = [(number, blue(number)) for number in range(8)]
                try:
                    for result in client.classify_stream(
                        pictures, max_in_flight=8, min_revision=revision
                    ):
                        assert result.unwrap().label == "blue"
                        results.append(result.key)
                except Exception as error:
                    failed.append(error)

            asking = threading.Thread(target=ask)
            asking.start()
            victim = arrivals.next()
            os.kill(victim, signal.SIGKILL)
            arrivals.open()
            asking.join(WAIT_S)
            assert not asking.is_alive()
        assert failed == []
        assert sorted(results) == list(range(8))
        # Another one has its place, beside the one that never ended.
        assert victim not in {arrivals.next() for _ in range(8)}
        (other,) = set(server.pids) - {victim}
        seen = pids_that_answer(server.address, arrivals, revision)
        assert (victim in seen, other in seen, len(seen)) == (False, True, 2)
        assert health(server.address) == health_pb2.HealthCheckResponse.SERVING
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
    number = server.pids.index(victim) + 1
    assert f"process {number} ended by SIGKILL; it is started again in 1 s" in log.read_text()


def test_without_its_supervisor_no_worker_stays(tmp_path: Path) -> None:
    with served(tmp_path) as (server, log):
        until_serving(server.address)
        server.process.kill()
        assert all(gone(pid) for pid in server.pids)
    assert "Traceback" not in log.read_text()


def test_each_process_has_metrics_of_its_own(resting: Server) -> None:
    of_each = [worker["metrics"] for worker in resting.listening["processes"]]
    assert resting.listening["metrics"] == of_each[0]
    assert len(set(of_each)) == 2
    for number, pid, address in zip((1, 2), resting.pids, of_each, strict=True):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as reply:
            page = reply.read().decode()
        (target,) = [line for line in page.splitlines() if line.startswith("target_info{")]
        assert f'process_pid="{pid}"' in target
        assert f'service_instance_id="here-{number}"' in target


@pytest.mark.parametrize("processes", ["1", "2"])
def test_its_port_is_taken_for_every_other_server(
    resting: Server, tmp_path: Path, processes: str
) -> None:
    port = str(resting.listening["port"])
    again = subprocess.run(
        command(tmp_path / "other.db", "--port", port, "--processes", processes),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (again.returncode, again.stdout) == (1, "")
    *others, line = again.stderr.splitlines()
    told = f"pagesight-server: cannot listen on 127.0.0.1:{port}: another program listens there"
    assert line.startswith(told)
    # The supervisor finds it before anything is opened; else gRPC's own line goes before.
    assert others == [] or processes == "1"
    assert (tmp_path / "other.db").exists() == (processes == "1")


def test_the_supervisor_loads_no_model_index_or_codec(resting: Server) -> None:
    process = Path(f"/proc/{resting.process.pid}")
    libraries = (process / "maps").read_text()
    for name in ("onnxruntime", "faiss", "numpy", "cygrpc", "cv2"):
        assert f"/{name}" not in libraries
    assert len(list((process / "task").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "variables", "problem"),
    [
        pytest.param(
            ["--store", "none/gallery.db"],
            {},
            "cannot open the store none/gallery.db",
            id="found by the first worker",
        ),
        pytest.param(
            [], {"PAGESIGHT_SERVER__PORT": "x"}, "setting server.port: ", id="found at once"
        ),
        pytest.param(
            [], {"OTEL_TRACES_EXPORTER": "x"}, "OTEL_TRACES_EXPORTER is 'x'", id="of telemetry"
        ),
    ],
)
def test_what_is_wrong_with_the_settings_is_told_once(
    tmp_path: Path, options: list[str], variables: dict[str, str], problem: str
) -> None:
    port = [] if "PAGESIGHT_SERVER__PORT" in variables else ["--port", "0"]
    ended = subprocess.run(
        command(tmp_path / "gallery.db", *port, "--processes", "2", *options),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ | variables,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"pagesight-server: {problem}")
