"""Peak memory of an export, from which operators size the machine that exports.

Linux keeps a process's high-water mark and lets it be reset; elsewhere the mark is that of the
whole process, which for the command line is nearly the same.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


def restart_peak() -> None:
    """Begin measuring anew, where the system can."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Return the largest resident size since `restart_peak`."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
