"""Errors to `google.rpc.Status`, with their reason and when to try again."""

from __future__ import annotations

import logging
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from pagesight_server.common.errors import RequestError

log = logging.getLogger(__name__)

MAX_MESSAGE_CHARS = 400
"""Of an error. It travels twice in the trailing metadata, of which gRPC takes 8 KiB, and may
quote what the caller sent."""

DOMAIN = "pagesight"
"""`domain` of google.rpc.ErrorInfo."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_BY_NAME = {code.name: code for code in grpc.StatusCode}


def status_of(error: Exception) -> Status:
    """What a caller is told of an error; a bug is told nothing but that it is one."""
    if not isinstance(error, RequestError):
        log.error("a request failed on a bug", exc_info=error)
        return make_status(
            "INTERNAL", "INTERNAL", "internal error; the server's log has the details"
        )
    return make_status(error.status, error.reason, str(error), retry_after_ms=error.retry_after_ms)


def code_of(status: Status) -> grpc.StatusCode:
    """The gRPC code of a status."""
    return _CODES[status.code]


def make_status(
    code: str, reason: str, message: str, *, retry_after_ms: int | None = None
) -> Status:
    """Returns a status with its reason; a message that is too long is cut.

    Args:
        code: The name of a gRPC code.
        reason: That of ErrorInfo.
        message: What the caller is told.
        retry_after_ms: When a repeat may succeed; without one there is no RetryInfo.
    """
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[: MAX_MESSAGE_CHARS - 3] + "..."
    status = Status(code=_BY_NAME[code].value[0], message=message)
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status
