"""What is known: labelled pictures, kept in SQLite. The only package that speaks to it."""

from pagesight_server.gallery.store import Gallery, unix_ms
from pagesight_server.gallery.values import (
    Applied,
    Change,
    Content,
    Entry,
    ListedImage,
    Outcome,
    Revision,
)

__all__ = [
    "Applied",
    "Change",
    "Content",
    "Entry",
    "Gallery",
    "ListedImage",
    "Outcome",
    "Revision",
    "unix_ms",
]
