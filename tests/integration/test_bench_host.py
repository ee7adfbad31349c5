"""`make bench-host` goes its way, and its figures follow from what it measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import bench_host, bench_host_parts, gil
from tests.bench.gil import Ticks


@pytest.mark.heavy
def test_servers_of_one_and_of_two_processes_are_measured(
    tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_host.main(
        [
            *("--out", str(tmp_path), "--bundles", str(bundles), "--screenshots", "8"),
            *("--warmup", "2", "--streams", "2", "--lines", "4", "--processes", "1", "2"),
            *("--ocr-threads", "1"),
        ]
    )
    rows = json.loads((tmp_path / "host.json").read_text("utf-8"))
    assert [(row["lines"], row["processes"]) for row in rows] == [(4, 1), (4, 2)]
    for row in rows:
        assert row["per_s"] > 0
        assert row["alone_per_s"] > row["per_s"]  # The caller takes some of the cores.
        assert 0 < row["lag_p50_ms"] <= row["lag_p99_ms"]
        under_gil = row["stages_gil_ms"]
        assert all(0 <= under_gil[stage] <= row["stages_cpu_ms"][stage] for stage in under_gil)
        assert sum(under_gil.values()) == pytest.approx(row["gil_ms"], abs=0.2)
        stages = row["stages_cpu_ms"]
        assert all(stages[stage] > 0 for stage in stages if stage != "gRPC")
        assert sum(stages.values()) == pytest.approx(row["cpu_ms"], abs=0.2)
        assert row["conditions"]["screenshots"] == 8
    assert rows[0]["rate_to_first"] == 1.0
    assert "canvas, boxes, crops" in capsys.readouterr().out


@pytest.mark.heavy
def test_the_parts_of_a_screenshots_pixels_are_measured(
    tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_host_parts.main(
        [
            *("--out", str(tmp_path), "--bundles", str(bundles), "--pages", "1"),
            *("--rounds", "1", "--lines", "4"),
        ]
    )
    rows = json.loads((tmp_path / "host_parts.json").read_text("utf-8"))
    cpu_ms = {row["part"]: row["cpu_ms"] for row in rows}
    assert {"decode", "prepare", "detector without its network", "- quads"} < set(cpu_ms)
    assert all(ms > 0 for part, ms in cpu_ms.items() if part != "- crops")
    assert all(row["least_ms"] <= row["cpu_ms"] for row in rows)
    assert rows[0]["conditions"]["lines"] == 4
    assert "prepare by Pillow" in capsys.readouterr().out


def test_what_cores_and_processes_can_do_follows_from_cpu_time_and_gil() -> None:
    row = bench_host.row_of(
        lines=40,
        answered=100,
        seconds=4.0,
        processes=2,
        threads=[
            # The loops of the two processes had the GIL in 15 of 20 samples, and the readers in 225
            # of 300.
            bench_host.Thread("event loop", 400.0, Ticks(10, 10)),
            bench_host.Thread("event loop", 600.0, Ticks(10, 5)),
            bench_host.Thread("lines", 3_000.0, Ticks(300, 225)),
        ],
        caller_cpu_s=0.8,
        shared_cores=2,
        lag_ms=[1.0, 2.0, 9.0],
    )
    assert (row["per_s"], row["cpu_ms"], row["caller_cpu_ms"]) == (25.0, 40.0, 8.0)
    # The callers had a fifth of one of the two cores: a tenth of what there is.
    assert (row["caller_busy_share"], row["alone_per_s"]) == (0.2, 27.78)
    # Three quarters of 40 ms; one process does 1000 / 30 a second, 16 cores 16000 / 40, which
    # takes 12 processes.
    assert row["gil_ms"] == 30.0
    assert row["one_process_at_most_per_s"] == 33.3
    assert (row["ceiling_of_16_cores_per_s"], row["processes_for_16_cores"]) == (400.0, 12)
    assert (row["lag_p50_ms"], row["lag_p99_ms"]) == (2.0, 9.0)
    nothing = dict.fromkeys(row["stages_cpu_ms"], 0.0)
    assert row["stages_cpu_ms"] == nothing | {"event loop": 10.0, "lines": 30.0}
    assert row["stages_gil_ms"] == nothing | {"event loop": 7.5, "lines": 22.5}


def test_a_thread_that_began_meanwhile_counts_from_its_beginning() -> None:
    late = bench_host.Thread("lines", 5.0, Ticks(4, 1))
    assert late.since(None) == late
    later = bench_host.Thread("lines", 7.5, Ticks(9, 3))
    assert later.since(late) == bench_host.Thread("lines", 2.5, Ticks(5, 2))


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_thread_that_computes_in_python_holds_the_gil_and_one_that_hashes_does_not(
    tmp_path: Path,
) -> None:
    library = gil.compiled(tmp_path)
    program = """
import hashlib, sys, threading, time
from pathlib import Path
from tests.bench import gil

counting = gil.Counting(Path(sys.argv[1]), Path(sys.argv[2]))
counting.this_thread()
data = bytes(1 << 24)

def hash_it():
    counting.this_thread()
    print(threading.get_native_id(), flush=True)
    while time.thread_time() < 1:
        hashlib.sha256(data)

thread = threading.Thread(target=hash_it)
thread.start()
thread.join()
while time.thread_time() < 1:
    pass
print(threading.get_native_id(), flush=True)
"""
    file = tmp_path / "counts"
    ran = subprocess.run(
        [sys.executable, "-c", program, str(library), str(file)],
        check=True,
        capture_output=True,
        text=True,
    )
    hashing, counting = (gil.read(file)[int(line) % gil.SLOTS] for line in ran.stdout.split())
    assert min(hashing.taken, counting.taken) > 20
    assert hashing.held < 0.2 * hashing.taken
    assert counting.held > 0.9 * counting.taken
