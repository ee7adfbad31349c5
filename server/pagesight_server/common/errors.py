"""Every error that pagesight raises on purpose, in one tree.

    PagesightError            something went wrong, and the message says what to do
    ├── SetupError            the server cannot start, a command cannot run (exit code 1)
    │   └── OlderStoreError       the store must be brought forward first, or made
    └── RequestError          one request failed; the message is safe to show its sender
        ├── ImageError            INVALID_ARGUMENT     the picture cannot be used
        ├── InvalidRequestError   INVALID_ARGUMENT     another field cannot be used
        ├── NotFoundError         NOT_FOUND            no such gallery, image or revision
        ├── AlreadyExistsError    ALREADY_EXISTS       enrolled under another label
        ├── RevisionError         ABORTED              the gallery has moved on
        ├── BehindError           UNAVAILABLE          this server has yet to hear of a revision
        ├── BundleMismatchError   FAILED_PRECONDITION  the gallery was made by other bundles
        ├── PurgedError           FAILED_PRECONDITION  the picture was purged, which is final
        ├── LimitError            RESOURCE_EXHAUSTED   more than a call or gallery may hold
        ├── StorageError          RESOURCE_EXHAUSTED   the disk is full; the old state stands
        │   └── StoreAwayError        UNAVAILABLE          the database cannot be reached now
        ├── OverloadedError       RESOURCE_EXHAUSTED   raised before any work; retry later
        │   └── RateLimitedError      RESOURCE_EXHAUSTED   one caller asks for too much
        ├── DeadlineError         DEADLINE_EXCEEDED    the budget ran out
        ├── UnauthenticatedError  UNAUTHENTICATED      no token, or none that is known
        ├── PermissionDeniedError PERMISSION_DENIED    the token may not do this
        └── ShuttingDownError     UNAVAILABLE          another replica can answer
            └── GpuLostError          UNAVAILABLE          CUDA failed for good: this process ends

Whatever else escapes is a bug: INTERNAL, everything in the log, nothing in the
reply. A rejection (`other`) is a result and never appears here.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

Fault: TypeAlias = Literal["caller", "server"]
"""Whose doing an error is: the caller's, or the server's, which lacks time, room or its store.
Neither is a bug: a bug is no error of this tree."""


class PagesightError(Exception):
    """Something went wrong; the message says what, and what to do about it."""


class SetupError(PagesightError):
    """The server cannot start or a command cannot run as configured."""


class OlderStoreError(SetupError):
    """A store that was to be opened as it is has an older schema than this code reads.

    Args:
        store: Its name, as a person may read it.
        version: Its schema; 0: there is nothing yet.
        present: The schema that this code reads.
    """

    def __init__(self, store: str, version: int, present: int) -> None:
        super().__init__(
            f"{store} has schema {version} and this pagesight needs {present}: its `serve`, like "
            "any other command that opens the store, brings it forward, and an older pagesight can "
            "never open it again: stop the older servers and make a backup with the older version "
            "first"
            if version
            else f"{store} holds no store yet: `serve` or `index` makes it"
        )
        self.version = version


class RequestError(PagesightError):
    """One request failed; the message is safe to show its sender."""

    status: ClassVar[str]
    """Name of the gRPC status code (https://grpc.io/docs/guides/status-codes/)."""

    reason: ClassVar[str]
    """`reason` of google.rpc.ErrorInfo: stable, for programs (errors.proto)."""

    fault: ClassVar[Fault]
    """Whose doing it is: what is the caller's spends nothing of what the server has promised."""

    retry_after_ms: int | None = None
    """When a retry can succeed; None where none can."""


class ImageError(RequestError):
    """The picture is unreadable, truncated, of another type or over a limit."""

    status = "INVALID_ARGUMENT"
    reason = "IMAGE_UNUSABLE"
    fault = "caller"


class InvalidRequestError(RequestError):
    """A field other than the picture cannot be used."""

    status = "INVALID_ARGUMENT"
    reason = "REQUEST_INVALID"
    fault = "caller"


class NotFoundError(RequestError):
    """There is no such gallery, image or revision."""

    status = "NOT_FOUND"
    reason = "NOT_FOUND"
    fault = "caller"


class AlreadyExistsError(RequestError):
    """The gallery has the same picture under another label."""

    status = "ALREADY_EXISTS"
    reason = "OTHER_LABEL"
    fault = "caller"


class RevisionError(RequestError):
    """The gallery is not at the revision that the caller expected."""

    status = "ABORTED"
    reason = "REVISION_MOVED"
    fault = "caller"


class BehindError(RequestError):
    """This server does not know a revision yet that the caller has seen elsewhere.

    So answers a gallery that is being prepared, too, or cannot be: no budget may leave that out.
    """

    status = "UNAVAILABLE"
    reason = "REVISION_BEHIND"
    fault = "server"
    retry_after_ms: int

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class BundleMismatchError(RequestError):
    """The gallery's embeddings or texts were made by other bundles."""

    status = "FAILED_PRECONDITION"
    reason = "OTHER_BUNDLES"
    fault = "caller"


class PurgedError(RequestError):
    """The picture was purged from the store and cannot come back."""

    status = "FAILED_PRECONDITION"
    reason = "PURGED"
    fault = "caller"


class LimitError(RequestError):
    """More than one call or one gallery may hold."""

    status = "RESOURCE_EXHAUSTED"
    reason = "LIMIT_REACHED"
    fault = "caller"


class StorageError(RequestError):
    """The store could not be written; what it held before is unchanged."""

    status = "RESOURCE_EXHAUSTED"
    reason = "STORAGE_FULL"
    fault = "server"


class StoreAwayError(StorageError):
    """The store's database cannot be reached, or is busy; the next call tries it again.

    A change whose connection was lost while it was committed may have been made: its repeat, with
    the same request_id, is told the first answer.
    """

    status = "UNAVAILABLE"
    reason = "STORE_AWAY"
    retry_after_ms = 1_000


class OverloadedError(RequestError):
    """Too much is in flight. Raised before any work, so a retry is always safe."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"
    fault: ClassVar[Fault] = "server"
    retry_after_ms: int

    def __init__(self, message: str, *, retry_after_ms: int) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class RateLimitedError(OverloadedError):
    """One caller asks for more than a caller may; others are not concerned."""

    reason = "RATE_LIMITED"
    fault = "caller"


class DeadlineError(RequestError):
    """The budget of the message ran out before an answer was found."""

    status = "DEADLINE_EXCEEDED"
    reason = "BUDGET_SPENT"
    fault = "server"


class UnauthenticatedError(RequestError):
    """The call carries no token, or none that the server knows."""

    status = "UNAUTHENTICATED"
    reason = "TOKEN_MISSING"
    fault = "caller"


class PermissionDeniedError(RequestError):
    """The token has no role that may make this call."""

    status = "PERMISSION_DENIED"
    reason = "ROLE_MISSING"
    fault = "caller"


class ShuttingDownError(RequestError):
    """The server is draining; another replica can answer."""

    status = "UNAVAILABLE"
    reason = "SHUTTING_DOWN"
    fault = "server"


class GpuLostError(ShuttingDownError):
    """CUDA is of no more use to this process, which ends; another one can answer.

    After some errors, such as an illegal address, each further call of CUDA fails with the same
    one until the process ends (CUDA Runtime API, Error Handling).
    """


def reasons(fault: Fault) -> frozenset[str]:
    """The reasons of all errors that are one side's doing."""
    kinds: list[type[RequestError]] = RequestError.__subclasses__()
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return frozenset(kind.reason for kind in kinds if kind.fault == fault)
