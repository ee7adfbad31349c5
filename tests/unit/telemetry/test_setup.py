"""Which exporters the environment asks for, and that nothing is on unless it does."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.telemetry import Exporting, setup
from pagesight_server.telemetry.exporting import exporters_of

OTLP = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


@pytest.mark.parametrize(
    ("env", "traces", "metrics"),
    [
        pytest.param({}, (), (), id="nothing is said: nothing is on"),
        pytest.param(OTLP, ("otlp",), ("otlp",), id="an endpoint takes both signals"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"},
            ("otlp",),
            (),
            id="an endpoint of one signal takes that",
        ),
        pytest.param(
            OTLP | {"OTEL_METRICS_EXPORTER": "prometheus"},
            ("otlp",),
            ("prometheus",),
            id="what is named wins over the endpoint",
        ),
        pytest.param(
            OTLP | {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp, prometheus"},
            (),
            ("otlp", "prometheus"),
            id="none is none, and there may be several",
        ),
        pytest.param(OTLP | {"OTEL_SDK_DISABLED": "True"}, (), (), id="the master switch"),
    ],
)
def test_the_environment_says_what_is_exported(
    env: dict[str, str], traces: tuple[str, ...], metrics: tuple[str, ...]
) -> None:
    assert exporters_of(env) == (traces, metrics)


@pytest.mark.parametrize(
    ("env", "problem"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER is 'zipkin': use one of otlp"),
        (OTLP | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "sends OTLP over gRPC alone"),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "many"},
            "cannot offer metrics on localhost:many",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_to_write(
    env: dict[str, str], problem: str
) -> None:
    with pytest.raises(SetupError, match=problem):
        setup(env)


def test_without_an_exporter_no_thread_starts_and_nothing_is_recorded() -> None:
    before = set(threading.enumerate())
    exporting = setup({})
    with exporting.telemetry.message("m") as message:
        message.admitted()
    assert not message.times.span.is_recording()
    assert set(threading.enumerate()) <= before
    exporting.close()


@pytest.mark.parametrize(
    ("sampler", "argument", "sampled"),
    [
        ("", "", True),
        ("always_on", "", True),
        ("always_off", "", False),
        ("traceidratio", "1", True),
        ("traceidratio", "0", False),
        ("parentbased_always_off", "", False),
        ("parentbased_traceidratio", "0", False),
    ],
)
def test_the_sampler_of_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch, sampler: str, argument: str, sampled: bool
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    # A collector that nobody reaches: spans are made, and none is waited for.
    monkeypatch.setattr(
        "opentelemetry.sdk.trace.export.ConsoleSpanExporter.export", lambda *_: None
    )
    exporting = setup({"OTEL_TRACES_EXPORTER": "console"})
    with exporting.telemetry.message("m") as message:
        assert message.times.span.is_recording() == sampled
    if "parentbased" in sampler:
        asked_for = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        with exporting.telemetry.message("m", traceparent=asked_for) as message:
            assert message.times.span.is_recording()
    exporting.close()


def test_an_exporter_of_logs_is_told_where_logs_go(caplog: pytest.LogCaptureFixture) -> None:
    setup({"OTEL_LOGS_EXPORTER": "otlp"}).close()
    assert "logs go to standard error" in caplog.text


def test_where_everything_is_disabled_nothing_listens_and_nothing_is_recorded() -> None:
    before = set(threading.enumerate())
    exporting = setup(
        OTLP
        | {
            "OTEL_SDK_DISABLED": "true",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        }
    )
    assert (exporting.traces, exporting.metrics, exporting.metrics_address) == ((), (), "")
    with exporting.telemetry.message("m") as message:
        assert not message.times.span.is_recording()
    assert set(threading.enumerate()) <= before
    exporting.close()


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        env = {
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
        }
        with pytest.raises(SetupError, match=f"cannot offer metrics on 127.0.0.1:{port}"):
            setup(env)


def test_prometheus_finds_who_we_are_and_nothing_listens_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    env = {
        "OTEL_METRICS_EXPORTER": "prometheus",
        "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
    }
    exporting = setup(env)
    with exporting.telemetry.message("m") as message:
        message.admitted()
    with urllib.request.urlopen(f"http://{exporting.metrics_address}/metrics", timeout=10) as page:
        text = page.read().decode()
    exporting.close()
    assert 'deployment_environment_name="staging"' in text
    assert 'service_name="pagesight-server"' in text
    assert "# TYPE pagesight_request_duration_seconds histogram" in text
    host, port = exporting.metrics_address.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=10)


def test_the_service_name_of_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    from pagesight_server.telemetry.exporting import _resource

    assert _resource().attributes["service.name"] == "pagesight-server"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "pages-eu")
    assert _resource().attributes["service.name"] == "pages-eu"


def test_each_process_of_a_server_is_an_instance_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pagesight_server.telemetry.exporting import _resource

    first, second = (_resource(number).attributes for number in (1, 2))
    assert first["service.instance.id"] != second["service.instance.id"]
    assert first["process.pid"] == os.getpid()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-7")
    ids = [_resource(number).attributes["service.instance.id"] for number in (0, 1, 2)]
    assert ids == ["pod-7", "pod-7-1", "pod-7-2"]


def test_a_collector_that_hangs_holds_up_the_end_for_a_few_seconds_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pagesight_server.telemetry.exporting.CLOSE_S", 0.05)
    from pagesight_server.telemetry import Telemetry

    stuck = threading.Event()
    exporting = Exporting(telemetry=Telemetry(), closers=(lambda: stuck.wait(60),))
    began_s = time.monotonic()
    exporting.close()
    assert time.monotonic() - began_s < 30
    stuck.set()
    assert "its last signals are lost" in caplog.text
