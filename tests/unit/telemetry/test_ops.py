"""What ops/ and the runbook speak of is what a server exports; promtool agrees with the rules."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from grpc_health.v1.health_pb2 import HealthCheckResponse
from pydantic import BaseModel

from pagesight_server.common.cache import SingleFlightLru
from pagesight_server.common.errors import RequestError
from pagesight_server.common.timings import Run
from pagesight_server.config import Config
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.telemetry import Telemetry, setup, watch
from pagesight_server.telemetry.drift import MIN_ANSWERS
from pagesight_server.telemetry.instruments import REQUEST_S
from tests.support.manual import manual, page
from tests.support.parts import snapshot, unit

ROOT = Path(__file__).parents[3]
OPS = ROOT / "ops"
RULES = OPS / "prometheus" / "rules.yml"
DASHBOARD = OPS / "grafana" / "dashboards" / "pagesight.json"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queries(node: Any) -> list[str]:
    """All expressions of a dashboard, wherever they stand."""
    if isinstance(node, dict):
        own = [node["expr"]] if isinstance(node.get("expr"), str) else []
        return own + [q for value in node.values() for q in queries(value)]
    return [q for value in node for q in queries(value)] if isinstance(node, list) else []


@pytest.fixture(scope="module")
def exported() -> str:
    """The Prometheus endpoint once everything has happened that is measured."""
    env = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
    }
    exporting = setup(env)
    told: Telemetry = exporting.telemetry
    known = Knowledge.of(snapshot(("a", (1, 0), ())))
    watch(
        exporting.meter,
        told,
        queues={"encode": lambda: 0},
        caches={"lines": SingleFlightLru[str, str](1)},
        lines=lambda: {"once": 0},
        known=lambda: {"default": known},
        store_age_s=lambda: 0.25,
    )
    query = Query(embedding=unit(1, 0), reading=None)
    decision = decide(
        known.method.weigh(query, known.method.search(query.embedding)),
        known.calibration,
        with_text=False,
    )
    found = Answer(decision=decision, knowledge=known, query=query)
    for _ in range(MIN_ANSWERS):
        with told.message("m") as message:
            message.admitted()
            message.times.add("decode", 0.0, 1.0)
            message.answered(found)
    with pytest.raises(KeyError), told.message("m"):
        raise KeyError
    with told.call("m", {}) as span:
        told.called(span, "m", "OK", 1.0)
    told.ran(Run(stage="encode", start_s=0, end_s=1, items=(), closed="idle"))
    with urllib.request.urlopen(f"http://{exporting.metrics_address}/metrics", timeout=10) as page:
        text: str = page.read().decode()
    exporting.close()
    return text


def test_every_metric_and_label_of_rules_and_dashboard_is_one_that_a_server_exports(
    exported: str,
) -> None:
    series = set(re.findall(r"^(\w+)(?:\{| )", exported, re.MULTILINE))
    labels = set(re.findall(r'[{,](\w+)="', exported))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [rule["expr"] for rule in rules()] + queries(json.loads(DASHBOARD.read_text()))
    used = {
        name
        for text in expressions
        for name in re.findall(r"\b(?:pagesight|rpc_server)[\w:]*\b", text)
    } - {"pagesight"}
    assert len(used) > 20
    assert {n for n in used if ":" in n} <= recorded
    plain = {n for n in used if ":" not in n}
    assert plain <= series | labels, plain - series - labels
    matched = {m for text in expressions for m in re.findall(r'(\w+)\s*(?:=|!=|=~|!~)"', text)}
    assert matched <= labels | {"instance", "job", "le"}


def test_the_dashboard_shows_what_an_operator_asks_for_first() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    shown = {(panel["type"], query) for panel in panels for query in queries(panel)}

    def has(kind: str, *parts: str) -> bool:
        return any(of == kind and all(part in q for part in parts) for of, q in shown)

    assert has("timeseries", "by (rpc_method, pagesight_outcome)", "rate(pagesight_outcome_total")
    assert has("timeseries", "error_type", "pagesight_outcome_total")
    assert has("timeseries", "histogram_quantile(0.99", "pagesight_request_duration_seconds_bucket")
    assert has("timeseries", "pagesight_queue_depth")
    assert has("timeseries", "pagesight_queue_oldest_age_seconds")
    assert has("timeseries", "pagesight_batch_size")
    for stage in ("decode", "encode", "detect", "recognise", "search", "evidence"):
        assert has("heatmap", "pagesight_stage_duration_seconds_bucket", f'"{stage}"')
    assert has("timeseries", "pagesight_other_share")
    assert has("timeseries", "pagesight_score_drift")
    assert has("timeseries", "pagesight:availability_errors:ratio_rate1h")
    assert has("timeseries", "pagesight:latency_errors:ratio_rate1h")
    assert has("timeseries", "by (pagesight_read)", "rate(pagesight_lines_total")


def test_the_dashboard_shows_what_wakes_an_operator() -> None:
    board = " ".join(queries(json.loads(DASHBOARD.read_text())))
    paging = [rule["expr"] for rule in rules() if rule.get("labels") == {"severity": "page"}]
    # A recorded ratio is shown for some of its windows.
    names = {
        name
        for text in paging
        for name in re.findall(r"\b(?:pagesight:\w+(?=:ratio_rate)|pagesight_\w+)", text)
    }
    assert "pagesight_gallery_age_seconds" in names
    assert {name for name in names if name not in board} == set()


def test_a_panel_that_ignores_the_chosen_servers_says_so_in_its_title() -> None:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        chosen = {"$instance" in query for query in queries(panel)}
        assert ("all servers" in panel["title"]) == (False in chosen), panel["title"]


def test_no_panels_of_the_dashboard_overlap() -> None:
    board = json.loads(DASHBOARD.read_text())
    cells = [
        (x, y)
        for panel in board["panels"]
        for at in (panel["gridPos"],)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def kinds_of_errors() -> list[type[RequestError]]:
    kinds = RequestError.__subclasses__()
    for kind in kinds:
        kinds += kind.__subclasses__()
    return kinds


def test_of_every_reason_it_is_decided_whether_it_spends_the_budget() -> None:
    kinds = kinds_of_errors()
    by_caller = {kind.reason for kind in kinds if kind.fault == "caller"}
    by_server = {kind.reason for kind in kinds if kind.fault == "server"}
    # What each is, is said here a second time: an error that is new is decided on by a person.
    assert by_server == {
        "BUDGET_SPENT",
        "OVERLOADED",
        "REVISION_BEHIND",
        "SHUTTING_DOWN",
        "STORAGE_FULL",
        "STORE_AWAY",
    }
    assert by_caller | by_server == {kind.reason for kind in kinds}
    assert not by_caller & by_server
    burning = [rule for rule in rules() if "availability_errors" in rule.get("record", "")]
    assert len(burning) == 7
    for rule in burning:
        left_out = re.findall(r'error_type!~"([^"]*)"', rule["expr"])
        assert [set(reasons.split("|")) for reasons in left_out] == [by_caller] * 2


def test_no_reason_is_taken_for_a_bug() -> None:
    (alert,) = [rule for rule in rules() if rule.get("alert") == "PagesightInternalErrors"]
    (no_bug,) = re.findall(r'error_type!~"([^"]*)"', alert["expr"])
    assert all(re.fullmatch(no_bug, kind.reason) for kind in kinds_of_errors())
    assert not re.fullmatch(no_bug, KeyError.__name__)


def test_the_latency_objective_lies_on_a_bucket(exported: str) -> None:
    (bound,) = {b for rule in rules() for b in re.findall(r'le="([^"]+)"', rule["expr"])}
    assert float(bound) in REQUEST_S
    assert f'le="{bound}"' in exported


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    alerts = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    headings = re.findall(r"^## (.+)$", page("alerts.md"), re.MULTILINE)
    assert sorted(headings) == sorted(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_metric_is_in_the_manual(exported: str) -> None:
    manual = page("monitoring.md")
    for name in re.findall(r"^# TYPE (\w+)", exported, re.MULTILINE):
        if name != "target_info":
            assert f"`{name}`" in manual, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "rules", str(RULES)],
        ["test", "rules", *map(str, sorted(OPS.glob("prometheus/rules*_test.yml")))],
        ["check", "config", str(OPS / "prometheus" / "prometheus.yml")],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_agrees(arguments: list[str]) -> None:
    tools = ROOT / ".tools" / "prometheus" / "usr" / "bin"
    program = shutil.which("promtool") or shutil.which("promtool", path=str(tools))
    if program is None:
        reason = "no promtool: `make prometheus` unpacks it where Debian's packages can be had"
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_unit_test() -> None:
    files = OPS.glob("prometheus/rules*_test.yml")
    fired = {
        case["alertname"]
        for file in files
        for test in yaml.safe_load(file.read_text("utf-8"))["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


@pytest.mark.parametrize("path", sorted(OPS.rglob("*.yml")), ids=lambda path: path.name)
def test_every_configuration_can_be_parsed(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))


def test_the_collector_configuration_lets_no_recorded_text_pass() -> None:
    config = yaml.safe_load((OPS / "otel-collector" / "config.yml").read_text("utf-8"))
    processors = config["service"]["pipelines"]["traces"]["processors"]
    deleted = {
        action["key"]
        for name in processors
        for action in config["processors"][name].get("actions", ())
        if action["action"] == "delete"
    }
    assert deleted == {"pagesight.text"}
    for pipeline in config["service"]["pipelines"].values():
        assert set(pipeline["processors"]) <= set(config["processors"])
        assert set(pipeline["receivers"]) <= set(config["receivers"])
        assert set(pipeline["exporters"]) <= set(config["exporters"])


def test_every_setting_that_the_manual_names_is_one() -> None:
    sections = {
        name: set(field.annotation.model_fields)
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    named = re.findall(rf"`({'|'.join(sections)})\.(\w+)", manual())
    assert len(named) > 30
    for section, setting in named:
        assert setting in sections[section], setting
    for name in ("security.md", "limits.md"):
        rows = re.findall(r"^\| (`[^|]*`) \|", page(name), re.MULTILINE)
        assert rows
        for row in rows:
            assert set(re.findall(r"`(\w+)`", row)) <= sections["security"], row


def test_every_reason_that_the_manual_names_is_one_that_callers_see() -> None:
    kinds = kinds_of_errors()
    known = {kind.reason for kind in kinds} | {kind.status for kind in kinds}
    known |= {"TOO_MANY_PINGS"}  # what the SDK makes of gRPC's own end of a connection
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)`", manual()))
    named = {name for name in named if not name.startswith(("OTEL_", "PAGESIGHT_"))}
    assert len(named) > 8
    assert named <= known | set(HealthCheckResponse.ServingStatus.keys())
