"""Replies become the errors they stand for."""

from __future__ import annotations

import pickle
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import status_pb2

import pagesight
from pagesight._errors import _BY_REASON, from_call, from_status
from pagesight.v1 import errors_pb2
from tests.support.refusals import status

Code = grpc.StatusCode


class FailedCall(grpc.RpcError):
    """What gRPC raises: the status in parts, details in the trailing metadata."""

    def __init__(self, code: Code, details: str | None, trailing: bytes | None = None) -> None:
        super().__init__()
        self._parts = code, details, trailing

    def code(self) -> Code:
        return self._parts[0]

    def details(self) -> str | None:
        return self._parts[1]

    def trailing_metadata(self) -> Any:
        if self._parts[2] is None:
            return None  # as gRPC does, whatever its stubs say
        return (("x-request", "1"), ("grpc-status-details-bin", self._parts[2]))


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (Code.INVALID_ARGUMENT, "IMAGE_UNUSABLE", pagesight.InvalidImageError),
        (Code.INVALID_ARGUMENT, "REQUEST_INVALID", pagesight.InvalidArgumentError),
        (Code.NOT_FOUND, "NOT_FOUND", pagesight.NotFoundError),
        (Code.ALREADY_EXISTS, "OTHER_LABEL", pagesight.AlreadyExistsError),
        (Code.ABORTED, "REVISION_MOVED", pagesight.AbortedError),
        (Code.FAILED_PRECONDITION, "OTHER_BUNDLES", pagesight.FailedPreconditionError),
        (Code.RESOURCE_EXHAUSTED, "LIMIT_REACHED", pagesight.ResourceExhaustedError),
        (Code.RESOURCE_EXHAUSTED, "OVERLOADED", pagesight.OverloadedError),
        (Code.DEADLINE_EXCEEDED, "BUDGET_SPENT", pagesight.DeadlineExceededError),
        (Code.UNAVAILABLE, "SHUTTING_DOWN", pagesight.UnavailableError),
        (Code.UNAVAILABLE, "REVISION_BEHIND", pagesight.RevisionBehindError),
        (Code.INTERNAL, "INTERNAL", pagesight.InternalError),
        (Code.DATA_LOSS, "", pagesight.InternalError),
    ],
)
def test_a_status_becomes_the_error_of_its_code_and_reason(
    code: Code, reason: str, kind: type[pagesight.PagesightError]
) -> None:
    error = from_status(status(code, "what went wrong", reason))
    assert type(error) is kind
    assert (error.code, error.reason) == (code.name, reason)
    assert error.message == str(error) == "what went wrong"
    assert error.retry_after_s is None


def test_retry_info_becomes_seconds_and_means_overload_whatever_the_reason() -> None:
    error = from_status(status(Code.RESOURCE_EXHAUSTED, "later", "SOMETHING_NEW", 1_250))
    assert type(error) is pagesight.OverloadedError
    assert error.retry_after_s == 1.25


def test_details_that_cannot_be_read_are_left_out() -> None:
    broken = any_pb2.Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    unknown = any_pb2.Any(type_url="type.googleapis.com/next.Year", value=b"\xff")
    error = from_status(status_pb2.Status(code=5, message="gone", details=[broken, unknown]))
    assert type(error) is pagesight.NotFoundError
    assert error.reason == ""


def test_a_code_from_the_future_is_an_internal_error() -> None:
    error = from_status(status_pb2.Status(code=99, message="?"))
    assert type(error) is pagesight.InternalError
    assert error.code == "UNKNOWN"


def test_a_failed_call_is_read_from_its_trailing_metadata() -> None:
    details = status(Code.ABORTED, "the gallery is at revision 9", "REVISION_MOVED")
    error = from_call(FailedCall(Code.ABORTED, "short", details.SerializeToString()), "host:1")
    assert type(error) is pagesight.AbortedError
    assert error.message == "the gallery is at revision 9"


@pytest.mark.parametrize("trailing", [None, b"\xff\xff", b""], ids=["none", "broken", "empty"])
def test_a_failed_call_without_details_is_known_by_its_code(trailing: bytes | None) -> None:
    error = from_call(FailedCall(Code.NOT_FOUND, "no such thing", trailing), "host:1")
    assert type(error) is pagesight.NotFoundError
    assert (error.code, error.reason, error.message) == ("NOT_FOUND", "", "no such thing")


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.UNIMPLEMENTED])
def test_errors_that_no_server_explained_name_its_address(code: Code) -> None:
    assert "host:1" in from_call(FailedCall(code, None), "host:1").message


def test_errors_survive_pickling() -> None:
    error = from_status(status(Code.RESOURCE_EXHAUSTED, "full", "OVERLOADED", 100))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is pagesight.OverloadedError
    assert vars(copy) == vars(error)


def test_the_reasons_that_have_an_error_of_their_own_are_those_of_the_contract() -> None:
    reasons = errors_pb2.ErrorReason.keys()
    assert {f"ERROR_REASON_{reason}" for reason in _BY_REASON} <= set(reasons)
