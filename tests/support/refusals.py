"""What a server without a model refuses with: the statuses of the contract."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

_LABEL = re.compile(
    r"[^/\x00-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]{1,128}"
)

MAX_SOURCE_CHARS = 1_024


def status(
    code: grpc.StatusCode, message: str, reason: str, retry_after_ms: int | None = None
) -> status_pb2.Status:
    """Builds a google.rpc.Status as the server does."""
    details: list[Any] = [error_details_pb2.ErrorInfo(reason=reason, domain="pagesight")]
    if retry_after_ms is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        packed.append(box)
    number: int = code.value[0]
    return status_pb2.Status(code=number, message=message, details=packed)


def abort(context: grpc.ServicerContext, error: status_pb2.Status) -> NoReturn:
    """Ends a call with details in its trailing metadata."""
    context.set_trailing_metadata((("grpc-status-details-bin", error.SerializeToString()),))
    code = next(code for code in grpc.StatusCode if code.value[0] == error.code)
    context.abort(code, error.message)
    raise AssertionError("abort raises")


def normal(name: str) -> str:
    """A name in the form in which it is kept."""
    return unicodedata.normalize("NFC", name)


def invalid(message: str) -> status_pb2.Status:
    """What cannot be."""
    return status(grpc.StatusCode.INVALID_ARGUMENT, message, "REQUEST_INVALID")


def not_found(message: str) -> status_pb2.Status:
    """What is not there."""
    return status(grpc.StatusCode.NOT_FOUND, message, "NOT_FOUND")


def label_refusal(label: str, source: str = "") -> status_pb2.Status | None:
    """Why a picture cannot be enrolled under a label, whatever it shows."""
    if not _LABEL.fullmatch(label) or label != label.strip() or label in {".", ".."}:
        return invalid(f"{label!r} cannot be a label")
    if len(source) > MAX_SOURCE_CHARS:
        return invalid(f"source has {len(source)} characters")
    return None
