"""The shares of the stages, worked out by hand, and whose CPU time is whose."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.bench.measure import Cost
from tests.bench.stages import STAGES, StageCpu, stage_rows


def busy() -> int:
    return sum(range(100_000))


def test_shares_are_of_the_whole_process_and_the_edge() -> None:
    costs = [
        Cost("pipeline", 2, cpu_s=1.0, stages_cpu_s={"encode": 0.2, "detect": 0.6}),
        Cost("pipeline", 2, cpu_s=0.96, stages_cpu_s={"encode": 0.2, "detect": 0.6, "decide": 0.2}),
    ]
    rows = {row["stage"]: row for row in stage_rows("real", costs, edge_ms=10.0)}
    # 490 ms each in the pipeline: 100, 300 and 50 in stages, 40 are left; 500 with the edge.
    assert list(rows) == list(STAGES)
    taken = {stage: row["cpu_ms"] for stage, row in rows.items() if row["cpu_ms"]}
    assert taken == {"encode": 100, "detect": 300, "decide": 50, "edge": 10, "other": 40}
    shares = {stage: row["share_percent"] for stage, row in rows.items() if row["cpu_ms"]}
    assert shares == {"encode": 20, "detect": 60, "decide": 10, "edge": 2, "other": 8}


def test_a_call_adds_to_its_stage_whichever_thread_it_runs_in() -> None:
    stages = StageCpu()
    decode = stages.timed("decode", busy)
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(decode).result() == busy()
    assert stages.spent_s()["decode"] > 0


def test_a_call_that_fails_is_counted_too() -> None:
    def fail(text: str) -> None:
        busy()
        raise ValueError(text)

    stages = StageCpu()
    with pytest.raises(ValueError, match="broken"):
        stages.timed("decode", fail)("broken")
    assert stages.spent_s()["decode"] > 0


def test_of_a_record_only_judging_is_measured_by_its_thread() -> None:
    stages = StageCpu()
    times = stages.record()
    for stage in ("encode", "search", "evidence", "decide"):
        with times.measure(stage):
            busy()
    assert set(times) == {"encode", "search", "evidence", "decide"}
    spent = stages.spent_s()
    assert all(spent[stage] > 0 for stage in ("search", "evidence", "decide"))
    assert "encode" not in spent


@pytest.mark.parametrize(
    ("prefix", "stage"),
    [("encoder", "encode"), ("detector", "detect"), ("recogniser", "recognise")],
)
def test_a_models_threads_are_its_stage(prefix: str, stage: str) -> None:
    with ThreadPoolExecutor(1, thread_name_prefix=prefix) as threads:
        threads.submit(busy).result()
        stages = StageCpu()
        before = stages.spent_s()[stage]
        threads.submit(busy).result()
        assert stages.spent_s()[stage] > before
