"""`pagesight load` against servers on real sockets: what is sent, counted, written and said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner, Result

from pagesight._cli import app
from pagesight._load import crew
from pagesight._load.blocks import Blocks
from pagesight._load.crew import Generator
from pagesight._load.plan import Plan
from pagesight._load.wire import Access
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.pictures import BLUE, RED, solid
from tests.support.serving import serving

Run: TypeAlias = Callable[..., Result]
QUICK = ("--rate", 200, "--count", 20, "--warmup", 0)


@pytest.fixture
def pagesight(server: FakeServer) -> Run:
    def run(*arguments: object) -> Result:
        settings = {"PAGESIGHT_ADDRESS": server.address, "COLUMNS": "100"}
        return CliRunner().invoke(app, [str(argument) for argument in arguments], env=settings)

    return run


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = tmp_path / "shots"
    folder.mkdir()
    (folder / "1.png").write_bytes(solid(RED))
    (folder / "2.jpg").write_bytes(solid(BLUE, kind="JPEG"))
    return folder


def read(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text("utf-8"))


@pytest.mark.parametrize("calls", [[], ["--unary"]], ids=["stream", "unary"])
def test_an_open_loop_sends_as_told_and_reports(
    pagesight: Run, server: FakeServer, shots: Path, tmp_path: Path, calls: list[str]
) -> None:
    result = pagesight(
        "load", shots, *QUICK, *calls, "--out", tmp_path / "out", "--gallery", "apps", "--no-ocr",
        "--priority", "high", "--deadline-ms", "9000", "--slo", "p99=20s", "--slo", "errors=1%",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    queries = server.classifier.queries
    assert len({query.image for query in queries}) == len(queries) == 20
    assert {(q.gallery, q.priority, q.deadline_ms, q.options.ocr) for q in queries} == {
        ("apps", 3, 9000, 2)
    }
    found = read(tmp_path / "out")
    assert (found["sent"], found["ok"], found["errors"]) == (20, 20, {})
    assert found["latency_ms"]["p50"] <= found["latency_ms"]["max"] < 20_000
    # As the fake server says.
    assert found["stages_ms"]["decode"]["p50"] == pytest.approx(2.5, rel=0.001)
    assert found["slo"]["p99"]["met"] is True
    assert found["servers"] == {"builtin-1, revision 0": 20}
    assert found["pictures"]["distinct_sends"] == 20
    assert "<svg" in (tmp_path / "out/report.html").read_text("utf-8")
    assert "20 of 20 answered" in result.stdout
    # In per cent, as the target was given.
    assert "errors 1.00% 0.00% met" in " ".join(result.stdout.split())
    assert result.stderr == ""


def test_a_closed_loop_over_several_streams_is_answered(
    pagesight: Run, server: FakeServer, shots: Path
) -> None:
    result = pagesight(
        "load", shots, "--closed", "--streams", 2, "--in-flight", 3, "--count", 40, "--warmup", 0,
        "--repeat", 0.5, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["sent"], found["ok"]) == (40, 40)
    pictures = found["pictures"]
    assert pictures["distinct_sends"] + pictures["repeated_sends"] == 40
    assert len({query.image for query in server.classifier.queries}) == pictures["distinct_sends"]
    assert pictures["repeated_sends"] > 5
    assert len(set(server.classifier.request_ids)) == 40


@pytest.mark.parametrize("calls", [[], ["--unary"]], ids=["stream", "unary"])
def test_errors_are_counted_by_status(pagesight: Run, tmp_path: Path, calls: list[str]) -> None:
    for name, data in {"1.png": b"login", "2.png": b"bad", "3.png": b"busy"}.items():
        (tmp_path / name).write_bytes(data)
    one_missed = ("--slo", "p99=20s", "--slo", "errors=10%")
    result = pagesight(
        "load", tmp_path, "--rate", 200, "--count", 30, "--warmup", 0, *calls, *one_missed,
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 3, result.output
    found = read(tmp_path / "out")
    assert found["errors"] == {"INVALID_ARGUMENT": 10, "RESOURCE_EXHAUSTED": 10}
    assert (found["sent"], found["ok"]) == (30, 10)
    assert found["slo_shares"]["errors"]["met"] is False
    assert "10 x RESOURCE_EXHAUSTED: the queue is full" in result.stdout
    # Files of no known type cannot be made different.
    assert found["pictures"]["unchanged_sends"] == 30


def test_a_latency_that_is_missed_is_exit_code_3(pagesight: Run, shots: Path) -> None:
    result = pagesight("load", shots, *QUICK, "--slo", "p50=1us")
    assert result.exit_code == 3
    assert "missed" in result.stdout


def test_a_load_of_which_nothing_is_answered_failed(
    pagesight: Run, shots: Path, tmp_path: Path
) -> None:
    result = pagesight("load", shots, *QUICK, "--gallery", "nowhere", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == "pagesight: nothing was answered: 20 x NOT_FOUND\n"
    assert read(tmp_path / "out")["errors"] == {"NOT_FOUND": 20}


def test_a_server_that_is_not_there_is_one_line(pagesight: Run, shots: Path) -> None:
    result = pagesight("load", shots, *QUICK, "--address", "127.0.0.1:1")
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert "no server answers at 127.0.0.1:1" in line


def test_a_stream_that_breaks_fails_what_it_owed_and_the_next_is_answered(
    pagesight: Run, tmp_path: Path
) -> None:
    (tmp_path / "1.png").write_bytes(b"login")
    (tmp_path / "2.png").write_bytes(b"leave")
    result = pagesight(
        "load", tmp_path, "--closed", "--in-flight", 1, "--count", 12, "--warmup", 0, "--json"
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["ok"], found["errors"]) == (6, {"UNAVAILABLE": 6})
    assert found["error_examples"] == {"UNAVAILABLE": "the server ended the stream"}


@pytest.mark.parametrize("calls", [[], ["--unary"]], ids=["stream", "unary"])
def test_what_is_never_answered_counts_when_its_time_is_over(
    pagesight: Run, server: FakeServer, tmp_path: Path, calls: list[str]
) -> None:
    (tmp_path / "1.png").write_bytes(b"login")
    (tmp_path / "2.png").write_bytes(b"mute")
    result = pagesight(
        "load", tmp_path, "--rate", 100, "--count", 4, "--warmup", 0, "--timeout", 3, "--json",
        *calls,
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert (found["ok"], found["errors"]) == (2, {"DEADLINE_EXCEEDED": 2})


def test_processes_share_a_load_and_their_counts_are_added(
    pagesight: Run, server: FakeServer, shots: Path
) -> None:
    result = pagesight("load", shots, *QUICK, "--processes", 2, "--slo", "errors=0%", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["sent"], found["ok"]) == (20, 20)
    assert found["generator"]["processes"] == 2
    assert len({query.image for query in server.classifier.queries}) == 20


def test_processes_that_take_too_long_to_begin_are_one_line(
    pagesight: Run, shots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "READY_S", 0.0)
    result = pagesight("load", shots, *QUICK, "--processes", 2)
    assert result.exit_code == 1
    [said] = result.stderr.splitlines()
    assert said.startswith("pagesight: the processes were not ready within 0 s")


def test_a_report_is_written_of_a_folder_whose_name_is_no_text(
    pagesight: Run, shots: Path, tmp_path: Path
) -> None:
    odd = shots.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    result = pagesight("load", odd, *QUICK, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert read(tmp_path / "out")["plan"]["names"] == [str(odd)]
    assert "\\udcff" in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_a_process_that_cannot_begin_says_why(pagesight: Run, tmp_path: Path) -> None:
    gone = tmp_path / "gone.png"
    for processes in (1, 2):
        result = pagesight("load", gone, *QUICK, "--processes", processes)
        assert result.exit_code == 1
        assert result.stderr == f"pagesight: cannot read {gone}: No such file or directory\n"


def test_rates_are_tried_in_turn_and_the_highest_that_holds_is_reported(
    pagesight: Run, shots: Path, tmp_path: Path
) -> None:
    steps = ("--steps", "50,100", "--duration", 0.3, "--warmup", 0)
    result = pagesight("load", shots, *steps, "--slo", "p99=20s", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = read(tmp_path / "out")
    assert [row["rate"] for row in found["steps"]] == [50, 100]
    assert found["knee"]["rate"] == 100
    assert found["knee"]["fails_at"] is None
    assert "the knee was not reached: the highest rate that was tried, 100 a second, holds" in (
        " ".join(result.stdout.split())
    )
    assert result.stderr.count("answered, p99") == 2


def test_rates_of_which_none_holds_are_exit_code_3_and_the_last_line_says_so(
    pagesight: Run, shots: Path
) -> None:
    (shots / "3.png").write_bytes(b"busy")
    result = pagesight(
        "load", shots, "--find-knee", "--rate", 100, "--duration", 0.3, "--warmup", 0
    )
    assert result.exit_code == 3, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("pagesight: the server is overloaded at the lowest rate, 100 a second")
    assert " x RESOURCE_EXHAUSTED" in last


def test_a_find_knee_is_compared_by_its_knee(pagesight: Run, shots: Path, tmp_path: Path) -> None:
    steps = ("--steps", "50,100", "--duration", 0.3, "--warmup", 0)
    assert pagesight("load", shots, *steps, "--out", tmp_path / "a").exit_code == 0
    before = read(tmp_path / "a")
    before["knee"] |= {"rate": 400.0, "fails_at": 450.0}
    before["steps"].append(before["steps"][-1] | {"rate": 450.0, "held": False})
    earlier = tmp_path / "before.json"
    earlier.write_text(json.dumps(before), "utf-8")
    lower = pagesight("load", shots, "--steps", 50, *steps[2:], "--compare", earlier)
    # It was not tried above 50, so it may well be as high.
    assert lower.exit_code == 0, lower.output
    after = before | {"knee": before["knee"] | {"rate": 100.0, "fails_at": 110.0}}
    (tmp_path / "after.json").write_text(json.dumps(after), "utf-8")
    worse = pagesight("load", "--compare", earlier, tmp_path / "after.json")
    assert worse.exit_code == 3
    assert "worse: knee / s worse" in worse.stdout


def answered(report: Any, ms: float) -> Any:
    """The same report, with 200 answers that all took as long."""
    blocks = Blocks()
    for number in range(200):
        blocks.record_s(number / 20, ms / 1000)
    counts = {"sent": 200, "ok": 200, "unsent": 0}
    return report | counts | {"hdr": report["hdr"] | {"blocks": blocks.plain()}}


def test_reports_are_compared(pagesight: Run, shots: Path, tmp_path: Path) -> None:
    assert pagesight("load", shots, *QUICK, "--out", tmp_path / "a").exit_code == 0
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    before = answered(read(tmp_path / "a"), 100)
    a.write_text(json.dumps(before), "utf-8")
    for ms, code, verdict in ((100, 0, "same"), (50, 0, "better"), (150, 3, "worse")):
        b.write_text(json.dumps(answered(before, ms)), "utf-8")
        result = pagesight("load", "--compare", a, b)
        assert result.exit_code == code, result.output
        assert result.stderr == ""
        assert result.stdout.splitlines()[-1].startswith(verdict)
        plain = json.loads(pagesight("load", "--compare", a, b, "--json").stdout)
        assert plain["verdict"] == verdict
        assert plain["in_words"].startswith(verdict)
    b.write_text(json.dumps(before | {"plan": before["plan"] | {"repeat": 0.5}}), "utf-8")
    other = pagesight("load", "--compare", a, b)
    assert other.exit_code == 1
    assert other.stderr == (
        "pagesight: no verdict: the loads differ (repeat: 0.0 before, 0.5 after)\n"
    )
    no_report = "is no report.json of this version of `pagesight load`"
    for wrong, why in {
        "{}": f"the second {no_report}: it has no stages_ms",
        "no json": f"{b} is no report.json of `pagesight load`",
    }.items():
        b.write_text(wrong, "utf-8")
        failed = pagesight("load", "--compare", a, b)
        assert failed.exit_code == 1
        assert failed.stderr == f"pagesight: {why}\n"


def test_a_load_is_compared_with_an_earlier_one(
    pagesight: Run, server: FakeServer, shots: Path, tmp_path: Path
) -> None:
    before, out = tmp_path / "before.json", tmp_path / "out"
    load = ("load", shots, *QUICK, "--count", 60, "--out", out)
    assert pagesight(*load).exit_code == 0
    # So much quicker than any server, or so much slower.
    for ms, code, verdict in ((0.001, 3, "worse"), (60_000, 0, "better")):
        before.write_text(json.dumps(answered(read(out), ms)), "utf-8")
        result = pagesight(*load, "--compare", before, "--json")
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["comparison"]["verdict"] == verdict
        assert read(out)["comparison"]["verdict"] == verdict
    shown = pagesight(*load, "--compare", before)
    assert "60 of 60 answered" in shown.stdout
    assert "better: p50 ms better" in shown.stdout
    before.write_text("{}", "utf-8")
    sent = len(server.classifier.queries)
    assert pagesight(*load, "--compare", before).exit_code == 1
    assert len(server.classifier.queries) == sent


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "5"],
        ["x.png"],
        ["x.png", "--rate", "5", "--closed"],
        ["x.png", "--rate", "0"],
        ["x.png", "--rate", "5", "--slo", "fast"],
        ["x.png", "--rate", "5", "--arrivals", "often"],
        ["x.png", "--steps", "1,x"],
        ["x.png", "--steps", "0,1"],
        ["x.png", "--closed", "--deadline-ms", "soon"],
        ["x.png", "--closed", "--priority", "urgent"],
        ["--compare", "x.json"],
        ["--compare", "x.json", "y.json", "z.json"],
        ["--compare", "x.json", "y.json", "--tolerance", "-1"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_exit_code_2(pagesight: Run, arguments: list[str]) -> None:
    result = pagesight("load", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("number", "code", "more"),
    [
        pytest.param(signal.SIGINT, 130, ("--processes", "2"), id="Ctrl-C, processes"),
        pytest.param(signal.SIGTERM, 143, ("--processes", "2"), id="SIGTERM, processes"),
        pytest.param(signal.SIGTERM, 143, ("--find-knee",), id="SIGTERM, rates"),
    ],
)
def test_a_signal_breaks_the_run_off_and_the_report_is_of_what_was_measured(
    server: FakeServer, shots: Path, tmp_path: Path, number: int, code: int, more: tuple[str, ...]
) -> None:
    command = [
        *(sys.executable, "-m", "pagesight", "load", shots, "--address", server.address),
        *("--rate", "50", "--duration", "600", "--warmup", "0", *more),
        *("--slo", "p99=20s", "--out", tmp_path / "out"),
    ]
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            server.classifier.wait_until_asked(20)
            process.send_signal(number)
            # Its workers hold its stderr too, so this ends when they have ended.
            said, errors = process.communicate(timeout=WAIT_S)
        finally:
            process.kill()
    name = signal.Signals(number).name
    assert process.returncode == code, errors
    assert f"pagesight: broken off by {name} after " in errors
    assert "broken off" in said
    found = read(tmp_path / "out")
    assert (found["interrupted"], found["interrupted_by"]) == (True, name)
    assert found["sent"] == found["ok"] + sum(found["errors"].values())
    assert found["ok"] >= 19
    assert found["slo"]["p99"]["met"] is True
    assert found["duration_s"] < 60
    assert "interrupted" in (tmp_path / "out/report.html").read_text("utf-8")


async def test_a_load_does_not_wait_for_what_an_earlier_one_gave_up(
    server: FakeServer, tmp_path: Path
) -> None:
    (tmp_path / "1.png").write_bytes(b"mute")
    plan = Plan(
        groups=[[str(tmp_path / "1.png")]], names=["x"], rate=100.0, count=1, warmup_s=0.0,
        timeout_s=0.5,
    )  # fmt: skip
    generator = Generator(Access(address=server.address), plan)
    ended = server.classifier.stream_ended
    for streams_ended in (False, True):
        tally = await generator.run(
            plan, start_s=None, stop=asyncio.Event(), progress=lambda *_: None
        )
        assert tally.errors == {"DEADLINE_EXCEEDED": 1}
        assert await asyncio.to_thread(ended.wait, WAIT_S if streams_ended else 0) is streams_ended
    await generator.close()


async def test_a_real_server_takes_distinct_variants_for_what_they_show(tmp_path: Path) -> None:
    shots = {
        "1.png": solid(RED),
        "2.jpg": solid(BLUE, kind="JPEG"),
        "3.webp": solid(RED, kind="WEBP"),
    }
    for name, data in shots.items():
        (tmp_path / name).write_bytes(data)
    groups = [[str(tmp_path / name) for name in shots]]
    async with serving(tmp_path) as server:
        await server.enrol(("red", solid(RED)), ("blue", solid(BLUE)))
        for calls in ("stream", "unary"):
            plan = Plan(
                groups=groups, names=["x"], rate=200.0, count=30, warmup_s=0.0, calls=calls,
                streams=2,
            )  # fmt: skip
            generator = Generator(Access(address=server.address), plan)
            stop = asyncio.Event()
            tally = await generator.run(plan, start_s=None, stop=stop, progress=lambda *_: None)
            await generator.close()
            assert (tally.ok, tally.errors) == (30, {})
            assert tally.bytes_are == {"new": 30}
            assert {"decode", "encode", "total", "queue"} <= tally.stages.keys()
            assert tally.outside.count == 30
