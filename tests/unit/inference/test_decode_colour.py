"""The same look in another colour space is the same picture; a profile that is none is ignored."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pagesight_server.inference import colour
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from tests.support.colours import (
    ADOBE_RGB,
    BT_2020,
    DISPLAY_P3,
    SRGB,
    SRGB_CURVE,
    gamma,
    grey_profile,
    rgb_profile,
)
from tests.support.pictures import encoded

LIMITS = ImageLimits()

LINEAR = rgb_profile(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), gamma(1.0))

# How the colours of sRGB are stored in other spaces: CSS Color 4's sample code gives red in Display
# P3 as 0.9175 0.2003 0.1386 and in Adobe RGB as 0.8586 0 0; half of the light is 128 if linear,
# and 188 in sRGB (IEC 61966-2-1). In BT.2020 red is 0.6274 0.0691 0.0164 of the light
# (ITU-R BT.2087), each to the power of 1 / 2.4.
STORED = [
    pytest.param(DISPLAY_P3, (234, 51, 35), (255, 0, 0), id="red in Display P3"),
    pytest.param(DISPLAY_P3, (117, 251, 76), (0, 255, 0), id="green in Display P3"),
    pytest.param(DISPLAY_P3, (128, 128, 128), (128, 128, 128), id="grey in Display P3"),
    pytest.param(ADOBE_RGB, (219, 0, 0), (255, 0, 0), id="red in Adobe RGB"),
    pytest.param(ADOBE_RGB, (144, 255, 60), (0, 255, 0), id="green in Adobe RGB"),
    pytest.param(BT_2020, (210, 84, 46), (255, 0, 0), id="red in BT.2020"),
    pytest.param(LINEAR, (128, 128, 128), (188, 188, 188), id="grey in linear light"),
]


def solid(colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (24, 32)) -> Any:
    return Image.new(mode, size, colour)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(("profile", "stored", "shown"), STORED)
def test_colours_of_a_profile_are_shown_as_srgb(
    profile: bytes, stored: tuple[int, int, int], shown: tuple[int, int, int], kind: str
) -> None:
    data = encoded(solid(stored), kind, icc_profile=profile, quality=100, lossless=True)
    pixels = decode(data, LIMITS)
    # Chroma of a JPEG is rounded, which near the edge of the gamut is some levels.
    assert np.abs(pixels[5, 5].astype(int) - shown).max() <= (12 if kind == "JPEG" else 3)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_row_of_a_large_picture_is_converted_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    size = (700, 900)  # of several bands, which do not come out even
    picture = solid((128, 128, 128), size=size)
    pixels = decode(encoded(picture, kind, icc_profile=LINEAR, exif=exif), LIMITS)
    assert np.abs(pixels.astype(int) - 188).max() <= 1


@pytest.mark.parametrize(
    ("picture", "shown"),
    [
        pytest.param(solid((234, 51, 35, 255), "RGBA"), (255, 0, 0), id="opaque"),
        # Red, 0.4 opaque, on white: 255 * 0.6 of green and blue.
        pytest.param(solid((234, 51, 35, 102), "RGBA"), (255, 153, 153), id="translucent"),
        pytest.param(solid((234, 51, 35)).quantize(4), (255, 0, 0), id="of a palette"),
    ],
)
def test_colours_are_converted_before_they_are_put_on_a_ground(
    picture: Image.Image, shown: tuple[int, int, int]
) -> None:
    pixels = decode(encoded(picture, icc_profile=DISPLAY_P3), LIMITS)
    assert np.abs(pixels[5, 5].astype(int) - shown).max() <= 2


@pytest.mark.parametrize(
    ("kind", "mode", "value"),
    [
        ("PNG", "L", 128),
        ("PNG", "LA", (128, 255)),
        ("PNG", "I;16", 128 << 8),
        ("JPEG", "L", 128),
    ],
)
def test_grey_of_a_profile_is_shown_as_srgb(kind: str, mode: str, value: Any) -> None:
    data = encoded(solid(value, mode), kind, icc_profile=grey_profile(gamma(1.0)))
    assert abs(int(decode(data, LIMITS)[5, 5, 0]) - 188) <= 1


def test_a_profile_of_other_colours_than_the_picture_has_is_ignored() -> None:
    for picture, profile in (
        (solid((128,), "L"), LINEAR),
        (solid((128, 128, 128)), grey_profile(gamma(1.0))),
    ):
        assert decode(encoded(picture, icc_profile=profile), LIMITS)[5, 5].tolist() == [128] * 3


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param(SRGB, id="of primaries and a curve"),
        pytest.param(None, id="Little CMS's own"),
        # The curve as a power, as many have it: up to two levels off, in the dark.
        pytest.param(
            rgb_profile(((0.6402, 0.3301), (0.2999, 0.6001), (0.1501, 0.0599)), SRGB_CURVE),
            id="rounded",
        ),
    ],
)
def test_srgb_itself_leaves_pixels_as_they_are(profile: bytes | None) -> None:
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 256, (30, 20, 3)).astype(np.uint8))
    assert colour.to_srgb(profile or own) is None
    data = encoded(noise, icc_profile=profile or own)
    np.testing.assert_array_equal(decode(data, LIMITS), np.asarray(noise))


def test_damaged_profiles_are_ignored_or_applied_and_never_spoil_a_picture() -> None:
    chance = random.Random(11)
    for _ in range(400):
        damaged = bytearray(DISPLAY_P3)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        data = encoded(solid((9, 99, 200)), icc_profile=bytes(damaged[: chance.randint(1, 900)]))
        assert decode(data, LIMITS).shape == (32, 24, 3)


def test_a_profile_of_megabytes_is_not_looked_at() -> None:
    profile = LINEAR.ljust(colour.MAX_PROFILE_BYTES + 1, b"\0")
    for kind in ("PNG", "JPEG", "WEBP"):
        options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(solid((128, 128, 128)), kind, icc_profile=profile, **options)
        assert abs(int(decode(data, LIMITS)[5, 5, 0]) - 128) <= 1


def test_only_the_last_few_transforms_are_kept() -> None:
    colour.to_srgb.cache_clear()
    for exponent in range(20):
        colour.to_srgb(grey_profile(gamma(1 + exponent / 10)))
    assert colour.to_srgb.cache_info().currsize == 8


@pytest.mark.parametrize("tag", [b"D2B0", b"D2B1", b"B2D1"])
def test_a_transform_in_floats_is_passed_over(tag: bytes) -> None:
    # Little CMS prefers it. It may have any number of steps: 500,000 in 4 MB, of 2 ms each.
    plain, odd = colour.to_srgb(DISPLAY_P3), colour.to_srgb(DISPLAY_P3.replace(b"desc", tag, 1))
    assert plain is not None
    assert odd is not None
    pixels = np.random.default_rng(2).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(odd.of_array(pixels), plain.of_array(pixels))
