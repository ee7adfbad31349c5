"""Errors to google.rpc.Status."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2

from pagesight.v1 import errors_pb2
from pagesight_server.common import errors
from pagesight_server.common.errors import InvalidRequestError, OverloadedError, RequestError
from pagesight_server.service import statuses
from tests.support.serving import details

# DESIGN, "The contract": which error is which status.
STATUSES = {
    errors.ImageError: "INVALID_ARGUMENT",
    errors.InvalidRequestError: "INVALID_ARGUMENT",
    errors.NotFoundError: "NOT_FOUND",
    errors.AlreadyExistsError: "ALREADY_EXISTS",
    errors.RevisionError: "ABORTED",
    errors.BundleMismatchError: "FAILED_PRECONDITION",
    errors.LimitError: "RESOURCE_EXHAUSTED",
    errors.StorageError: "RESOURCE_EXHAUSTED",
    errors.DeadlineError: "DEADLINE_EXCEEDED",
    errors.ShuttingDownError: "UNAVAILABLE",
    errors.PurgedError: "FAILED_PRECONDITION",
    errors.UnauthenticatedError: "UNAUTHENTICATED",
    errors.PermissionDeniedError: "PERMISSION_DENIED",
}


@pytest.mark.parametrize(("kind", "code"), STATUSES.items())
def test_each_error_has_its_status(kind: type[RequestError], code: str) -> None:
    status = statuses.status_of(kind("what to do"))
    assert statuses.code_of(status) is grpc.StatusCode[code]
    assert status.message == "what to do"
    assert details(status) == (kind.reason, None)


def test_every_error_of_the_tree_is_in_that_table() -> None:
    with_a_hint = {OverloadedError, errors.BehindError}
    assert set(RequestError.__subclasses__()) == {*STATUSES, *with_a_hint}


def kinds_of(error: type[RequestError]) -> set[type[RequestError]]:
    return {error}.union(*map(kinds_of, error.__subclasses__()))


def test_the_reasons_of_the_contract_are_those_of_the_errors() -> None:
    reasons = {kind.reason for kind in kinds_of(RequestError) - {RequestError}} | {"INTERNAL"}
    assert {f"ERROR_REASON_{reason}" for reason in reasons} == {
        name for name, number in errors_pb2.ErrorReason.items() if number
    }


def test_the_contract_names_the_code_that_comes_with_each_reason() -> None:
    proto = (Path(__file__).parents[3] / "protos/pagesight/v1/errors.proto").read_text("utf-8")
    for kind in kinds_of(RequestError) - {RequestError}:
        comment = re.search(rf"((?:  //.*\n)+)  ERROR_REASON_{kind.reason} =", proto)
        assert comment is not None, kind.reason
        assert comment[1].startswith(f"  // {kind.status}: ")


def test_an_error_with_a_hint_says_when_to_come_back() -> None:
    for error in (
        OverloadedError("later", retry_after_ms=1500),
        errors.BehindError("later", retry_after_ms=1500),
    ):
        assert details(statuses.status_of(error)) == (error.reason, 1.5)


def test_whoever_is_turned_away_is_told_when_to_retry() -> None:
    status = statuses.status_of(OverloadedError("later", retry_after_ms=1500))
    assert statuses.code_of(status) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(status) == ("OVERLOADED", 1.5)


def test_a_bug_is_in_the_log_and_not_in_the_reply(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status = statuses.status_of(KeyError("the secret"))
    assert statuses.code_of(status) is grpc.StatusCode.INTERNAL
    assert "secret" not in str(status)
    assert "the secret" in caplog.text
    assert details(status) == ("INTERNAL", None)


def test_a_long_message_is_cut_so_that_it_fits_into_the_metadata() -> None:
    # gRPC takes 8 KiB: the message percent-encoded (3 bytes for each of UTF-8) and the
    # status in base64 (4/3).
    status = statuses.status_of(InvalidRequestError("页" * 100_000))
    assert status.message.endswith("页...")
    percent_encoded = 3 * len(status.message.encode())
    assert percent_encoded + 4 / 3 * status.ByteSize() < 8192 - 1024


def test_every_reason_is_for_programs() -> None:
    info = error_details_pb2.ErrorInfo()
    for kind in STATUSES:
        assert kind.reason.isupper()
        assert statuses.status_of(kind("")).details[0].Unpack(info)
        assert info.domain == "pagesight"
