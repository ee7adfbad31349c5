"""How many CPU cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPU cores that this process may use: by its CPU affinity, and by its container's quota.

    Args:
        quota: The `cpu.max` file of the control group (cgroup v2): quota, or `max`, and period, in
            microseconds. Without such a file only the affinity counts.
    """
    affinity = len(os.sched_getaffinity(0))
    try:
        quota_us, period_us = quota.read_text("ascii").split()
        return min(affinity, max(1, math.ceil(int(quota_us) / int(period_us))))
    except (OSError, ValueError):
        return affinity
