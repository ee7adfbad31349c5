"""Traces, metrics and logs for operators; nothing is exported unless an exporter is named.

    exporting.py    OTEL_* variables ──> exporters, or nothing at all
    messages.py     one screenshot ──> its span and those of its stages, its metrics
    calls.py        one gRPC call ──> the SERVER span and rpc.server.call.duration
    instruments.py  recorded metrics: name, unit, buckets
    gauges.py       observed metrics, read at collection: queues, galleries, caches, drift
    drift.py        traffic against the calibration, and warnings
    logs.py         lines of text or JSON, with the trace they belong to

Text read from a screenshot is personal data. It enters no span, no metric and no log line,
unless `telemetry.record_text` is set, and then with its digits masked.
"""

from pagesight_server.common.logs import configure_logs
from pagesight_server.telemetry.calls import WatchCalls
from pagesight_server.telemetry.exporting import Exporting, setup
from pagesight_server.telemetry.gauges import watch
from pagesight_server.telemetry.messages import Message, Telemetry, trace_of_now

__all__ = [
    "Exporting",
    "Message",
    "Telemetry",
    "WatchCalls",
    "configure_logs",
    "setup",
    "trace_of_now",
    "watch",
]
