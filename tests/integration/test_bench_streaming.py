"""The bench of the gRPC edge goes its way: it follows what the service asks of a pipeline."""

from __future__ import annotations

from tests.bench.streaming import overhead


def test_every_message_is_answered() -> None:
    (cost,) = overhead(messages=40, rounds=1)
    assert cost.screenshots == 40
    assert cost.wall_s > 0
