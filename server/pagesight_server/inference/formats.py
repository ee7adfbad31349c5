"""The formats of pictures: how each is told from its first bytes, and what reads it.

    bytes ──signature──> format ──allowed? installed?──> the name by which Pillow opens it
                                     └──no──> ImageError that says what to do

Names and media types lie; the content does not.
"""

from __future__ import annotations

import functools
import importlib
import re

from PIL import features

from pagesight_server.common.errors import ImageError
from pagesight_server.inference.settings import Format

ALWAYS: tuple[Format, ...] = ("jpeg", "png", "webp")
"""Formats that are read unless settings say otherwise."""

_SIGNATURES: tuple[tuple[Format, re.Pattern[bytes]], ...] = (
    ("jpeg", re.compile(rb"\xff\xd8\xff")),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("webp", re.compile(rb"RIFF....WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("bmp", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("tiff", re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+")),
)
"""BMP has two letters alone; what follows is the length of its second header."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def format_of(data: bytes) -> Format | None:
    """The format of a picture by its first bytes; None for what is none that can be read."""
    for name, signature in _SIGNATURES:
        if signature.match(data):
            return name
    if data[4:8] != b"ftyp":
        return None
    # ISO/IEC 14496-12, 4.3: the main brand, a version, then those it is compatible with.
    end = min(len(data), int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "avif"
    return "heif" if brands & _HEIF_BRANDS else None


def pillow_name(data: bytes, allowed: tuple[Format, ...]) -> str:
    """The name by which Pillow opens a picture.

    Args:
        data: The encoded picture.
        allowed: The formats that are read here, as `ImageLimits.formats`.

    Raises:
        ImageError: it is of none of them, or what reads its format is not installed.
    """
    name = format_of(data)
    if name is None:
        raise ImageError("the bytes are no JPEG, PNG or WebP picture")
    is_on = name in (allowed or ALWAYS) or (not allowed and _has_heif())
    if not is_on or not _is_readable(name):
        called = "HEIC" if name == "heif" else name.upper()
        raise ImageError(
            f"the picture is {called}, which this server does not read: save it as JPEG or PNG. "
            "Its operator can switch it on: install `pagesight[heif]`"
            + (f' and add "{name}" to image.formats' if allowed else "")
        )
    return name.upper()


def _is_readable(name: Format) -> bool:
    """Whether what reads a format is installed; Pillow can be built without AVIF."""
    if name == "avif":
        return bool(features.check("avif"))
    return name != "heif" or _has_heif()


@functools.cache
def _has_heif() -> bool:
    """Whether `pagesight[heif]` is installed; Pillow learns HEIC from it, once."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True
