"""What is known: labelled pictures, kept in SQLite. The only package that speaks to it."""

from pagesight_server.gallery import backup
from pagesight_server.gallery.model import (
    Applied,
    Change,
    ChangeKind,
    Content,
    Entry,
    Expired,
    Form,
    GalleryInfo,
    Limits,
    ListedImage,
    Outcome,
    Purged,
    Revision,
    Settled,
    Settlement,
)
from pagesight_server.gallery.store import Gallery, unix_ms

__all__ = [
    "Applied",
    "Change",
    "ChangeKind",
    "Content",
    "Entry",
    "Expired",
    "Form",
    "Gallery",
    "GalleryInfo",
    "Limits",
    "ListedImage",
    "Outcome",
    "Purged",
    "Revision",
    "Settled",
    "Settlement",
    "backup",
    "unix_ms",
]
