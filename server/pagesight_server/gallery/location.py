"""Where a store is: a file, or a database that several machines share.

"gallery.db"                        ──> Path          SQLite
"postgresql://pagesight@db/pages"   ──> PostgresUrl   PostgreSQL; libpq reads the URL
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from pagesight_server.common.errors import SetupError

_ANY_SCHEME = re.compile(r"postgres[\w+]*:/|[a-z][\w+.-]*://", re.IGNORECASE)
_SCHEME = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_SECRET_PARAMETERS = frozenset({"password", "sslpassword"})
_USER_AND_PASSWORD = re.compile(r"(?P<user>:/+[^:@/]*):.*@", re.DOTALL)
"""Greedy: an `@` or `/` that was not written as %40 or %2F belongs to the password too."""
_SECRET_VALUE = re.compile(r"(?i)\b(?P<name>(ssl)?password)=[^&\s]*")


class PostgresUrl(str):
    """The address of a store on PostgreSQL: it holds no password and may be shown to anybody."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresOptions:
    """What a store on PostgreSQL needs beside its address; SQLite ignores it."""

    password_file: Path | None = None
    """Its first line is the password, read for each connection. None: libpq finds one itself."""

    connections: int = 8
    """How many a process holds at most; each is one transaction at a time."""

    folder: Path | None = None
    """Parent of the folder of this store's indexes, on this machine. None: the working folder."""


StoreLocation: TypeAlias = Path | PostgresUrl


def masked(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    if ":/" in text:
        text = _USER_AND_PASSWORD.sub(r"\g<user>:***@", text)
    return _SECRET_VALUE.sub(r"\g<name>=***", text)


def store_location(store: str | Path) -> StoreLocation:
    """Where a store is, from what somebody wrote.

    Raises:
        SetupError: it is an address of something else, or one with a password in it, which others
            would read.
    """
    if isinstance(store, Path) or not _ANY_SCHEME.match(store):
        return Path(store)
    if not _SCHEME.match(store):
        raise SetupError(
            f"{masked(store)} is no address of a store: write postgresql://USER@HOST/NAME, or the "
            "name of a file"
        )
    names = {name.lower() for name, _ in parse_qsl(store.partition("?")[2])}
    if _USER_AND_PASSWORD.search(store) or names & _SECRET_PARAMETERS:
        raise SetupError(
            f"the store {masked(store)} has a password in its address, where `ps` and files show "
            "it: leave it out and set PGPASSWORD, ~/.pgpass or gallery.store_password_file"
        )
    return PostgresUrl(store)


def derived_folder(store: StoreLocation, options: PostgresOptions) -> Path:
    """Where whatever is derived from a store is kept on this machine; a purge empties it."""
    if isinstance(store, Path):
        return store.with_name(store.name + ".index")
    # A purge deletes the folder, so it is this store's alone, of whatever server and schema.
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(store).path.strip("/"))) or "pagesight"
    digest = hashlib.sha256(store.encode()).hexdigest()[:8]
    return (options.folder or Path()) / f"{name}-{digest}.index"
