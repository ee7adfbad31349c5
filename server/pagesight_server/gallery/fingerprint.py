"""The digest of all that a store holds: the same for a copy, whichever database it is in.

rows of each table, by key ──SHA-256──> one digest a table ──SHA-256──> one of the store
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pagesight_server.gallery.database import Connection
from pagesight_server.gallery.tables import TABLES, whole_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDigest:
    """Says how much a table holds, and a digest of it."""

    rows: int
    sha256: str
    """Hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What a store holds, in a line."""

    tables: Mapping[str, TableDigest]

    @property
    def sha256(self) -> str:
        """The digest of all of it, hexadecimal."""
        lines = [f"{name} {table.rows} {table.sha256}\n" for name, table in self.tables.items()]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def differences(self, other: Fingerprint) -> list[str]:
        """The tables in which another store differs."""
        return [name for name, table in self.tables.items() if table != other.tables[name]]


def fingerprint(
    db: Connection, *, progress: Callable[[int], None] = lambda _rows: None
) -> Fingerprint:
    """Reads all that a store holds, some rows at a time.

    Args:
        db: The store, in a transaction.
        progress: Called with how many rows more have been read.
    """
    tables = {}
    for table in TABLES:
        digest, count = hashlib.sha256(), 0
        for row in whole_rows(db, table, db.stream(table.select(db))):
            for part in _parts(row[name] for name in table.whole):
                digest.update(part)
            count += 1
            progress(1)
        tables[table.name] = TableDigest(rows=count, sha256=digest.hexdigest())
    return Fingerprint(tables=tables)


def _parts(values: Iterator[Any]) -> Iterator[bytes]:
    """Writes values so that no two rows are alike; a text counts as its UTF-8."""
    for value in values:
        if value is None:
            yield b"n"
        elif isinstance(value, int):
            yield b"i%d;" % value
        elif isinstance(value, float):
            yield b"f%s;" % value.hex().encode()
        else:
            content = value.encode() if isinstance(value, str) else bytes(value)
            yield b"b%d:" % len(content)
            yield content
