"""CPU time, wall time and memory of processes, quantiles, and the machine's description."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagesight_server.common.cores import cores


@dataclass(slots=True)
class Cost:
    """CPU and wall time of some screenshots, filled in when they are done."""

    side: str
    """The way of classifying them, as in the tables."""
    screenshots: int
    cpu_s: float = 0.0
    """User and system time of the process that does the work."""
    caller_cpu_s: float = 0.0
    """User and system time of this process, where another one does the work."""
    wall_s: float = 0.0
    stages_cpu_s: Mapping[str, float] = field(default_factory=dict)
    """User and system time of the stages, where they were measured (`tests.bench.stages`)."""

    @property
    def cpu_each_s(self) -> float:
        """CPU seconds for each screenshot."""
        return self.cpu_s / self.screenshots

    @property
    def per_s(self) -> float:
        """Screenshots a second."""
        return self.screenshots / self.wall_s


@contextmanager
def timed(side: str, screenshots: int, pid: int | None = None) -> Iterator[Cost]:
    """Measures the time of its block; an error in it ends the benchmark.

    Args:
        side: The way of classifying, for the tables.
        screenshots: How many screenshots the block classifies.
        pid: The process that does the work, if it is not this one.
    """
    cost = Cost(side, screenshots)
    wall_s, own_s, worker_s = time.perf_counter(), own_cpu_s(), cpu_s(pid) if pid else 0.0
    yield cost
    cost.wall_s = time.perf_counter() - wall_s
    cost.cpu_s = own_cpu_s() - own_s
    if pid:
        cost.cpu_s, cost.caller_cpu_s = cpu_s(pid) - worker_s, cost.cpu_s


def own_cpu_s() -> float:
    """User and system time of this process, in seconds."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def cpu_s(pid: int) -> float:
    """User and system time of another process, in seconds (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Resident memory of a process, in MB (proc(5), statm)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile of values at a share in (0, 1], by the nearest rank, without interpolation.

    Raises:
        ValueError: There are no values, or the share is out of range.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"need values and a share in (0, 1], got {len(values)} and {share}")
    ranked = sorted(values)
    return ranked[max(0, -int(-share * len(ranked) // 1) - 1)]


VECTOR_SETS = {
    "AVX2": ("avx2", {"avx_vnni": "VNNI"}),
    "AVX-512": (
        "avx512f",
        {"avx512_vnni": "VNNI", "avx512_bf16": "BF16", "avx512_fp16": "FP16"},
    ),
    "AMX": ("amx_tile", {"amx_int8": "INT8", "amx_bf16": "BF16", "amx_fp16": "FP16"}),
    "NEON": ("asimd", {"asimddp": "DotProd", "i8mm": "I8MM", "bf16": "BF16"}),
    "SVE": ("sve", {"sve2": "2", "svei8mm": "I8MM", "svebf16": "BF16"}),
}
"""Vector instructions that decide how fast a matrix product is: the flag in proc(5), cpuinfo, that
says a processor has them, and flags of what it may have with them."""


def vectors(flags: Collection[str]) -> str:
    """The sets of vector instructions among a processor's flags, as in "AVX2, AVX-512 (VNNI)"."""
    sets = []
    for name, (flag, extensions) in VECTOR_SETS.items():
        if flag in flags:
            more = ", ".join(word for key, word in extensions.items() if key in flags)
            sets.append(f"{name} ({more})" if more else name)
    return ", ".join(sets) or f"none of {', '.join(VECTOR_SETS)}"


def machine() -> dict[str, object]:
    """The processor, its usable cores and the load average, for the conditions of a measurement."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    pairs = (line.partition(":") for line in lines)
    # Of several lines of one name, one for each core, the last one stays.
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = facts.get("flags", facts.get("Features", ""))
    return {
        "machine": f"{platform.machine()}, {facts.get('model name', 'unknown')}",
        "vectors": vectors(flags.split()),
        "cores": cores(),
        "load_1_min": round(os.getloadavg()[0], 2),
    }
