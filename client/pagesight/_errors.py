"""Every error of the client, in one tree, and how replies become one.

    PagesightError                what went wrong and what to do about it
    ├── InvalidArgumentError      INVALID_ARGUMENT     a field cannot be used; do not retry
    │   └── InvalidImageError     INVALID_ARGUMENT     the picture cannot be used
    │       └── UnreadableFileError   (local)          the picture was never sent
    ├── NotFoundError             NOT_FOUND            no such gallery, image or revision
    ├── AlreadyExistsError        ALREADY_EXISTS       enrolled under another label
    ├── FailedPreconditionError   FAILED_PRECONDITION  the gallery was made by other bundles
    ├── AbortedError              ABORTED              the gallery moved on; read it again
    ├── ResourceExhaustedError    RESOURCE_EXHAUSTED   more than a call or a gallery may hold
    │   └── OverloadedError       RESOURCE_EXHAUSTED   shed before any work; retry after a while
    ├── DeadlineExceededError     DEADLINE_EXCEEDED    no answer in time
    ├── UnavailableError          UNAVAILABLE          no server, or it is shutting down
    │   └── RevisionBehindError   UNAVAILABLE          it has yet to hear of `min_revision`
    ├── CallCancelledError        CANCELLED            the call was given up
    ├── UnauthenticatedError      UNAUTHENTICATED      the server asks for a token it knows
    ├── PermissionDeniedError     PERMISSION_DENIED    the token may not do this
    └── InternalError             every other code     a bug, or not a pagesight server

A unary call carries its google.rpc.Status in the trailing metadata, a streamed
screenshot in its reply; both end in `from_status`. Servers and proxies that send
no details are known by the gRPC code alone. `other` is a result, never an error. The
reasons that a server gives are `ErrorReason` in errors.proto, without its prefix; the client's
own are FILE_UNREADABLE, IMAGE_TOO_LONG, TLS_FAILED, where TLS kept the two from connecting, and
TOO_MANY_PINGS, where the server hung up on a client that probes the connection too often.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import (
    code_pb2,
    error_details_pb2,
    status_pb2,
)

_DETAILS_KEY = "grpc-status-details-bin"


class PagesightError(Exception):
    """A call or one screenshot failed; the message says what, for a person.

    Attributes:
        message: What went wrong, in words.
        code: Name of the gRPC status code, such as "NOT_FOUND".
        reason: `reason` of google.rpc.ErrorInfo, stable, for programs. Empty when
            the server gave none.
        retry_after_s: Seconds after which a retry can succeed, from
            google.rpc.RetryInfo. None when the server gave none.
    """

    default_code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.retry_after_s = retry_after_s


class InvalidArgumentError(PagesightError):
    """Something in the request cannot be used; the same request fails again."""

    default_code = "INVALID_ARGUMENT"


class InvalidImageError(InvalidArgumentError):
    """The picture is unreadable, truncated, of another type or over a limit."""


class UnreadableFileError(InvalidImageError):
    """A local file could not be read, so nothing was sent. `__cause__` says why."""


class NotFoundError(PagesightError):
    """There is no such gallery, image or revision."""

    default_code = "NOT_FOUND"


class AlreadyExistsError(PagesightError):
    """The gallery has the same picture under another label."""

    default_code = "ALREADY_EXISTS"


class FailedPreconditionError(PagesightError):
    """The gallery was made with other bundles than the server runs."""

    default_code = "FAILED_PRECONDITION"


class AbortedError(PagesightError):
    """The gallery is not at `expected_revision`: read it again, then decide."""

    default_code = "ABORTED"


class ResourceExhaustedError(PagesightError):
    """More than a call, a gallery or the server's disk may hold."""

    default_code = "RESOURCE_EXHAUSTED"


class OverloadedError(ResourceExhaustedError):
    """The server had no room. Raised before any work, so a retry is always safe."""


class DeadlineExceededError(PagesightError):
    """There was no answer within the budget or the client's timeout."""

    default_code = "DEADLINE_EXCEEDED"


class UnavailableError(PagesightError):
    """No server answers, or the one that did is shutting down."""

    default_code = "UNAVAILABLE"
    is_final = False
    """Whether no other attempt can reach it, as with a certificate that is not trusted."""


class RevisionBehindError(UnavailableError):
    """The server does not know `min_revision` of the gallery yet; another one may."""


class CallCancelledError(PagesightError):
    """The call was given up before it had an answer, as when the client closes."""

    default_code = "CANCELLED"


class UnauthenticatedError(PagesightError):
    """The server asks for a token, and got none that it knows."""

    default_code = "UNAUTHENTICATED"


class PermissionDeniedError(PagesightError):
    """The token has no role that may make this call."""

    default_code = "PERMISSION_DENIED"


class InternalError(PagesightError):
    """A bug in the server, or the address belongs to something else."""

    default_code = "INTERNAL"


_BY_CODE: dict[str, type[PagesightError]] = {
    kind.default_code: kind
    for kind in (
        InvalidArgumentError,
        NotFoundError,
        AlreadyExistsError,
        FailedPreconditionError,
        AbortedError,
        ResourceExhaustedError,
        DeadlineExceededError,
        UnavailableError,
        CallCancelledError,
        UnauthenticatedError,
        PermissionDeniedError,
    )
}
_BY_REASON: dict[str, type[PagesightError]] = {
    "IMAGE_UNUSABLE": InvalidImageError,
    "OVERLOADED": OverloadedError,
    "RATE_LIMITED": OverloadedError,
    "REVISION_BEHIND": RevisionBehindError,
}


def extend(error: PagesightError, words: str) -> None:
    """Adds to what an error says what the client knows about it."""
    error.message += words
    error.args = (error.message,)


def from_status(status: status_pb2.Status) -> PagesightError:
    """Turns a google.rpc.Status into the error it stands for.

    Details of unknown or broken types are left out, not fatal: a newer server
    may send more than this client knows.
    """
    reason, retry_after_s = "", None
    for detail in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        try:
            if detail.Unpack(info):
                reason = info.reason
            elif detail.Unpack(retry):
                delay = retry.retry_delay
                retry_after_s = delay.seconds + delay.nanos / 1e9
        except DecodeError:
            continue
    known = status.code in code_pb2.Code.values()
    code = code_pb2.Code.Name(status.code) if known else "UNKNOWN"
    return _build(code, status.message, reason, retry_after_s)


def from_call(error: grpc.RpcError, address: str) -> PagesightError:
    """Turns the error of a failed call to `address` into one of this tree."""
    status = _details_of(error)
    if status is not None:
        return from_status(status)
    code = error.code().name
    said = error.details() or "no further details"
    match code:
        case "UNAVAILABLE":
            message = f"no server answers at {address}: {said}"
        case "DEADLINE_EXCEEDED":
            message = f"no answer from {address} in time"
        case "UNIMPLEMENTED":
            message = f"{address} does not offer this call; is it a pagesight server? ({said})"
        case _:
            message = said
    return _build(code, message, "", None)


def _details_of(error: grpc.RpcError) -> status_pb2.Status | None:
    # Pairs, plain ones in grpc.aio; None where no trailer came, whatever the stubs say.
    pairs = cast("Iterable[tuple[str, bytes]] | None", error.trailing_metadata())
    for key, value in pairs or ():
        if key == _DETAILS_KEY:
            try:
                status = status_pb2.Status.FromString(value)
            except DecodeError:
                return None
            return status if status.code else None
    return None


def _build(code: str, message: str, reason: str, retry_after_s: float | None) -> PagesightError:
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, InternalError)
    if kind is ResourceExhaustedError and retry_after_s is not None:
        kind = OverloadedError
    return kind(message or code, code=code, reason=reason, retry_after_s=retry_after_s)
