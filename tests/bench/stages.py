"""What each stage of a screenshot takes of its CPU time: the shares that `make bench` prints.

    decode, prepare               their calls, each in one thread; prepare is for the encoder
    encode, detect, recognise     the threads that do nothing else
    search, evidence, decide      the blocks that the pipeline times, each in one thread
    event loop                    the main thread: keys of lines and pictures, caches, queues
    edge                          the gRPC server, measured apart: messages without the work
    other                         what is left of the process

A reply's times of its stages are wall time, waits in queues included, and so are not used here.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ParamSpec, TypeVar

from pagesight_server.common.timings import StageTimes
from tests.bench.measure import Cost

P = ParamSpec("P")
R = TypeVar("R")

STAGE_OF_THREADS = {
    "encoder": "encode",
    "detector": "detect",
    "recogniser": "recognise",
    "MainThread": "event loop",
}
"""The stage that is all that threads do, by the beginning of their names."""
JUDGING = ("search", "evidence", "decide")
"""The stages that run in the thread that times them."""
STAGES = (
    "decode",
    "prepare",
    "encode",
    "detect",
    "recognise",
    *JUDGING,
    "event loop",
    "edge",
    "other",
)


class StageCpu:
    """CPU time, by stage, of what this process classifies from now on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_calls: defaultdict[str, float] = defaultdict(float)
        self._before = _of_threads()

    def timed(self, stage: str, call: Callable[P, R]) -> Callable[P, R]:
        """Makes each call of a function add the CPU time of its thread to a stage."""

        def run(*arguments: P.args, **options: P.kwargs) -> R:
            with self.measured(stage):
                return call(*arguments, **options)

        return run

    def record(self) -> StageTimes:
        """Returns a record for one screenshot, whose judging is measured."""
        return _Record(self.measured)

    @contextmanager
    def measured(self, stage: str) -> Iterator[None]:
        """Adds the CPU time that the calling thread spends in the block to a stage."""
        start_s = time.thread_time()
        try:
            yield
        finally:
            spent_s = time.thread_time() - start_s
            with self._lock:
                self._of_calls[stage] += spent_s

    def spent_s(self) -> Mapping[str, float]:
        """CPU seconds so far, by stage; call it before the threads of the models end."""
        now = _of_threads()
        return {stage: now[stage] - self._before.get(stage, 0.0) for stage in now} | self._of_calls


class _Record(StageTimes):
    """The times of one screenshot; those of judging are measured as CPU time as well."""

    def __init__(self, measured: Callable[[str], AbstractContextManager[None]]) -> None:
        super().__init__()
        self._measured = measured

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time that the block takes."""
        with super().measure(stage), self._measured(stage) if stage in JUDGING else nullcontext():
            yield


def _of_threads() -> Mapping[str, float]:
    """CPU seconds of the threads that are of one stage, by stage; they live meanwhile."""
    spent: defaultdict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        for name, stage in STAGE_OF_THREADS.items():
            if thread.name.startswith(name) and thread.ident is not None:
                spent[stage] += time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return spent


def stage_rows(name: str, costs: Sequence[Cost], edge_ms: float) -> list[dict[str, Any]]:
    """The CPU milliseconds and the share of each stage, as rows of a table.

    Args:
        name: Of the set of screenshots.
        costs: Of the pipeline, one of each round.
        edge_ms: CPU milliseconds of the gRPC server for one message.
    """
    screenshots = sum(cost.screenshots for cost in costs)
    cpu_ms = {
        stage: 1000 * sum(cost.stages_cpu_s.get(stage, 0.0) for cost in costs) / screenshots
        for stage in STAGES
    }
    cpu_ms["other"] = 1000 * sum(cost.cpu_s for cost in costs) / screenshots - sum(cpu_ms.values())
    cpu_ms["edge"] = edge_ms
    total_ms = sum(cpu_ms.values())
    return [
        {
            "table": "stages",
            "set": name,
            "stage": stage,
            "cpu_ms": round(cpu_ms[stage], 3),
            "share_percent": round(100 * cpu_ms[stage] / total_ms, 2),
        }
        for stage in STAGES
    ]
