"""Colours as sRGB, which the models were trained on: what an embedded ICC profile asks for.

    profile ──> transform, unless it is damaged or sRGB already ──> one band after the other

Phones store Display P3, cameras Adobe RGB: the same look in other numbers, which an encoder takes
for another look. A profile that cannot be used is ignored, as viewers do.
"""

from __future__ import annotations

import functools
import io
import itertools

import numpy as np
from PIL import Image, ImageCms

from pagesight_server.common.arrays import Pixels

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Those of displays have 500 bytes to 20 KB, those of presses up to 3 MB."""

ALIKE = 3
"""Levels of 255 by which a profile may differ from sRGB and be taken for it: its many versions
differ among themselves by one or two (rounding of their curves)."""

_COLOUR_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


_FLOATS = frozenset(name + b"%d" % intent for name in (b"D2B", b"B2D") for intent in range(4))
"""Tags of transforms in floats, which may be left out of any profile (ICC.1:2022, 9.2)."""

_MAX_TAGS = 100
"""Tags of a profile that Little CMS reads."""


class ToSrgb:
    """A transform from the colours of a profile. Safe to use from many threads."""

    def __init__(self, transform: ImageCms.ImageCmsTransform, mode: str) -> None:
        self._transform = transform
        self.mode = mode
        """Mode of the pictures that it takes: "RGB", "L" or "CMYK"."""

    def __call__(self, picture: Image.Image) -> Image.Image:
        """Returns the picture as RGB.

        Args:
            picture: One of the mode of the transform.
        """
        converted = ImageCms.applyTransform(picture, self._transform)
        if converted is None:
            raise AssertionError("only a transform in place returns nothing")
        return converted

    def of_array(self, pixels: Pixels) -> Pixels:
        """Returns sRGB pixels of RGB pixels: rows x width x 3, uint8."""
        return np.asarray(self(Image.fromarray(pixels)))


@functools.lru_cache(maxsize=8)
def to_srgb(profile: bytes) -> ToSrgb | None:
    """The transform that a profile asks for; None where there is none to make.

    The last few are remembered: a phone's screenshots all carry the same.

    Args:
        profile: An ICC profile.
    """
    if not 128 <= len(profile) <= MAX_PROFILE_BYTES:  # a header alone has 128
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(_without_floats(profile)))
        mode = _COLOUR_SPACES[source.profile.xcolor_space]
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        made = ToSrgb(transform, mode)
        return None if mode == "RGB" and _changes_little(made) else made
    except MemoryError:
        raise  # or else the profile would be remembered as none
    except Exception:
        # Little CMS finds damage at any step, and Pillow has several errors for it.
        return None


def _without_floats(profile: bytes) -> bytes:
    """A profile with its transforms in floats renamed, so that those in integers are used.

    In floats any number of steps can follow each other, in eight bytes and two milliseconds each.

    Args:
        profile: At least a header.
    """
    changed = bytearray(profile)
    tags = min(int.from_bytes(profile[128:132], "big"), _MAX_TAGS)
    for at in range(132, 132 + 12 * tags, 12):
        if profile[at : at + 4] in _FLOATS:
            changed[at : at + 4] = profile[at : at + 4].lower()
    return bytes(changed)


def _changes_little(transform: ToSrgb) -> bool:
    """Whether a transform leaves colours all over the cube about where they are."""
    levels = (0, 16, 32, 64, 96, 128, 160, 192, 224, 240, 255)
    colours = np.array(list(itertools.product(levels, repeat=3)), np.uint8)
    converted = transform.of_array(colours[np.newaxis])[0]
    return bool(np.abs(converted.astype(int) - colours).max() <= ALIKE)
