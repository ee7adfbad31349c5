"""pagesight tells which known page a phone screenshot shows, or that it shows none.

This is the client of a pagesight server:

    from pagesight import Client

    with Client("127.0.0.1:50051") as client:
        answer = client.classify("screenshot.png")
        print(answer.label, answer.score, answer.threshold)

        for result in client.classify_stream(paths, max_in_flight=16):
            print(result.key, result.error or result.classification.label)

`AsyncClient` has the same methods for event loops. `pagesight.v1` holds the stubs
for callers who speak the protocol themselves. Everything else is private.
"""

from pagesight._aio_client import AsyncClient
from pagesight._client import Client
from pagesight._errors import (
    AbortedError,
    AlreadyExistsError,
    CallCancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    InvalidImageError,
    NotFoundError,
    OverloadedError,
    PagesightError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnreadableFileError,
)
from pagesight._results import (
    OTHER,
    Box,
    BrandSuggestion,
    Candidate,
    ChangeOptions,
    Classification,
    ClassifyOptions,
    DefaultKey,
    Diagnosis,
    EnrolItem,
    EnrolOutcome,
    EnrolResult,
    Finding,
    FindingKind,
    ImageInfo,
    ImageLabel,
    ImageSource,
    LabelHealth,
    LabelInfo,
    Labels,
    LabelSuggestions,
    MatchingLine,
    NearDuplicate,
    Priority,
    RelabelResult,
    RemoveResult,
    RevisionInfo,
    RollbackResult,
    SetLabelsResult,
    StreamResult,
    Suspect,
)
from pagesight._retry import RetryPolicy
from pagesight._security import TlsConfig

__all__ = [
    "OTHER",
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "Box",
    "BrandSuggestion",
    "CallCancelledError",
    "Candidate",
    "ChangeOptions",
    "Classification",
    "ClassifyOptions",
    "Client",
    "DeadlineExceededError",
    "DefaultKey",
    "Diagnosis",
    "EnrolItem",
    "EnrolOutcome",
    "EnrolResult",
    "FailedPreconditionError",
    "Finding",
    "FindingKind",
    "ImageInfo",
    "ImageLabel",
    "ImageSource",
    "InternalError",
    "InvalidArgumentError",
    "InvalidImageError",
    "LabelHealth",
    "LabelInfo",
    "LabelSuggestions",
    "Labels",
    "MatchingLine",
    "NearDuplicate",
    "NotFoundError",
    "OverloadedError",
    "PagesightError",
    "PermissionDeniedError",
    "Priority",
    "RelabelResult",
    "RemoveResult",
    "ResourceExhaustedError",
    "RetryPolicy",
    "RevisionInfo",
    "RollbackResult",
    "SetLabelsResult",
    "StreamResult",
    "Suspect",
    "TlsConfig",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreadableFileError",
]
