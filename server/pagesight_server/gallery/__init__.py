"""What is known: labelled pictures, kept in SQLite. The only package that speaks to it."""

from pagesight_server.gallery.store import Gallery, unix_ms
from pagesight_server.gallery.values import (
    Applied,
    Bundles,
    Change,
    Content,
    Entry,
    Outcome,
    Revision,
)

__all__ = [
    "Applied",
    "Bundles",
    "Change",
    "Content",
    "Entry",
    "Gallery",
    "Outcome",
    "Revision",
    "unix_ms",
]
