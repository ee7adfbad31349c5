"""`make loadtest`'s program, with a real server and little of everything."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests import loadtest
from tests.samples import DEMO_LABELS

LITTLE = loadtest.Size(
    labels=DEMO_LABELS[:2],
    test=1,
    other=0,
    jobs=1,
    most=("--warmup", "0", "--count", "4"),
    alone=("--warmup", "0", "--count", "2"),
)
QUICK = ("--warmup", "0", "--count", "4")
LoadTest: TypeAlias = Callable[..., int]


@pytest.fixture
def load_test(tmp_path: Path, bundles: Path, monkeypatch: pytest.MonkeyPatch) -> LoadTest:
    """Runs it in a folder that holds no more than the bundles."""
    (tmp_path / "bundles").symlink_to(bundles)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: loadtest.main([*QUICK, *arguments], LITTLE)


def report() -> Any:
    return json.loads(Path("loadtest/report.json").read_text("utf-8"))


def test_it_measures_the_server_and_reports_a_load_of_half_of_that(
    load_test: LoadTest, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # So loose that a machine which does other things meets it.
    monkeypatch.setattr(loadtest, "PROMISED", {"p90": 1000.0, "p99": 2000.0})
    assert load_test() == 0
    said = capfd.readouterr().out
    found = report()
    assert found["duration_s"] > 0
    assert (found["sent"], found["ok"], found["errors"]) == (4, 4, {})
    assert found["rate_achieved"] > 0
    assert found["rate_offered"] > 0
    latencies = [found["latency_ms"][name] for name in ("p50", "p90", "p95", "p99", "p999", "max")]
    assert latencies == sorted(latencies)
    assert latencies[0] > 0
    assert {"decode", "encode", "read", "search", "total"} <= found["stages_ms"].keys()
    assert all(stage.keys() == {"p50", "p99"} for stage in found["stages_ms"].values())
    p90, p99 = (found["slo"][name] for name in ("p90", "p99"))
    assert p90 == {"limit_ms": p90["limit_ms"], "value_ms": p90["value_ms"], "met": True}
    assert p99["limit_ms"] == pytest.approx(2 * p90["limit_ms"], rel=0.01)
    assert f"{p90['limit_ms'] / 1000:.0f} ms, the median of 2" in said
    assert found["slo_shares"]["errors"] == {"limit": 0.01, "value": 0.0, "met": True}
    most = next(line for line in said.splitlines() if line.endswith("screenshots a second"))
    assert found["plan"]["rate"] == pytest.approx(0.5 * float(most.split()[0]), rel=0.01, abs=0.01)
    assert "<svg" in Path("loadtest/report.html").read_text("utf-8")


def test_a_missed_target_is_its_exit_code_and_its_signals_are_given_back(
    load_test: LoadTest,
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert load_test("--rate", "100", "--slo", "p50=1us", "--slo", "errors=0%") == 3
    found = report()
    assert found["plan"]["rate"] == 100
    assert found["slo"]["p50"]["met"] is False
    assert found["slo_shares"]["errors"]["met"] is True
    assert signal.getsignal(signal.SIGTERM) is before
