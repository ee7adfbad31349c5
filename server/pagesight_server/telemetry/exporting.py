"""Sets up exporters from the standard OTEL_* variables; without them nothing is sent or listens.

    OTEL_TRACES_EXPORTER   otlp, console, none; otlp when an OTLP endpoint is set
    OTEL_METRICS_EXPORTER  otlp, prometheus, console, none; several with commas
    OTEL_SDK_DISABLED      true: nothing at all

The SDK reads the others itself: OTEL_TRACES_SAMPLER[_ARG], OTEL_EXPORTER_OTLP_*,
OTEL_BSP_*, OTEL_METRIC_EXPORT_INTERVAL, OTEL_METRICS_EXEMPLAR_FILTER, OTEL_*_LIMIT. Trace
context is W3C `traceparent` whatever OTEL_PROPAGATORS says, as the service contract has it.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from pagesight_server.common.errors import SetupError
from pagesight_server.telemetry.instruments import Instruments
from pagesight_server.telemetry.messages import Telemetry

log = logging.getLogger(__name__)

SCOPE = "pagesight"
CLOSE_S = 5.0
"""Seconds that the last flush may take: a collector that is gone must not delay a shutdown."""

PROMETHEUS_PORT = 9464
"""OpenTelemetry's default port of the endpoint that Prometheus scrapes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporting:
    """The exporters that run, and the telemetry that feeds them."""

    telemetry: Telemetry
    meter: Meter = field(default_factory=lambda: NoOpMeter(SCOPE))
    traces: tuple[str, ...] = ()
    """Where spans are sent, in words; empty: no spans are made."""
    metrics: tuple[str, ...] = ()
    """Where metrics are sent or offered, in words."""
    metrics_address: str = ""
    """host:port that Prometheus scrapes; empty without that exporter."""
    closers: tuple[Callable[[], object], ...] = ()
    """Flush and stop the exporters, one each."""

    def close(self) -> None:
        """Flushes and stops the exporters within `CLOSE_S`. Blocks: not for event loops."""

        def all_of_them() -> None:
            for close in self.closers:
                try:
                    close()
                except Exception:
                    log.exception("telemetry did not end cleanly")

        # A daemon thread: one that is stuck in the network does not keep the process alive.
        closing = threading.Thread(target=all_of_them, name="telemetry-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        if closing.is_alive():
            log.warning("telemetry did not end within %g s; its last signals are lost", CLOSE_S)


def exporters_of(env: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The exporters of traces and of metrics that the environment names.

    Raises:
        SetupError: an exporter or protocol that this server does not have.
    """
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return (), ()
    traces = _named_exporters(env, "TRACES", ("otlp", "console"))
    metrics = _named_exporters(env, "METRICS", ("otlp", "prometheus", "console"))
    for signal, names in (("TRACES", traces), ("METRICS", metrics)):
        variables = (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        chosen = next(((name, env[name]) for name in variables if env.get(name)), None)
        if "otlp" in names and chosen is not None and chosen[1] != "grpc":
            raise SetupError(
                f"{chosen[0]} is {chosen[1]!r}, and this server sends OTLP over gRPC alone: set it "
                "to grpc, and the endpoint to the collector's gRPC port (4317 by default)"
            )
    return traces, metrics


def _named_exporters(
    env: Mapping[str, str], signal: str, supported: tuple[str, ...]
) -> tuple[str, ...]:
    """The exporters that the variables of one signal name, `none` left out."""
    variable = f"OTEL_{signal}_EXPORTER"
    value = env.get(variable, "").strip()
    if not value:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        return ("otlp",) if any(env.get(name) for name in endpoints) else ()
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
    for name in names:
        if name not in (*supported, "none"):
            raise SetupError(
                f"{variable} is {value!r}: use one of {', '.join(supported)} or none, "
                "several with commas between"
            )
    return tuple(name for name in names if name != "none")


def setup(env: Mapping[str, str], *, record_text: bool = False, process: int = 0) -> Exporting:
    """Starts the exporters that the environment names.

    Args:
        env: The environment; the SDK reads that of the process, which must be the same.
        record_text: Whether spans carry the text of screenshots, digits masked.
        process: Which process of a server with several this is, from 1; 0: the only one.

    Raises:
        SetupError: a value that cannot be used, or a port that cannot be listened on.
    """
    traces, metrics = exporters_of(env)
    if env.get("OTEL_LOGS_EXPORTER", "none").strip() not in ("", "none"):
        log.warning(
            "OTEL_LOGS_EXPORTER is ignored: logs go to standard error, as JSON with "
            "PAGESIGHT_TELEMETRY__LOGS=json; a collector reads them from there"
        )
    if not traces and not metrics:
        return Exporting(telemetry=Telemetry())
    resource = _resource(process)
    closers: list[Callable[[], object]] = []
    tracer = always = None
    if traces:
        processors = [_span_processor(name) for name in traces]
        deciding = TracerProvider(resource=resource, shutdown_on_exit=False)
        # For spans that are sampled already, and for batches, which have no parent to follow.
        agreeing = TracerProvider(ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        for processor in processors:
            deciding.add_span_processor(processor)
            agreeing.add_span_processor(processor)
        tracer, always = deciding.get_tracer(SCOPE), agreeing.get_tracer(SCOPE)
        closers += [processor.shutdown for processor in processors]
    meter: Meter = NoOpMeter(SCOPE)
    address = ""
    if metrics:
        readers = [_metric_reader(name) for name in metrics if name != "prometheus"]
        if "prometheus" in metrics:
            reader, address, stop = _prometheus(env, process)
            readers.append(reader)
            closers.append(stop)
        meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        meter = meters.get_meter(SCOPE)
        closers.append(meters.shutdown)
    endpoint = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    return Exporting(
        telemetry=Telemetry(
            tracer=tracer,
            always=always,
            instruments=Instruments(meter) if metrics else None,
            record_text=record_text,
        ),
        meter=meter,
        traces=tuple(_described(env, "TRACES", name, endpoint) for name in traces),
        metrics=tuple(
            f"http://{address}/metrics"
            if name == "prometheus"
            else _described(env, "METRICS", name, endpoint)
            for name in metrics
        ),
        metrics_address=address,
        closers=tuple(closers),
    )


def _described(env: Mapping[str, str], signal: str, name: str, endpoint: str) -> str:
    """An exporter in words, with its endpoint."""
    if name != "otlp":
        return name
    return f"otlp to {env.get(f'OTEL_EXPORTER_OTLP_{signal}_ENDPOINT') or endpoint}"


def _resource(process: int = 0) -> Resource:
    """Resource attributes: from OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, else defaults.

    Each process of a server is an instance of its own: two that send series of one name would
    overwrite each other's.
    """
    configured = OTELResourceDetector().detect().attributes
    defaults = {
        "service.name": "pagesight-server",
        "service.version": version("pagesight"),
        "service.instance.id": str(uuid.uuid4()),
    }
    attributes = {**defaults, **configured, "process.pid": os.getpid()}
    if process and isinstance(instance := configured.get("service.instance.id"), str):
        attributes["service.instance.id"] = f"{instance}-{process}"
    return Resource.create(attributes)


def _span_processor(name: str) -> SpanProcessor:
    if name == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter())
    # Imported here: it takes a tenth of a second, and most commands export nothing.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())


def _metric_reader(name: str) -> MetricReader:
    if name == "console":
        return PeriodicExportingMetricReader(ConsoleMetricExporter())
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    return PeriodicExportingMetricReader(OTLPMetricExporter())


def _prometheus(
    env: Mapping[str, str], process: int
) -> tuple[MetricReader, str, Callable[[], None]]:
    """A reader that Prometheus scrapes over HTTP, its host:port, and what stops it.

    Each process of a server has a port of its own, the first the one that is set.
    """
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import CollectorRegistry, start_http_server

    host = env.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    port = env.get("OTEL_EXPORTER_PROMETHEUS_PORT") or str(PROMETHEUS_PORT)
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(scope_info_enabled=False, registry=registry)
    try:
        number = int(port) + max(0, process - 1) if int(port) else 0
        server, thread = start_http_server(number, host, registry)
    except (OSError, ValueError, OverflowError) as error:
        raise SetupError(
            f"cannot offer metrics on {host}:{port} ({error}): set OTEL_EXPORTER_PROMETHEUS_HOST "
            "and OTEL_EXPORTER_PROMETHEUS_PORT to a free address"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return reader, f"{host}:{server.server_port}", stop
