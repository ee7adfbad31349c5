"""The test pictures of parity: pages of many shapes, drawn in code.

24 sizes x 3 kinds = 72, from a phone's long scroll to an icon. No two are alike in size, colours
or layout, and they are the same on every machine, so the figures of two exports compare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from pagesight_export.golden import Picture

SIZES = (
    (2400, 1080), (8000, 1080), (30, 40), (40, 30), (1920, 1080), (1080, 1920),
    (2532, 1170), (1334, 750), (2778, 1284), (640, 360), (512, 512), (224, 224),
    (256, 256), (720, 1600), (1600, 400), (400, 1600), (3200, 1440), (1000, 100),
    (100, 1000), (300, 17), (17, 300), (2048, 1536), (768, 1024), (901, 601),
)  # fmt: skip
"""Heights and widths in pixels."""
KINDS = 3
COUNT = len(SIZES) * KINDS
MIXED = (0, 2, 28, 38)
"""A tall page, an icon, a wide page and a thumbnail: the golden pairs are made of them."""


def picture(number: int) -> Picture:
    """Draw picture `number`, RGB; 0 to `COUNT - 1`."""
    height, width = SIZES[number % len(SIZES)]
    draw = np.random.default_rng(number)
    return (_rows, _cards, _photo)[number // len(SIZES) % KINDS](height, width, draw)


def _colour(draw: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in draw.integers(0, 256, 3))
    return red, green, blue


def _rows(height: int, width: int, draw: np.random.Generator) -> Picture:
    """Draw a list: a coloured head, rows of bars like text, an amount at the right."""
    page = np.full((height, width, 3), _colour(draw), dtype=np.uint8)
    page[: max(1, height // 10)] = _colour(draw)
    step = max(3, height // int(draw.integers(6, 30)))
    for top in range(height // 8, height, step):
        ink = _colour(draw)
        left, right = width // 16, int(width * draw.uniform(0.3, 0.7))
        page[top : top + max(1, step // 3), left:right] = ink
        page[top : top + max(1, step // 3), -max(1, width // 5) : -max(1, width // 20)] = ink
    return page


def _cards(height: int, width: int, draw: np.random.Generator) -> Picture:
    """Draw overlapping cards, some round, on a slope of two colours."""
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    first, last = (np.array(_colour(draw), dtype=np.float32) for _ in range(2))
    page = np.broadcast_to(first + (last - first) * slope, (height, width, 3)).astype(np.uint8)
    page = np.ascontiguousarray(page)
    for _ in range(int(draw.integers(4, 14))):
        x, y = int(draw.integers(0, width)), int(draw.integers(0, height))
        across, down = (max(2, int(side * draw.uniform(0.1, 0.6))) for side in (width, height))
        if draw.random() < 0.3:
            cv2.circle(page, (x, y), max(1, min(across, down) // 2), _colour(draw), -1)
        else:
            cv2.rectangle(page, (x, y), (x + across, y + down), _colour(draw), -1)
    return page


def _photo(height: int, width: int, draw: np.random.Generator) -> Picture:
    """Draw a smooth field of colours with grain, as a photograph has."""
    cells = draw.integers(0, 256, (int(draw.integers(2, 9)), int(draw.integers(2, 9)), 3))
    field = cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    grain = draw.normal(0, draw.uniform(2, 30), (height, width, 1)).astype(np.float32)
    return np.asarray(np.clip(field + grain, 0, 255), dtype=np.uint8)
