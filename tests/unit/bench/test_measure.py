"""What the benches compute: quantiles, ratios and targets."""

from __future__ import annotations

import pytest

from tests.bench.bench_runtime import cost_rows, latency_row, settings_rows, target_rows
from tests.bench.measure import Cost, machine, quantile, vectors


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2), (0.51, 3), (0.75, 3), (0.99, 4), (1.0, 4), (0.01, 1)]
)
def test_a_quantile_is_a_value_that_was_seen(share: float, value: float) -> None:
    assert quantile([4, 1, 3, 2], share) == value


def test_a_quantile_of_nothing_says_so() -> None:
    with pytest.raises(ValueError, match="need values"):
        quantile([], 0.5)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("fpu sse2 avx avx2", "AVX2"),
        ("avx2 avx_vnni avx512f avx512bw avx512_vnni", "AVX2 (VNNI), AVX-512 (VNNI)"),
        (
            "avx2 avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8",
            "AVX2, AVX-512 (BF16, FP16), AMX (INT8, BF16)",
        ),
        ("asimd asimddp i8mm", "NEON (DotProd, I8MM)"),
        ("fpu sse2", "none of AVX2, AVX-512, AMX, NEON, SVE"),
    ],
)
def test_vector_instructions_are_named_as_their_makers_name_them(flags: str, words: str) -> None:
    assert vectors(flags.split()) == words


def test_the_conditions_name_the_processor_and_its_vector_instructions() -> None:
    assert set(machine()) == {"machine", "vectors", "cores", "load_1_min"}


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
    targets = {row["target"]: (row["found"], row["met"]) for row in target_rows(rows, "AVX2")}
    assert targets == {
        "service CPU ÷ pipeline CPU, at most": (1.05, True),
        "service rate ÷ script rate, at least": (2.5, False),
        "p99 at half load ÷ p50 alone, at most": (2.6, False),
        "p99 at half load ÷ p99 alone, at most": (1.733, True),
        "CPU ms for each message of 300 KB, at most": (1.6, False),
    }


@pytest.mark.parametrize(
    ("vectors", "least"), [("AVX2", 2.8), ("AVX2 (VNNI), AVX-512 (BF16)", 3.8), ("NEON", 2.8)]
)
def test_more_is_asked_of_the_service_where_the_models_cost_less(
    vectors: str, least: float
) -> None:
    (row,) = (
        row for row in target_rows(cost_rows("real", COSTS), vectors) if "rate" in row["target"]
    )
    assert row["limit"] == least


def test_rounding_meets_no_target() -> None:
    rows = [
        latency_row("real", "alone", [100.0], 0),
        latency_row("real", "at random", [200.3], 1.25),
    ]
    assert [(row["found"], row["met"]) for row in target_rows(rows, "AVX2")] == [(2.003, False)] * 2
