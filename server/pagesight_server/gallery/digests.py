"""Digests of what is derived: embeddings, texts and calibrations.

A picture is named by the hash of its bytes, so that a flipped bit in them is found. What models
made of it has no such name: a digest stands beside it, and is checked wherever it is read.
"""

from __future__ import annotations

import hashlib


def digest(key: bytes | int, name: str, content: bytes) -> bytes:
    """SHA-256 of a derived value and of what it belongs to, so that no row passes for another.

    Args:
        key: The id of the picture, or the revision.
        name: The bundle, or the method.
        content: The value as it is stored; text as UTF-8.
    """
    belongs = key.hex() if isinstance(key, bytes) else str(key)
    return hashlib.sha256(f"{belongs} {name}\n".encode() + content).digest()


def is_sound(key: bytes | int, name: str, content: bytes, expected: bytes | None) -> bool:
    """Whether a derived value is as it was stored."""
    return expected is not None and digest(key, name, content) == expected
