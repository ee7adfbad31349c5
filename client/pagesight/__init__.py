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
from pagesight._changes import (
    DeleteResult,
    EnrolOutcome,
    EnrolResult,
    LabelField,
    NearDuplicate,
    Progress,
    RelabelResult,
    RemoveResult,
    RollbackResult,
    SetLabelsResult,
)
from pagesight._classification import (
    OTHER,
    Box,
    Candidate,
    Classification,
    Finding,
    FindingKind,
    MatchingLine,
    ReviewReason,
    ScoreTerm,
    ScoreTermName,
    StreamResult,
)
from pagesight._client import Client
from pagesight._curation import (
    BrandSuggestion,
    Diagnosis,
    GalleryFinding,
    GalleryFindingKind,
    HardlyReadImage,
    ImageLabel,
    LabelHealth,
    LabelSuggestions,
    Settlement,
    SettleResult,
    Suspect,
)
from pagesight._discovery import (
    Cluster,
    Discovery,
    DismissedCluster,
    PreviewPicture,
    PreviewResult,
    TurnedAnswer,
    UnreadablePicture,
)
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
    RevisionBehindError,
    UnauthenticatedError,
    UnavailableError,
    UnreadableFileError,
)
from pagesight._inputs import (
    ChangeOptions,
    ClassifyOptions,
    DefaultKey,
    EnrolItem,
    ImageSource,
    Priority,
)
from pagesight._listings import (
    CalibrationInfo,
    CalibrationSource,
    GalleryInfo,
    ImageInfo,
    LabelInfo,
    Labels,
    RevisionInfo,
    RevisionKind,
)
from pagesight._retry import RetryPolicy
from pagesight._review import (
    DayFigures,
    Decision,
    KeepLimits,
    KeptAnswer,
    KeptReason,
    KnownItem,
    LabelFigures,
    ReviewerFigures,
    ReviewFigures,
)
from pagesight._security import TlsConfig

__all__ = [
    "OTHER",
    "AbortedError",
    "AlreadyExistsError",
    "AsyncClient",
    "Box",
    "BrandSuggestion",
    "CalibrationInfo",
    "CalibrationSource",
    "CallCancelledError",
    "Candidate",
    "ChangeOptions",
    "Classification",
    "ClassifyOptions",
    "Client",
    "Cluster",
    "DayFigures",
    "DeadlineExceededError",
    "Decision",
    "DefaultKey",
    "DeleteResult",
    "Diagnosis",
    "Discovery",
    "DismissedCluster",
    "EnrolItem",
    "EnrolOutcome",
    "EnrolResult",
    "FailedPreconditionError",
    "Finding",
    "FindingKind",
    "GalleryFinding",
    "GalleryFindingKind",
    "GalleryInfo",
    "HardlyReadImage",
    "ImageInfo",
    "ImageLabel",
    "ImageSource",
    "InternalError",
    "InvalidArgumentError",
    "InvalidImageError",
    "KeepLimits",
    "KeptAnswer",
    "KeptReason",
    "KnownItem",
    "LabelField",
    "LabelFigures",
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
    "PreviewPicture",
    "PreviewResult",
    "Priority",
    "Progress",
    "RelabelResult",
    "RemoveResult",
    "ResourceExhaustedError",
    "RetryPolicy",
    "ReviewFigures",
    "ReviewReason",
    "ReviewerFigures",
    "RevisionBehindError",
    "RevisionInfo",
    "RevisionKind",
    "RollbackResult",
    "ScoreTerm",
    "ScoreTermName",
    "SetLabelsResult",
    "SettleResult",
    "Settlement",
    "StreamResult",
    "Suspect",
    "TlsConfig",
    "TurnedAnswer",
    "UnauthenticatedError",
    "UnavailableError",
    "UnreadableFileError",
    "UnreadablePicture",
]
