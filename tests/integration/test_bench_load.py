"""`make bench-load` goes its way: it follows what a report and the no-op server say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import bench_load


def test_streams_and_calls_are_measured_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench_load.main(
        ["--out", str(tmp_path), "--seconds", "0.5", "--sizes", "0.1 KB", "--processes", "1"]
    )
    rows = json.loads((tmp_path / "load.json").read_text("utf-8"))
    assert [row["calls"] for row in rows] == ["stream", "unary"]
    for row in rows:
        assert row["per_s"] > 0
        assert row["per_s_of_a_core"] > 0
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["conditions"]["seconds"] == 0.5
    assert "per_s_of_a_core" in capsys.readouterr().out
