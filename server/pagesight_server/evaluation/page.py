"""What the HTML pages share: templates and thumbnails.

A page is one file that needs nothing else: styles, drawings and pictures are inside,
there are no scripts, and nothing is fetched. All text is escaped by the templates.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from pagesight_server.errors import ImageError
from pagesight_server.evaluation.names import label_name
from pagesight_server.image import ImageLimits, decode

DEFAULT_LIMITS = ImageLimits()

ImageBytes: TypeAlias = Callable[[str], bytes | None]
"""The bytes of a gallery picture by its id; None where pictures are not kept."""

THUMBNAIL_PX = (180, 380)
"""Largest width and height: a 1080 x 2280 screenshot at a sixth of its size. What is longer
is cut below, for a page is known by its head."""

_QUALITY = 76


def thumbnail(data: bytes | None, limits: ImageLimits = DEFAULT_LIMITS) -> str | None:
    """A picture as a `data:` address; None when there is none or it cannot be used."""
    if data is None:
        return None
    try:
        picture = Image.fromarray(decode(data, limits))
    except ImageError:
        return None
    width, height = THUMBNAIL_PX
    # A wide picture (a tablet, turned) keeps its whole width.
    scale = min(1.0, width / picture.width)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    small = small.crop((0, 0, small.width, min(small.height, height)))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def render(template: str, **values: object) -> str:
    """A page from one of the package's templates."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pagesight_server.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        rate=rate, percent=percent, px=px, name=label_name, breakable=breakable
    )
    return environment


def rate(value: float | None) -> str:
    """A rate with the four digits that published tables have."""
    return "–" if value is None else f"{value:.4f}"


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{100 * value:.1f} %"


def px(value: float) -> str:
    """A length or a percentage for an attribute."""
    return f"{value:.1f}"


def breakable(text: str) -> Markup:
    """A label or path that may be broken after "_", "-" and "/" when room is short."""
    return Markup("").join(
        Markup("{}<wbr>").format(char) if char in "_-/" else Markup("{}").format(char)
        for char in text
    )
