"""Stores with pictures in them, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pagesight_server.gallery import (
    Applied,
    Change,
    Content,
    Entry,
    Gallery,
    KeptAnswer,
    KeptPicture,
)
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, Bundles
from pagesight_server.gallery.sqlite_file import SqliteConnection, SqliteDatabase
from tests.support.parts import BUNDLES, reading, unit

ANSWERED_AT_MS = 1_700_000_000_000
"""When imaginary answers are given that are kept for review: Unix time."""
ANSWERED_TEXT = "余额一百二十三元四角五分"
"""What is read in their screenshots."""

SINCE_SCHEMA_5 = ("kept_answers", "decisions", "dismissed", "replicas", "copying")
"""Tables that later schemas add."""


def content(
    name: str, *, direction: Sequence[float] = (1, 2, 2), texts: Sequence[str] = ("额度", "首页")
) -> Content:
    """The content of an imaginary picture, whose bytes are its name."""
    data = name.encode()
    return Content(
        image_id=hashlib.sha256(data).hexdigest(),
        width_px=108,
        height_px=240,
        data=data,
        embedding=unit(*direction),
        reading=reading(*texts),
    )


def put(store: Gallery, name: str, bundles: Bundles = BUNDLES) -> str:
    """Stores the content of an imaginary picture; returns its id."""
    stored = content(name)
    store.put_content(stored, bundles)
    return stored.image_id


def enrol(
    store: Gallery, pictures: dict[str, str], *, gallery: str = DEFAULT_GALLERY, author: str = "mei"
) -> Applied:
    """Enrols imaginary pictures as one revision, given the label of each name."""
    entries = [
        # A name may be long: its bytes are the picture, and fill a disk.
        Entry(image_id=put(store, name), label=label, source=f"{name[:100]}.png")
        for name, label in pictures.items()
    ]
    return store.enrol(Change(gallery=gallery, author=author), entries, BUNDLES)


def answered(
    name: str, *, gallery: str = "default", at_ms: int = ANSWERED_AT_MS, image: bytes | None = None
) -> KeptPicture:
    """An answer to an imaginary screenshot, whose bytes are its name."""
    return KeptPicture(
        answer=KeptAnswer(
            image_id=picture_id(name),
            gallery=gallery,
            revision=1,
            label="other",
            closest_label="a",
            score=0.25,
            threshold=0.5,
            doubt=0.75,
            review_reasons=("near_threshold",),
            kept_reason="rejected",
            kept_at_ms=at_ms,
        ),
        image=name.encode() if image is None else image,
        bundles=BUNDLES,
        embedding=unit(1, 2, 2),
        reading=reading(ANSWERED_TEXT),
    )


def picture_id(name: str) -> str:
    """The id of an imaginary picture."""
    return hashlib.sha256(name.encode()).hexdigest()


def sqlite(store: Gallery) -> SqliteConnection:
    """The connection of a store that is a file, for what only SQLite has."""
    assert isinstance(store.database, SqliteDatabase)
    return store.database.db


def file_of(store: Gallery) -> Path:
    """The file that a store is."""
    assert isinstance(store.database, SqliteDatabase)
    return store.database.path
