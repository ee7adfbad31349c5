"""Icons as strokes on a 24 × 24 grid, so that no picture files are needed.

"heart" -> strokes -> mask at four times the size -> mask at the size asked for
"""

import functools
import math

from PIL import Image, ImageDraw

Stroke = tuple[str, tuple[float, ...]]
"""A kind of stroke (`line`, `poly`, `ring`, `disc`, `box`, `fill`, `arc`) and its coordinates."""

_OVER = 4


def _l(*points: float) -> Stroke:
    return "line", points


def _p(*points: float) -> Stroke:
    return "poly", points


ICONS: dict[str, tuple[Stroke, ...]] = {
    "back": (_l(15, 4, 7, 12, 15, 20),),
    "next": (_l(9, 5, 16, 12, 9, 19),),
    "down": (_l(5, 9, 12, 16, 19, 9),),
    "close": (_l(5, 5, 19, 19), _l(19, 5, 5, 19)),
    "more": (("disc", (5, 12, 1.8)), ("disc", (12, 12, 1.8)), ("disc", (19, 12, 1.8))),
    "plus": (_l(12, 4, 12, 20), _l(4, 12, 20, 12)),
    "check": (_l(5, 12, 10, 17, 19, 7),),
    "home": (_l(3, 11, 12, 3, 21, 11), _l(5, 10, 5, 20, 19, 20, 19, 10), _l(12, 14, 12, 20)),
    "user": (
        ("ring", (12, 7.5, 4.5)),
        ("arc", (3.5, 14, 20.5, 29, 180, 360)),
        _l(4, 21.5, 20, 21.5),
    ),
    "card": (("box", (3, 5, 21, 19, 2)), ("fill", (3, 8.5, 21, 11.5, 0))),
    "bill": (("box", (5, 3, 19, 21, 2)), _l(8, 8, 16, 8), _l(8, 12, 16, 12), _l(8, 16, 13, 16)),
    "wallet": (("box", (3, 6, 21, 20, 3)), _l(3, 6, 16, 3), ("disc", (17, 13, 1.6))),
    "gift": (
        ("box", (4, 9, 20, 20, 1)),
        _l(3, 9, 21, 9),
        _l(12, 9, 12, 20),
        ("ring", (9, 6, 2.6)),
        ("ring", (15, 6, 2.6)),
    ),
    "ticket": (
        ("box", (3, 6, 21, 18, 2)),
        _l(15, 7, 15, 9),
        _l(15, 11, 15, 13),
        _l(15, 15, 15, 17),
    ),
    "up": (_l(4, 18, 10, 11, 14, 15, 20, 6), _l(15, 6, 20, 6, 20, 11)),
    "shield": (
        _l(12, 3, 20, 6, 20, 12, 17, 18, 12, 21, 7, 18, 4, 12, 4, 6, 12, 3),
        _l(8, 12, 11, 15, 16, 9),
    ),
    "bell": (
        _l(6, 17, 6, 11, 8, 7, 12, 5, 16, 7, 18, 11, 18, 17),
        _l(4, 17, 20, 17),
        _l(10, 20, 14, 20),
    ),
    "chat": (
        ("box", (3, 4, 21, 17, 4)),
        _l(8, 17, 8, 21, 12, 17),
        ("disc", (9, 10.5, 1.2)),
        ("disc", (15, 10.5, 1.2)),
    ),
    "gear": (
        ("ring", (12, 12, 3.4)),
        ("ring", (12, 12, 7)),
        _l(12, 2, 12, 5),
        _l(12, 19, 12, 22),
        _l(2, 12, 5, 12),
        _l(19, 12, 22, 12),
        _l(5, 5, 7, 7),
        _l(17, 17, 19, 19),
        _l(5, 19, 7, 17),
        _l(17, 7, 19, 5),
    ),
    "search": (("ring", (10.5, 10.5, 6.5)), _l(15.5, 15.5, 21, 21)),
    "scan": (
        _l(4, 8, 4, 4, 8, 4),
        _l(16, 4, 20, 4, 20, 8),
        _l(20, 16, 20, 20, 16, 20),
        _l(8, 20, 4, 20, 4, 16),
        _l(4, 12, 20, 12),
    ),
    "clock": (("ring", (12, 12, 9)), _l(12, 7, 12, 12, 16, 14)),
    "phone": (("box", (7, 2, 17, 22, 2.5)), _l(10.5, 19, 13.5, 19)),
    "lock": (("box", (5, 11, 19, 21, 2)), ("arc", (7.5, 3, 16.5, 19, 180, 360))),
    "star": (
        _l(
            12,
            3,
            14.6,
            9,
            21,
            9.6,
            16,
            13.8,
            17.6,
            20,
            12,
            16.6,
            6.4,
            20,
            8,
            13.8,
            3,
            9.6,
            9.4,
            9,
            12,
            3,
        ),
    ),
    "heart": (
        _l(12, 20, 4, 12, 4, 8, 7, 5, 10, 5.5, 12, 8, 14, 5.5, 17, 5, 20, 8, 20, 12, 12, 20),
    ),
    "cart": (
        _l(2, 4, 5, 4, 8, 16, 18, 16, 21, 7, 6, 7),
        ("ring", (9, 20, 1.4)),
        ("ring", (17, 20, 1.4)),
    ),
    "pin": (
        ("arc", (5, 2, 19, 16, 150, 390)),
        _l(6, 12.5, 12, 22, 18, 12.5),
        ("ring", (12, 9, 2.4)),
    ),
    "yen": (
        ("ring", (12, 12, 9)),
        _l(8.5, 7, 12, 12, 15.5, 7),
        _l(12, 12, 12, 18),
        _l(8.8, 12.6, 15.2, 12.6),
        _l(8.8, 15.4, 15.2, 15.4),
    ),
    "chart": (_l(4, 3, 4, 20, 21, 20), _l(8, 16, 8, 12), _l(12.5, 16, 12.5, 8), _l(17, 16, 17, 5)),
    "eye": (
        ("arc", (2, 5, 22, 25, 215, 325)),
        ("arc", (2, -1, 22, 19, 35, 145)),
        ("ring", (12, 12, 3)),
    ),
    "info": (("ring", (12, 12, 9)), _l(12, 11, 12, 17), ("disc", (12, 7.6, 1.2))),
    "play": (_p(8, 5, 20, 12, 8, 19),),
    "wifi": (
        ("arc", (3, 6, 21, 24, 225, 315)),
        ("arc", (7, 10.5, 17, 20.5, 225, 315)),
        ("disc", (12, 18.5, 1.8)),
    ),
    "horn": (_p(4, 9, 9, 9, 15, 4, 15, 20, 9, 15, 4, 15), _l(18, 9, 18, 15)),
    "mic": (("box", (9, 3, 15, 14, 3)), ("arc", (6, 6, 18, 18, 0, 180)), _l(12, 18, 12, 21)),
}


@functools.lru_cache(maxsize=512)
def mask(name: str, px: int, weight: float = 1.7) -> Image.Image:
    """An icon as a mask (`L`) of `px` × `px` pixels, its strokes `weight` grid units wide."""
    side = px * _OVER
    unit = side / 24
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    wide = max(1, round(weight * unit))
    for kind, raw in ICONS[name]:
        _stroke(draw, kind, [number * unit for number in raw], raw, wide)
    return image.resize((px, px), Image.Resampling.BOX)


def _stroke(
    draw: ImageDraw.ImageDraw, kind: str, n: list[float], raw: tuple[float, ...], wide: int
) -> None:
    if kind == "line":
        points = list(zip(n[::2], n[1::2], strict=True))
        draw.line(points, fill=255, width=wide, joint="curve")
        half = wide / 2
        for x, y in points:
            draw.ellipse((x - half, y - half, x + half, y + half), fill=255)
    elif kind == "poly":
        draw.polygon(list(zip(n[::2], n[1::2], strict=True)), fill=255)
    elif kind == "ring":
        x, y, r = n
        draw.ellipse((x - r, y - r, x + r, y + r), outline=255, width=wide)
    elif kind == "disc":
        x, y, r = n
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    elif kind == "arc":
        draw.arc((n[0], n[1], n[2], n[3]), raw[4], raw[5], fill=255, width=wide)
    elif kind == "box":
        draw.rounded_rectangle((n[0], n[1], n[2], n[3]), n[4], outline=255, width=wide)
    else:
        draw.rectangle((n[0], n[1], n[2], n[3]), fill=255)


@functools.lru_cache(maxsize=64)
def ring(px: int, share: float, weight_px: int) -> Image.Image:
    """A gauge as a mask: an arc of `share` of 270 degrees, open at the foot."""
    side = px * 2
    image = Image.new("L", (side, side), 0)
    wide = weight_px * 2
    end = 135 + 270 * share
    box = (wide, wide, side - wide, side - wide)
    draw = ImageDraw.Draw(image)
    draw.arc(box, 135, end, fill=255, width=wide)
    radius = side / 2 - wide * 1.5
    for angle in (135.0, end):
        x = side / 2 + radius * math.cos(math.radians(angle))
        y = side / 2 + radius * math.sin(math.radians(angle))
        draw.ellipse((x - wide / 2, y - wide / 2, x + wide / 2, y + wide / 2), fill=255)
    return image.resize((px, px), Image.Resampling.BOX)
