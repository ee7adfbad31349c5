"""What `make loadtest` promises, and what of its arguments holds for the preparing loads."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence

import pytest

from pagesight._load import slo
from tests.loadtest import PROMISED, REPEAT, shaping, targets


def queue(load: float, seed: int, *, length: float) -> dict[str, float]:
    """p90 and p99 of one server that takes 1 for each new screenshot and 0 for all others.

    Args:
        load: Share of what it can do that arrives, at random.
        seed: Of the arrivals.
        length: Of the run.
    """
    draw, at, free = random.Random(seed), 0.0, 0.0
    took: list[float] = []
    while (at := at + draw.expovariate(load / (1 - REPEAT))) < length:
        new = draw.random() >= REPEAT
        free = max(at, free) + 1 if new else free
        took.append(free - at if new else 0.0)
    took.sort()
    return {name: took[int(len(took) * int(name[1:]) / 100)] for name in PROMISED}


def missed(runs: Sequence[dict[str, float]]) -> float:
    """Share of runs that miss a target."""
    return sum(any(run[name] > PROMISED[name] for name in run) for run in runs) / len(runs)


# 45 s are a hundred screenshots of 0.45 s on a quick machine, and fifteen of 3 s on a slow one.
@pytest.mark.parametrize("length", [100.0, 15.0], ids=["quick", "slow"])
def test_a_half_loaded_queue_keeps_what_is_promised(length: float) -> None:
    assert missed([queue(0.5, seed, length=length) for seed in range(500)]) <= 0.01


def test_the_figures_of_the_queue_are_those_of_the_docs() -> None:
    half = [queue(0.5, seed, length=100.0) for seed in range(500)]
    medians = {name: statistics.median(run[name] for run in half) for name in PROMISED}
    assert medians == {"p90": pytest.approx(1.3, abs=0.05), "p99": pytest.approx(2.8, abs=0.05)}
    assert missed([queue(1.2, seed, length=100.0) for seed in range(500)]) >= 0.9


def test_targets_are_multiples_of_what_one_takes_alone() -> None:
    read = [slo.parse(text) for text in targets(450.3)]
    assert {target.name: target.limit for target in read} == {"p90": 2252, "p99": 3602}


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ([], []),
        (["--slo", "p99=3s", "--repeat", "0"], ["--repeat", "0"]),
        (["--repeat=0.5", "--no-ocr", "--duration=9"], ["--repeat=0.5", "--no-ocr"]),
        (["--unary", "--priority", "high=1,normal=9", "--out", "x"],
         ["--unary", "--priority", "high=1,normal=9"]),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_is_sent_is_the_same_when_the_server_is_measured(
    arguments: Sequence[str], kept: Sequence[str]
) -> None:
    assert shaping(arguments) == kept
