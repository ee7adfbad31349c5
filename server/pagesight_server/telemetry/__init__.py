"""What those who run the server see of it: traces, metrics, logs. Off unless an exporter is named.

    exporting.py    OTEL_* variables ──> exporters, or nothing at all
    messages.py     one screenshot ──> its span and those of its stages, its metrics
    calls.py        one gRPC call ──> the SERVER span and rpc.server.call.duration
    instruments.py  every metric: name, unit, buckets
    gauges.py       what is looked at when somebody collects: queues, galleries, memories
    logs.py         lines of text or JSON, with the trace they belong to

Text read from a screenshot is personal data. It enters no span, no metric and no log line,
unless `telemetry.record_text` is set, and then with its digits masked.
"""

from pagesight_server.telemetry.calls import WatchCalls
from pagesight_server.telemetry.exporting import Exporting, setup
from pagesight_server.telemetry.gauges import watch
from pagesight_server.telemetry.logs import configure_logs
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
