"""`make bench-host` goes its way, and its figures follow from what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_host, bench_host_parts


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
        assert len(row["gil_held_share"]) == row["processes"]
        assert all(0 <= share <= 1 for share in row["gil_held_share"])
        assert 0 < row["lag_p50_ms"] <= row["lag_p99_ms"]
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
        cpu_ms_by_stage={"event loop": 1_000.0, "lines": 3_000.0},
        caller_cpu_s=0.5,
        # One process held its GIL in two of four samples, the other in one.
        gil_ms=[[0.05, 0.2, 3.0, 0.0], [0.0, 0.0, 0.0, 0.3]],
        lag_ms=[1.0, 2.0, 9.0],
    )
    assert (row["per_s"], row["cpu_ms"], row["caller_cpu_ms"]) == (25.0, 40.0, 5.0)
    # 0.75 of 4 s over 100 screenshots; one process does 1000 / 30 a second, 16 cores 16000 / 40,
    # which takes 12 processes.
    assert row["gil_ms"] == 30.0
    assert row["one_process_at_most_per_s"] == 33.3
    assert (row["ceiling_of_16_cores_per_s"], row["processes_for_16_cores"]) == (400.0, 12)
    assert (row["lag_p50_ms"], row["lag_p99_ms"]) == (2.0, 9.0)
    assert row["stages_cpu_ms"] == {"event loop": 10.0, "lines": 30.0}
