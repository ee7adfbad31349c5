"""`tests.bench.bench_store` goes its way over both stores, with a few pictures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.bench import bench_copy, bench_store
from tests.support.postgres import PostgresServer


@pytest.mark.heavy
def test_the_start_of_a_replica_is_measured_from_either_store(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert postgres.uri  # else it is said why there is none, and this is skipped
    root = Path(__file__).parents[2]
    folders = [root, *(root / name for name in ("client", "server", "export"))]
    monkeypatch.setenv("PYTHONPATH", ":".join(map(str, folders)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench_store", "--pictures", "30", "--labels", "3"])
    bench_store.main()
    rows = json.loads((tmp_path / "bench" / "store.json").read_text("utf-8"))
    assert [(row["store"], row["pictures"]) for row in rows] == [("sqlite", 30), ("postgresql", 30)]
    for row in rows:
        assert row["snapshot_cpu_s"] >= 0
        assert row["knowledge_cpu_s"] > 0
        assert row["peak_mb"] > 0
        assert row["query_ms"] > 0
        assert row["enrol_ms"] > 0
        assert row["text_parsed_kb"] > row["text_stored_kb"] > 0.5
        assert "cores" in row


@pytest.mark.heavy
def test_a_copy_into_postgresql_is_measured(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert postgres.uri
    row = bench_copy.measure(postgres, pictures=20, labels=2, kept_bytes=1_000)
    # Of each picture an image, its kept form, an embedding, a text and a membership; and of the
    # gallery itself and its revision a row each.
    assert row["rows_put"] == 20 * 5 + 2
    assert row["file_mb"] > 0.02
    assert row["pictures_a_s"] > 0
