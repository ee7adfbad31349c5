"""The real server sends to a real OTLP collector, and a real Prometheus scrapes it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc, gallery_pb2_grpc
from pagesight.v1 import gallery_pb2 as gpb
from tests.support.collector import Collector, collecting
from tests.support.manual import page

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "prometheus" / "usr" / "bin"
START_S = 60.0
ID_NUMBER = "110101199003078515"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REMEMBERED_TRACE = "ab" * 16
REMEMBERED = f"00-{REMEMBERED_TRACE}-00f067aa0ba902b7-01"
SAMPLED, UNSAMPLED = f"00-{TRACE}-00f067aa0ba902b7-01", f"00-{TRACE[::-1]}-00f067aa0ba902b7-00"


def tool(name: str) -> str:
    """A program of Debian's prometheus package; skips, or fails where it is required."""
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        reason = f"no {name}: `make prometheus` unpacks it where Debian's packages can be had"
        if os.environ.get("REQUIRE_PROMETHEUS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def card() -> bytes:
    """A screenshot with an ID number on it."""
    pixels = np.full((320, 720, 3), 255, np.uint8)
    pixels[:80] = (20, 80, 200)
    cv2.putText(pixels, "ID card", (20, 150), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (0, 0, 0), 2)
    # With a word before it: lines of digits alone are no evidence, so they are in no reply.
    text = f"number {ID_NUMBER}"
    cv2.putText(pixels, text, (20, 230), cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2)
    return bytes(cv2.imencode(".png", pixels)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A server that was asked a few things, and all it told."""

    collector: Collector
    read: str
    """What the OCR engine read from the card, as the reply told the caller."""
    scraped: str
    """The Prometheus endpoint's text."""
    log: str


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Iterator[Observed]:
    """Runs a server from start to SIGTERM with everything on."""
    folder = tmp_path_factory.mktemp("observed")
    with collecting() as (collector, endpoint):
        environment = os.environ | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_TRACES_SAMPLER": "parentbased_always_off",
            "OTEL_SERVICE_NAME": "pagesight-test",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,team=pages",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=eu",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "7",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "PAGESIGHT_TELEMETRY__LOGS": "json",
        }
        command = [
            *(sys.executable, "-W", "error", "-m", "pagesight_server", "serve", "--port", "0"),
            *("--json", "--store", str(folder / "g.db"), "--bundles", str(bundles)),
        ]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        ) as process:
            try:
                assert process.stdout is not None
                listening = json.loads(process.stdout.readline())
                read = ask(f"127.0.0.1:{listening['port']}")
                page = f"http://{listening['metrics']}/metrics"
                scraped = urllib.request.urlopen(page, timeout=START_S).read().decode()
                check_with_prometheus(listening["metrics"], folder)
                process.send_signal(signal.SIGTERM)
                _, log = process.communicate(timeout=START_S)
                assert process.returncode == 0, log
            finally:
                process.kill()
        yield Observed(collector=collector, read=read, scraped=scraped, log=log)


def ask(address: str) -> str:
    """Enrols the card, classifies it in a stream, and gives what was read from it."""
    with grpc.insecure_channel(address) as channel:
        gallery: Any = gallery_pb2_grpc.GalleryServiceStub(channel)
        item = gpb.EnrolItem(image=card(), label="id_card")
        messages = [gpb.EnrolRequest(header=gpb.Change()), gpb.EnrolRequest(item=item)]
        *_, last = gallery.Enrol(iter(messages), timeout=START_S)
        assert last.result.revision == 1
        classifier: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)
        options = pb.Options(explain=True, top_k=1)
        # Other bytes than those enrolled, so that they are read and not remembered.
        again = cv2.imencode(".jpg", cv2.imdecode(np.frombuffer(card(), np.uint8), 1))[1].tobytes()
        requests = [
            pb.ClassifyStreamRequest(
                request_id=name,
                query=pb.Query(image=image, traceparent=traceparent, options=options),
            )
            for name, image, traceparent in (
                ("sampled", again, SAMPLED),
                ("unsampled", card(), UNSAMPLED),
                ("broken", b"no picture", SAMPLED),
                ("remembered", card(), REMEMBERED),
            )
        ]
        replies = {
            reply.request_id: reply
            for reply in classifier.ClassifyStream(iter(requests), timeout=START_S)
        }
        assert replies["broken"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        found = replies["sampled"].classification
        assert found.label == "id_card"
        return " ".join(line.query_text for line in found.candidates[0].matching_lines)


SCRAPED: dict[str, Any] = {}
"""What Prometheus answered, or why it was not asked: the server lives in a fixture."""


def check_with_prometheus(metrics: str, folder: Path) -> None:
    """Has a Prometheus scrape the server, and asks it back."""
    program = shutil.which("prometheus") or shutil.which("prometheus", path=str(TOOLS))
    if program is None:
        return
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"rule_files: [{ROOT / 'ops' / 'prometheus' / 'rules.yml'}]\n"
        f"scrape_configs: [{{job_name: pagesight, static_configs: [{{targets: ['{metrics}']}}]}}]\n"
    )
    with subprocess.Popen(
        [
            *(program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"),
            *("--web.listen-address=127.0.0.1:0", "--log.format=json"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    ) as prometheus:
        try:
            assert prometheus.stderr is not None
            address = ""
            for line in prometheus.stderr:
                said = json.loads(line)
                if said.get("msg") == "Listening on":
                    address = said["address"]
                if said.get("msg", "").startswith("Server is ready"):
                    break
            assert address, "prometheus did not listen"
            # Prometheus tells nobody when it has scraped: ask until it has.
            deadline_s = time.monotonic() + START_S
            query = "sum by (pagesight_outcome) (pagesight_outcome_total)"
            while not (found := asked(address, query)) and time.monotonic() < deadline_s:
                pass
            SCRAPED["outcomes"] = {
                row["metric"]["pagesight_outcome"]: float(row["value"][1]) for row in found
            }
            SCRAPED["up"] = asked(address, "up")
        finally:
            prometheus.terminate()


def asked(address: str, query: str) -> list[dict[str, Any]]:
    """The answer of Prometheus to an instant query."""
    url = f"http://{address}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(url, timeout=START_S) as page:
        rows: list[dict[str, Any]] = json.load(page)["data"]["result"]
        return rows


def test_a_collector_gets_the_trace_of_what_the_caller_sampled_and_nothing_else(
    observed: Observed,
) -> None:
    spans = [s for s in observed.collector.spans if s.trace_id.hex() == TRACE]
    known = next(s for s in spans if "known" in str(s.attributes))
    stages = {s.name for s in spans if s.parent_span_id == known.span_id}
    assert stages == {
        *("queue.wait", "decode", "encode", "detect", "recognise"),
        *("search", "evidence", "decide"),
    }
    sampled = {TRACE, REMEMBERED_TRACE}
    others = [s for s in observed.collector.spans if s.trace_id.hex() not in sampled]
    # Batches alone are recorded in traces of their own, each linked with the message.
    assert {s.name for s in others} == {"encode batch", "recognise batch"}
    for span in others:
        assert [link.span_id for link in span.links] == [known.span_id]


def test_a_screenshot_that_was_enrolled_is_remembered_and_its_span_says_so(
    observed: Observed,
) -> None:
    def remembered(trace: str) -> set[str]:
        return {
            str(item.value.bool_value)
            for span in observed.collector.spans
            if span.trace_id.hex() == trace
            for item in span.attributes
            if item.key == "pagesight.remembered"
        }

    assert (remembered(TRACE), remembered(REMEMBERED_TRACE)) == ({"False"}, {"True"})
    names = {s.name for s in observed.collector.spans if s.trace_id.hex() == REMEMBERED_TRACE}
    assert names == {"pagesight.classify", "queue.wait", "search", "evidence", "decide"}


def test_a_collector_gets_every_metric_with_unit_and_exemplar(observed: Observed) -> None:
    metrics = observed.collector.metrics
    units = {name: metrics[name].unit for name in sorted(metrics)}
    assert (
        units.items()
        >= {
            "rpc.server.call.duration": "s",
            "pagesight.request.duration": "s",
            "pagesight.queue.wait": "s",
            "pagesight.batch.size": "{item}",
            "pagesight.stage.duration": "s",
            "pagesight.outcome": "{request}",
            "pagesight.queue.depth": "{item}",
            "pagesight.queue.oldest_age": "s",
            "pagesight.gallery.revision": "",
            "pagesight.gallery.size": "{picture}",
            "pagesight.other.share": "",
            "pagesight.memory.lookups": "{lookup}",
            "pagesight.lines": "{line}",
        }.items()
    )
    exemplars = {
        exemplar.trace_id.hex()
        for request in observed.collector.received
        for resource in getattr(request, "resource_metrics", ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "pagesight.request.duration"
        for point in metric.histogram.data_points
        for exemplar in point.exemplars
    }
    assert TRACE in exemplars
    assert exemplars <= {TRACE, REMEMBERED_TRACE}


def test_the_prometheus_endpoint_has_no_exemplars_as_the_manual_says(observed: Observed) -> None:
    assert "_bucket{" in observed.scraped
    assert " # {" not in observed.scraped


def test_the_collector_is_told_who_sends_as_the_variables_say(observed: Observed) -> None:
    collector = observed.collector
    assert len(collector.resources) > 2
    for sender in collector.resources:
        assert sender["service.name"] == "pagesight-test"
        assert sender["deployment.environment.name"] == "staging"
        assert sender["team"] == "pages"
        assert sender["service.version"]
    assert {sent["x-tenant"] for sent in collector.metadata} == {"eu"}
    # Ten unless set; clocks differ by milliseconds.
    assert 6 < max(collector.patience_s) < 8
    # Traces and metrics of one process.
    assert len({sender["service.instance.id"] for sender in collector.resources}) == 1


def test_every_metric_of_the_manual_is_one_that_a_running_server_exports(
    observed: Observed,
) -> None:
    table = page("monitoring.md").split("\n## Metrics\n")[1].split("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    exported = set(re.findall(r"^# TYPE (\w+)", observed.scraped, re.MULTILINE))
    # Drift of scores is told from fifty answers on; test_telemetry_ops.py gives as many.
    assert named - exported == {"pagesight_score_drift"}
    assert exported - named == {"target_info"}


def test_an_id_number_that_was_read_is_nowhere_but_in_the_reply(observed: Observed) -> None:
    digits = "".join(filter(str.isdigit, observed.read))
    assert ID_NUMBER in digits, "the number was not read, so this test would prove nothing"
    exported = [str(request) for request in observed.collector.received]
    for text in (*exported, observed.scraped, observed.log):
        assert ID_NUMBER not in text
        assert ID_NUMBER not in "".join(filter(str.isdigit, text))
    assert observed.collector.spans


def test_logs_are_json_and_end_cleanly(observed: Observed) -> None:
    lines = [json.loads(line) for line in observed.log.splitlines()]
    assert "draining for at most 20 s" in [line["message"] for line in lines]
    assert {line["level"] for line in lines} == {"INFO"}


def test_the_last_spans_are_sent_although_no_export_was_due(observed: Observed) -> None:
    # The sampled message came after the enrolment and SIGTERM at once; OTEL_BSP_SCHEDULE_DELAY
    # is 5 s, so what arrived was flushed at the end at the latest.
    assert any(span.name == "pagesight.classify" for span in observed.collector.spans)


def test_prometheus_scrapes_the_server(observed: Observed) -> None:
    tool("prometheus")
    assert observed.scraped
    assert SCRAPED["outcomes"] == {"known": 3, "error": 1}
    assert [row["value"][1] for row in SCRAPED["up"]] == ["1"]


def test_promtool_finds_nothing_wrong_with_the_endpoint(observed: Observed) -> None:
    checked = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=observed.scraped,
        capture_output=True,
        text=True,
        check=False,
    )
    # It would have target_info be a counter or lack its suffix; OpenMetrics wants it so.
    complaints = [line for line in checked.stderr.splitlines() if "target_info" not in line]
    assert complaints == []
