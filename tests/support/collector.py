"""An OTLP collector: opentelemetry-proto's gRPC services on a free port, keeping all requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support import WAIT_S


class Collector(trace_grpc.TraceServiceServicer, metrics_grpc.MetricsServiceServicer):
    """Receives spans and metrics."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        """All requests, in the order of arrival."""
        self.metadata: list[dict[str, str]] = []
        """Metadata of each request."""
        self.patience_s: list[float] = []
        """Timeout of each request, in seconds from its arrival."""
        self._changed = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Keeps a request; the method of both services has this name."""
        with self._changed:
            self.received.append(request)
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            self.patience_s.append(context.time_remaining())
            self._changed.notify_all()
        if isinstance(request, trace_pb.ExportTraceServiceRequest):
            return trace_pb.ExportTraceServiceResponse()
        return metrics_pb.ExportMetricsServiceResponse()

    def wait_for(self, true: Callable[[], bool]) -> None:
        """Waits until the requests received so far make a condition true."""
        with self._changed:
            if not self._changed.wait_for(true, WAIT_S):
                raise AssertionError(f"not received within {WAIT_S} s")

    @property
    def spans(self) -> list[Span]:
        """All spans so far."""
        return [
            span
            for request in self.received
            if isinstance(request, trace_pb.ExportTraceServiceRequest)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resources(self) -> list[dict[str, str]]:
        """The resource attributes of each request's sender, as far as they are strings."""
        return [
            {item.key: item.value.string_value for item in sent.resource.attributes}
            for request in self.received
            for sent in (
                request.resource_spans
                if isinstance(request, trace_pb.ExportTraceServiceRequest)
                else request.resource_metrics
            )
        ]

    @property
    def metrics(self) -> dict[str, Metric]:
        """The latest export of each metric, by name."""
        return {
            metric.name: metric
            for request in self.received
            if isinstance(request, metrics_pb.ExportMetricsServiceRequest)
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A running collector and its endpoint."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2, thread_name_prefix="collector"))
    trace_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    metrics_grpc.add_MetricsServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
