"""Log lines, as text for people or as JSON for machines, each with the trace it belongs to.

    record ──> time, level, process, logger, message, trace_id, span_id
    exception ──> frames in full, its message masked

Messages of this server never quote a screenshot. The message of an exception may, since a library
can put anything into it: its digits and non-ASCII characters are masked (the pages are Chinese,
the libraries are not), while types and frames, which locate a bug, are kept.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO, TypeAlias

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

TraceOfNow: TypeAlias = Callable[[], SpanContext | None]
LogFormat: TypeAlias = Literal["text", "json"]

_ExcInfo: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_FOREIGN = re.compile(r"[^\x00-\x7f]+")


def masked(text: str) -> str:
    """The text with every digit, of any script, replaced by #."""
    return "".join("#" if c.isdigit() or c.isnumeric() else c for c in text)


def configure_logs(
    form: LogFormat, stream: TextIO, trace_of_now: TraceOfNow, *, process: str = ""
) -> None:
    """Sends all log records to a stream, unless the embedding program has configured logging.

    Args:
        form: `text` for people or `json` for machines.
        stream: Where the lines go.
        trace_of_now: Gives the trace that a record belongs to.
        process: Which process of a server with several this is, for every line; empty: the only
            one.
    """
    handler = logging.StreamHandler(stream)
    text = _TEXT.replace(" %(name)s", f" [{process}] %(name)s") if process else _TEXT
    handler.setFormatter(
        JsonLines(trace_of_now, process=process) if form == "json" else TextLines(text)
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class TextLines(logging.Formatter):
    """Formats a record for people."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record, and below it the traceback."""
        # Another handler may have left its own rendering of the exception here.
        kept, record.exc_text = record.exc_text, None
        try:
            return super().format(record)
        finally:
            record.exc_text = kept

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802
        """The traceback, with all messages masked."""
        return "\n".join(_described(ei[1])) if ei[1] is not None else ""


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def __init__(self, trace_of_now: TraceOfNow, *, process: str = "") -> None:
        super().__init__()
        self._trace_of_now = trace_of_now
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        """Writes a record as one line."""
        body: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._process,
        }
        trace = self._trace_of_now()
        if trace is not None:
            body["trace_id"] = format_trace_id(trace.trace_id)
            body["span_id"] = format_span_id(trace.span_id)
            body["trace_flags"] = f"{trace.trace_flags:02x}"
        if record.exc_info and record.exc_info[1] is not None:
            body["exception_type"] = type(record.exc_info[1]).__qualname__
            body["exception"] = "\n".join(_described(record.exc_info[1]))
        return json.dumps(body, ensure_ascii=False)


def _described(error: BaseException) -> list[str]:
    """An exception and its causes, the first cause first, as lines with masked messages."""
    lines: list[str] = []
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and before is not error:
        lines += _described(before)
        lines.append("which led to")
    lines += [line.rstrip("\n") for line in traceback.format_tb(error.__traceback__)]
    message = _FOREIGN.sub("…", masked(str(error)))
    lines.append(f"{type(error).__module__}.{type(error).__qualname__}: {message}")
    return lines
