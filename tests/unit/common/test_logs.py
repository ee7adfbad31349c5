"""Log lines for machines and for people, and what is masked in them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanContext, TraceFlags

from pagesight_server.common.logs import LogFormat, masked
from pagesight_server.telemetry import configure_logs

READ = "余额 12.34"
CARD = "card 6222020200112233"
TRACE = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))


@pytest.fixture(autouse=True)
def _root_logger_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(form: LogFormat, trace: SpanContext | None = None, *, process: str = "") -> str:
    logging.getLogger().handlers.clear()  # pytest's own
    stream = io.StringIO()
    configure_logs(form, stream, lambda: trace, process=process)
    log = logging.getLogger("pagesight_server.test")
    log.info("gallery %s is at revision %d", "默认", 7)
    try:
        try:
            raise ValueError(READ)
        except ValueError as first:
            raise KeyError(CARD) from first
    except KeyError:
        log.exception("it failed")
    return stream.getvalue()


def test_json_has_one_object_per_line_with_the_trace() -> None:
    said, failed = map(json.loads, logged("json", TRACE).splitlines())
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "INFO",
        "logger": "pagesight_server.test",
        "message": "gallery 默认 is at revision 7",
        "trace_id": "00000000000000000000000000000abc",
        "span_id": "0000000000000def",
        "trace_flags": "01",
    }
    assert failed["exception_type"] == "KeyError"


def test_without_a_trace_a_line_names_none() -> None:
    assert "trace_id" not in logged("json")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_exception_keeps_its_types_and_frames_but_not_what_it_quotes(form: LogFormat) -> None:
    text = logged(form).replace("\\n", "\n").replace("\\u2026", "…")
    assert "builtins.ValueError: … ##.##\nwhich led to" in text
    assert "builtins.KeyError: 'card ################'" in text
    assert "in logged" in text
    assert "6222" not in text
    assert "余额" not in text


def test_digits_of_every_script_are_masked() -> None:
    assert masked("a1 ２３ ٤ 五") == "a# ## # #"


def test_a_line_of_one_of_several_processes_says_which() -> None:
    assert " INFO [2] pagesight_server.test: gallery " in logged("text", process="2")
    assert json.loads(logged("json", process="2").splitlines()[0])["process"] == "2"
    assert "[" not in logged("text").splitlines()[0]
    assert "process" not in json.loads(logged("json").splitlines()[0])
