"""How much memory this process may use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container sees the limit of its control group: cgroup v2, which may say `max`, and v1,
which says more than any machine has where there is none."""


def memory_bytes(limits: Sequence[Path] = LIMITS) -> int:
    """Bytes of memory that this process may use: the machine's, or its container's limit.

    Args:
        limits: Files that hold a limit in bytes. One that is missing or holds no number limits
            nothing.
    """
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in limits:
        try:
            available = min(available, int(limit.read_text("ascii")))
        except (OSError, ValueError):
            continue
    return available
