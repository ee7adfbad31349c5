"""What the benches compute: quantiles, ratios, targets and the GPU's verdict."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.bench import gpu_models
from tests.bench import gpu_verdict as verdict
from tests.bench.bench_runtime import cost_rows, latency_row, settings_rows, target_rows
from tests.bench.gpu_verdict import Finding
from tests.bench.measure import Cost, quantile


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4), (0.01, 1)]
)
def test_a_quantile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value


def test_a_quantile_of_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="need values"):
        quantile([], 0.5)


def cost(side: str, cpu_s: float, wall_s: float, caller_cpu_s: float = 0.0) -> Cost:
    return Cost(side, 10, cpu_s=cpu_s, wall_s=wall_s, caller_cpu_s=caller_cpu_s)


COSTS = [
    cost("script", 20, 10),
    cost("pipeline", 8, 5),
    cost("service", 9, 4, 1),
    cost("script", 22, 10),
    cost("pipeline", 10, 5),
    cost("service", 9.9, 4, 1),
]


def test_rows_are_medians_with_the_ratios_that_are_asked_for() -> None:
    rows = {row["side"]: row for row in cost_rows("real", COSTS)}
    # Medians: pipeline 0.9 CPU s each, service 0.945; script 1 a second, service 2.5.
    assert rows["service"]["cpu_to_pipeline"] == 1.05
    assert rows["service"]["rate_to_script"] == 2.5
    assert rows["service"]["caller_cpu_s"] == 0.1
    assert rows["script"]["cpu_s"] == 2.1


def test_settings_are_held_against_the_defaults() -> None:
    costs = [
        cost("defaults", 8, 5),
        cost("MANY=2", 10, 4),
        cost("MANY=2", 8, 4),
        cost("defaults", 10, 5),
    ]
    rows = {row["side"]: row for row in settings_rows("real", costs)}
    # Medians: 0.9 CPU s each on both sides; 2 a second and 2.5.
    assert (rows["MANY=2"]["cpu_s"], rows["MANY=2"]["cpu_s_to_defaults"]) == (0.9, 1.0)
    assert (rows["MANY=2"]["per_s"], rows["MANY=2"]["per_s_to_defaults"]) == (2.5, 1.25)


def test_each_target_is_held_against_what_was_found() -> None:
    rows = [
        *cost_rows("real", COSTS),
        latency_row("real", "alone", [100.0, 150.0], 0),
        latency_row("real", "at random", [120.0, 260.0], 1.25),
        {"table": "streaming", "server_cpu_ms": 1.6},
    ]
    targets = {row["target"]: (row["found"], row["met"]) for row in target_rows(rows)}
    assert targets == {
        "service CPU ÷ pipeline CPU, at most": (1.05, True),
        "service rate ÷ script rate, at least": (2.5, True),
        "p99 at half load ÷ p50 alone, at most": (2.6, False),
        "p99 at half load ÷ p99 alone, at most": (1.733, True),
        "CPU ms for each message of 300 KB, at most": (1.6, False),
    }


def test_rounding_meets_no_target() -> None:
    rows = [
        latency_row("real", "alone", [100.0], 0),
        latency_row("real", "at random", [200.3], 1.25),
    ]
    assert [(row["found"], row["met"]) for row in target_rows(rows)] == [(2.003, False)] * 2


@pytest.mark.parametrize(
    ("finding", "met"),
    [
        (Finding(what="rate", found=100, limit=100), True),
        (Finding(what="rate", found=99.9, limit=100), False),
        (Finding(what="p50", found=60, limit=60, side="at most"), True),
        (Finding(what="p50", found=60.1, limit=60, side="at most"), False),
        (Finding(what="rate", found=math.nan, limit=100), False),
        (Finding(what="p50", found=math.nan, limit=60, side="at most"), False),
        (Finding(what="no target", found=1), None),
    ],
)
def test_a_limit_holds_or_not(finding: Finding, met: bool | None) -> None:
    assert finding.met is met


def test_the_exit_code_is_that_of_the_worst_finding() -> None:
    good, bad = Finding(what="a", found=2, limit=1), Finding(what="b", found=0, limit=1)
    reported = Finding(what="c", found=0)
    assert verdict.exit_code([good, reported]) == 0
    assert verdict.exit_code([good, bad, reported]) == 1
    assert verdict.exit_code([reported]) == 1
    assert verdict.without_limits([bad]) == [Finding(what="b", found=0)]


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    lacks = verdict.missing(
        "cuda",
        tmp_path / "encoder",
        tmp_path / "ocr",
        installed=lambda module: module not in {"transformers"},
        works=lambda module: module == "torch",
    )
    assert [what.partition(":")[0] for what in lacks] == [
        "the Python module transformers, to compare with",
        "onnxruntime has no CUDAExecutionProvider",
        "faiss sees no GPU",
        f"an encoder bundle in {tmp_path / 'encoder'}",
        f"an OCR bundle in {tmp_path / 'ocr'}",
    ]


def test_nothing_is_missing_where_everything_is(bundles: Path) -> None:
    encoder, ocr = bundles / "encoder", bundles / "ocr"
    assert verdict.missing("cpu", encoder, ocr, small=True) == []
    lacks = verdict.missing("cuda", encoder, ocr, installed=lambda _: True, works=lambda _: True)
    assert [what.partition(";")[0] for what in lacks] == [
        f"another encoder bundle in {encoder}: this one is float32 with a fixed input size"
    ]


def test_the_operations_of_a_picture_are_counted() -> None:
    # One layer, 2 patches, hidden 3, inner 5: each token meets 4 * 9 + 2 * 15 = 66 weights, and
    # 2 * 4 * 3 = 24 products for attention; patches of 1 pixel: 2 * 3 * 3 = 18 more.
    assert gpu_models.image_flops(patches=2, hidden=3, inner=5, layers=1, patch=1) == 2 * (
        2 * 66 + 24 + 18
    )


def test_a_profile_tells_where_the_nodes_ran() -> None:
    def event(name: str, provider: str, micros: int) -> dict[str, object]:
        return {"cat": "Node", "name": name, "dur": micros, "args": {"provider": provider}}

    events = [
        event("a_kernel_time", "CUDAExecutionProvider", 900_000),
        event("b_kernel_time", "CPUExecutionProvider", 100_000),
        event("b_fence_before", "CPUExecutionProvider", 5_000_000),
        {"cat": "Session", "name": "model_run", "dur": 7, "args": {}},
    ]
    assert gpu_models.node_seconds(events) == {
        "CUDAExecutionProvider": 0.9,
        "CPUExecutionProvider": 0.1,
    }


def test_a_profile_tells_which_nodes_that_multiply_ran_elsewhere() -> None:
    def event(operator: str, provider: str) -> dict[str, object]:
        args = {"op_name": operator, "provider": provider}
        return {"cat": "Node", "name": f"{operator}_kernel_time", "dur": 1, "args": args}

    events = [
        event("FusedConv", "CUDAExecutionProvider"),
        event("MatMul", "CPUExecutionProvider"),
        event("Gemm", "CUDAExecutionProvider"),
        event("Shape", "CPUExecutionProvider"),
        {"cat": "Session", "name": "model_run", "dur": 7, "args": {}},
    ]
    assert gpu_models.heavy_nodes(events, "CUDAExecutionProvider") == (2, 3)


def test_everyone_runs_once_in_every_round() -> None:
    ran: list[str] = []
    seconds = gpu_models.in_turns(
        {"ours": lambda: ran.append("o"), "torch": lambda: ran.append("t")}, 2
    )
    assert "".join(ran) == "ot" * 5
    assert [len(taken) for taken in seconds.values()] == [2, 2]
