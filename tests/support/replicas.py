"""Several servers of one store, in processes of their own, that a test starts, stops and kills.

Replicas ──> Replica: pagesight-server serve, over fake models, always at the same port
                └── told of by a file to which it adds a byte for each picture it encodes
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support import WAIT_S
from tests.support.serving_processes import ENCODE_MS, TALLY, command

LONGEST_S = 2 * WAIT_S
"""Timeout for what several processes of a busy machine do together."""


class Replica:
    """One of the servers.

    Args:
        store: What it serves.
        folder: Where its log and its tally lie.
        name: How its log is called.
        processes: How many serve its port.
        variables: Of its environment.
    """

    def __init__(
        self, store: str, folder: Path, name: str, processes: int, variables: dict[str, str]
    ) -> None:
        self._store = store
        self._processes = processes
        self._pids: list[int] = []
        self._folder = folder
        self._variables = variables
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self.log = folder / f"{name}.log"

    @property
    def address(self) -> str:
        """host:port, the same ever since it was first started."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it, and waits until it serves."""
        with self.log.open("a", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command(
                    self._store, "--port", str(self._port), "--processes", str(self._processes)
                ),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | self._variables | {TALLY: str(self._folder)},
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self.log.read_text("utf-8")
        listening = json.loads(line)
        self._port = listening["port"]
        workers = listening.get("processes", [{"pid": self._process.pid}])
        self._pids = [worker["pid"] for worker in workers]
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.address, options=own) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for reply in health.Watch(health_pb2.HealthCheckRequest(), timeout=LONGEST_S):
                if reply.status == health_pb2.HealthCheckResponse.SERVING:
                    return

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def runs(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def ended(self) -> int:
        """Waits for its end; returns its exit code."""
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(LONGEST_S)
        self._process.stdout.close()
        return code

    def pictures(self) -> int:
        """How many pictures have been encoded since it was started."""
        tallies = [self._folder / str(pid) for pid in self._pids]
        return sum(tally.stat().st_size for tally in tallies if tally.exists())

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self._process is not None and self.runs():
            self._process.kill()
            self.ended()


@contextmanager
def replicas(
    count: int,
    folder: Path,
    *,
    store: str,
    encode_ms: float,
    variables: Mapping[str, str],
    processes: int = 1,
) -> Iterator[Sequence[Replica]]:
    """Runs servers that share a store; those that still run are killed in the end.

    Args:
        count: How many.
        folder: Where their logs and tallies lie.
        store: What `--store` says, a file or an address.
        encode_ms: How long each takes to encode a picture, one after the other.
        variables: Of their environment.
        processes: How many serve the port of each.
    """
    environment = {ENCODE_MS: str(encode_ms), **variables}
    with ExitStack() as stack:
        servers = [
            Replica(store, folder, str(number), processes, environment) for number in range(count)
        ]
        for server in servers:
            stack.callback(server.close)
        # The first alone: it makes the store.
        servers[0].start()
        start_together(servers[1:])
        yield servers


def start_together(servers: Sequence[Replica]) -> None:
    """Starts servers at the same time, and waits until all serve."""
    if servers:
        with ThreadPoolExecutor(len(servers)) as threads:
            list(threads.map(Replica.start, servers))


def until(true: Callable[[], bool], what: str, *, working: Callable[[], bool]) -> None:
    """Waits for a state that no event signals, for as long as what should bring it about works."""
    pause = threading.Event()
    for _ in range(int(LONGEST_S / 0.02)):
        if true():
            return
        assert working(), f"what should have brought it about has ended: {what}"
        pause.wait(0.02)
    raise AssertionError(what)
