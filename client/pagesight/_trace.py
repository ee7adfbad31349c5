"""The caller's trace, if it has one: W3C `traceparent` of the current OpenTelemetry span.

A program that traces has imported OpenTelemetry already; in all others nothing is imported.
https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import sys


def traceparent() -> str:
    """Returns the traceparent of the current span; empty when there is none."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
