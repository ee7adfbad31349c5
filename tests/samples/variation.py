"""How screenshots of one page differ: phone, settings, moment, and the copy that was sent.

seeded choice ─> Shot (before drawing) ─> Overlay (over it) ─> encode (after it)
"""

import io
import random

from PIL import Image

from tests.samples.overlays import OVERLAYS
from tests.samples.screen import Overlay, Shot
from tests.samples.values import Values

WIDTHS = (1080, 1080, 1080, 1080, 1080, 720, 1170, 1170, 1440)
RATIOS = (19.5 / 9, 20 / 9, 20 / 9, 16 / 9, 19 / 9, 20.5 / 9)
CARRIERS = ("", "", "中国移动", "中国联通", "中国电信")

SMALLEST_COPY_PX = 480
"""Least width of a scaled copy, in pixels: about what messengers scale to."""


def shot(rng: random.Random, *, width: int | None = None) -> Shot:
    """Draws the phone and the moment of a screenshot; most are ordinary."""
    return Shot(
        width=width or rng.choice(WIDTHS),
        ratio=rng.choice(RATIOS),
        dark=rng.random() < 0.16,
        font_scale=1.0 if rng.random() < 0.6 else round(rng.uniform(0.85, 1.3), 2),
        scroll=rng.uniform(0.1, 1.0) if rng.random() < 0.35 else 0.0,
        time=f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
        battery=rng.randint(4, 100),
        carrier=rng.choice(CARRIERS),
        percent=rng.random() < 0.4,
        system=rng.choice(("gesture", "gesture", "buttons", "none")),
        status=rng.random() >= 0.12,
    )


def overlay(rng: random.Random, *, typing: bool) -> Overlay | None:
    """Draws an overlay for some pages; `typing` pages may also show the keyboard."""
    if rng.random() >= 0.1:
        return None
    kinds = [kind for kind in OVERLAYS if typing or kind != "keyboard"]
    return OVERLAYS[rng.choice(kinds)](Values(f"overlay {rng.random()}"))


def encode(image: Image.Image, rng: random.Random) -> tuple[bytes, str]:
    """Encodes the picture; returns the bytes and the file name's ending.

    About half are the phone's own file, the others copies: scaled, saved again, or both.
    """
    if rng.random() < 0.45:
        factor = max(rng.uniform(0.45, 0.9), SMALLEST_COPY_PX / image.width)
        if rng.random() < 0.5 and factor < 1:
            small = (round(image.width * factor), round(image.height * factor))
            copy = image.resize(small, Image.Resampling.BILINEAR)
            if rng.random() < 0.6:
                copy = copy.resize(image.size, Image.Resampling.BICUBIC)
            image = copy
        if rng.random() < 0.4:
            image = _again(image, rng.randint(30, 70))
        return _saved(image, "JPEG", quality=rng.randint(30, 90)), ".jpg"
    kind = rng.random()
    if kind < 0.3:
        return _saved(image, "PNG", compress_level=3), ".png"
    if kind < 0.45:
        return _saved(image, "WEBP", quality=rng.randint(60, 90), method=1), ".webp"
    return _saved(image, "JPEG", quality=rng.randint(75, 95)), ".jpg"


def _saved(image: Image.Image, form: str, **options: int) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def _again(image: Image.Image, quality: int) -> Image.Image:
    with Image.open(io.BytesIO(_saved(image, "JPEG", quality=quality))) as copy:
        return copy.convert("RGB")
