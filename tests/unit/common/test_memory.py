"""A container's limit of memory counts as the machine's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_server.common.memory import memory_bytes

MACHINE = memory_bytes(())


@pytest.mark.parametrize(
    ("text", "available"),
    [
        pytest.param("104857600\n", 104_857_600, id="a limit of 100 MiB"),
        pytest.param("max\n", MACHINE, id="cgroup v2 without a limit"),
        pytest.param("9223372036854771712\n", MACHINE, id="cgroup v1 without a limit"),
        pytest.param(None, MACHINE, id="no control group"),
    ],
)
def test_the_smaller_of_machine_and_container_counts(
    tmp_path: Path, text: str | None, available: int
) -> None:
    limit = tmp_path / "memory.max"
    if text is not None:
        limit.write_text(text, "ascii")
    assert memory_bytes([tmp_path / "absent", limit]) == available


def test_a_machine_has_the_memory_that_the_kernel_reports() -> None:
    (line,) = [
        line
        for line in Path("/proc/meminfo").read_text("ascii").splitlines()
        if line.startswith("MemTotal:")
    ]
    assert int(line.split()[1]) * 1024 == MACHINE
