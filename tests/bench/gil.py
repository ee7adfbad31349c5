"""CPU time under the GIL: at how many ticks of a thread's CPU time does it hold the lock?

    thread ──timer on its own CPU time──> SIGPROF, in that thread ──holds the GIL?──> two counts
    share of the ticks x CPU time of the thread = its CPU time under the GIL

The clock stands while a thread sleeps, or waits for the lock or for a core, so that a busy machine
changes nothing; samples by the wall clock, a profiler's too, count whoever holds the lock and waits
for a core. A handler in C asks, as Python's own run when the lock is held. Linux looks at such
timers when it ticks, 250 times a second of each core or more often, so ten CPU-seconds are 2,500
samples: of a fifth of them the standard error is 4 %. What taking and giving back the lock costs
(futexes) counts as outside of it.

It takes a C compiler and no privileges.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np

SLOTS = 4096
"""Threads are told apart by their number's remainder; those of one process lie closer together."""
EVERY_NS = 1_000_000
"""CPU time of a thread between two samples; the system takes none more often than it ticks."""


class Ticks(NamedTuple):
    """Samples of one thread."""

    taken: int
    held: int
    """Those of them in which it held the GIL."""

    def since(self, before: Ticks) -> Ticks:
        """The samples taken after others."""
        return Ticks(self.taken - before.taken, self.held - before.held)


def compiled(folder: Path) -> Path | None:
    """Compiles the handler; None where there is no C compiler.

    Args:
        folder: Where the library is put.

    Raises:
        subprocess.CalledProcessError: the compiler fails.
    """
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return None
    library = folder / "gil.so"
    source = Path(__file__).with_suffix(".c")
    options = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, "-o", str(library), str(source), "-lrt"], check=True)
    return library


class Counting:
    """Has the threads of this process counted.

    Args:
        library: From `compiled`.
        file: Written while threads run; for `read`.

    Raises:
        OSError: the system refuses.
    """

    def __init__(self, library: Path, file: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        with file.open("w+b") as counts:
            counts.truncate(8 * SLOTS)
            if self._library.gil_count(counts.fileno(), ctypes.c_long(SLOTS)):
                raise OSError(f"no handler of SIGPROF, or no memory of {file}")

    def this_thread(self) -> None:
        """Has the calling thread counted from now on.

        Raises:
            OSError: the system refuses.
        """
        if self._library.gil_watch(ctypes.c_long(EVERY_NS)):
            raise OSError(f"no timer for the CPU time of thread {threading.get_native_id()}")


def read(file: Path) -> dict[int, Ticks]:
    """The samples so far, by the remainder of the thread's number by `SLOTS`."""
    counts = np.fromfile(file, np.uint32).reshape(-1, 2)
    return {slot: Ticks(*counts[slot].tolist()) for slot in np.flatnonzero(counts[:, 0]).tolist()}
