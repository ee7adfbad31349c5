"""Stores that are copies which are not complete: nobody may open them but who goes on copying."""

from __future__ import annotations

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.database import Connection


def source_of_copy(db: Connection) -> str | None:
    """The store that is being copied into this one; None where it is complete, or no copy."""
    row = db.execute("SELECT source FROM copying").fetchone()
    return None if row is None else str(row["source"])


def refuse_incomplete(db: Connection, name: str) -> None:
    """Refuses a store that is a copy, but not all of it.

    Raises:
        SetupError: it is.
    """
    if (source := source_of_copy(db)) is not None:
        raise SetupError(
            f"{name} is a copy of {source} that is not complete: run `pagesight-server gallery "
            f"copy {source} {name}` again"
        )
