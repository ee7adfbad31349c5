"""Decided screenshots as folders by label, for `calibrate --validation` and `evaluate`.

    DIR/<label>/<hash>.<suffix>     `other` too, written at each decision, taken back with it

A picture that is enrolled leaves the folder: what the gallery holds says nothing about it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pagesight._errors import InternalError
from pagesight._review_page import labels

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
"""Any other picture has none: those who read folders then look at its first bytes."""


def media_type(data: bytes) -> str:
    """The type of an encoded picture by its first bytes; never one that a browser would run."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if (data[:4], data[8:12]) == (b"RIFF", b"WEBP"):
        return "image/webp"
    if data.startswith(b"GIF8"):
        return "image/gif"
    if data.startswith(b"BM"):
        return "image/bmp"
    if data[4:12] in {b"ftypavif", b"ftypavis"}:
        return "image/avif"
    return "application/octet-stream"


_IMAGE_ID = re.compile("[0-9a-f]{64}")


def file_stem(image_id: str) -> str:
    """Returns the id of a picture as the beginning of a file's name: ids come from the server.

    Raises:
        InternalError: It is no SHA-256, and might lead out of the folder.
    """
    if not _IMAGE_ID.fullmatch(image_id):
        raise InternalError(
            f"the server's reply names a picture {image_id!r}, which is no SHA-256: nothing is "
            "written under that name"
        )
    return image_id


class ExportFolder:
    """The folder of labelled traffic of one review."""

    def __init__(self, root: Path) -> None:
        """Notes where the folder is, and makes it.

        Raises:
            OSError: It cannot be made.
        """
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root = root

    def put(self, image_id: str, label: str, data: bytes) -> Path:
        """Writes a picture under its label, and nowhere else.

        Raises:
            InternalError: The id is none.
            OSError: It cannot be written.
            ValueError: The label cannot be the name of a folder.
        """
        if why := labels.why_not(label):
            raise ValueError(why)
        stem = file_stem(image_id)
        self.take_back(image_id)
        folder = self.root / label
        folder.mkdir(exist_ok=True, mode=0o700)
        path = folder / f"{stem}{SUFFIXES.get(media_type(data), '')}"
        # A screenshot is its owner's alone, and never half there.
        half = folder / f".{stem}.part"
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
        half.replace(path)
        return path

    def take_back(self, image_id: str) -> None:
        """Deletes a picture from whichever label's folder holds it; none holds what is no id."""
        if _IMAGE_ID.fullmatch(image_id):
            for path in self.root.glob(f"*/{image_id}*"):
                path.unlink(missing_ok=True)
