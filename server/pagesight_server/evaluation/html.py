"""Templates and thumbnails of the HTML pages.

A page is one self-contained file: styles, charts and pictures are embedded, there are no scripts,
and nothing is fetched. All text is escaped by the templates.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pagesight_server.common.errors import ImageError
from pagesight_server.evaluation.display_names import label_name
from pagesight_server.evaluation.rounding import percent, rate
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.thumbnails import thumbnail_jpeg
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.text.reading import Box

DEFAULT_LIMITS = ImageLimits()

ImageBytes: TypeAlias = Callable[[str], bytes | None]
"""Returns the bytes of a gallery picture, given its id; None where pictures are not stored."""

THUMBNAIL_PX = (360, 800)
"""Largest width and height: a 1080 x 2400 screenshot at a third of its size, whose text is legible.
Longer pages are cut off at the bottom, for the top of a page tells most about it."""

_QUALITY = 68
"""JPEG quality of thumbnails: about 30 kB each, with legible text."""

STYLES: Mapping[FindingKind, str] = {"agrees": "good", "forbids": "bad", "missing": "warn"}
"""CSS class of each kind of finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A box drawn over a picture, in pixels of the original."""

    x: int
    """Left edge."""
    y: int
    """Upper edge."""
    width: int
    height: int
    style: str
    """CSS class, a value of `STYLES`."""
    title: str
    """Tooltip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A thumbnail with the boxes to draw over it."""

    address: str
    """The JPEG as a `data:` URL."""
    width_px: int
    """Width of the part of the original that is shown."""
    height_px: int
    """Height of the part of the original that is shown."""
    marks: tuple[Mark, ...] = ()

    def marked(self, boxes: Iterable[tuple[Box, Finding]]) -> Shot:
        """The same picture with boxes around texts, with a margin so that they cover no letters."""
        margin_px = self.width_px // 120 + 1  # 3 pixels of a thumbnail
        marks = tuple(
            Mark(
                x=max(0, box.left - margin_px),
                y=max(0, box.top - margin_px),
                width=box.right - box.left + 2 * margin_px,
                height=box.bottom - box.top + 2 * margin_px,
                style=STYLES[finding.kind],
                title=f"{finding.text}: {finding.note}" if finding.note else finding.text,
            )
            for box, finding in boxes
            if box.top < self.height_px
        )
        return replace(self, marks=marks)


def thumbnail(data: bytes | None, limits: ImageLimits = DEFAULT_LIMITS) -> Shot | None:
    """The thumbnail of an encoded picture; None when there is none or it cannot be decoded."""
    if data is None:
        return None
    try:
        small = thumbnail_jpeg(data, THUMBNAIL_PX, limits, quality=_QUALITY)
    except ImageError:
        return None
    return Shot(
        address="data:image/jpeg;base64," + base64.b64encode(small.data).decode("ascii"),
        width_px=small.width_px,
        height_px=small.height_px,
    )


def query_marks(findings: Iterable[Finding]) -> list[tuple[Box, Finding]]:
    """The findings that have a place in the screenshot, with their boxes there."""
    return [(finding.query_box, finding) for finding in findings if finding.query_box is not None]


def gallery_marks(findings: Iterable[Finding]) -> list[tuple[Box, Finding]]:
    """The findings that have a place in the gallery picture, with their boxes there."""
    return [(f.gallery_box, f) for f in findings if f.gallery_box is not None]


def by_kind(
    findings: Iterable[Finding], most: int = 6
) -> list[tuple[str, str, list[Finding], int]]:
    """Findings grouped for the lists beside the pictures.

    Args:
        findings: The findings of one comparison.
        most: Most findings of one kind, so that the list stays beside the picture.

    Returns:
        CSS class, heading, the first findings, and the number of all findings of each kind.
    """
    all_findings = list(findings)
    headings: dict[FindingKind, str] = {
        "forbids": "new to this page",
        "missing": "missing in the screenshot",
        "agrees": "agrees",
    }
    lists = []
    for kind, heading in headings.items():
        # A text that occurs in several places is quoted once.
        members = list(
            {finding.text: finding for finding in all_findings if finding.kind == kind}.values()
        )
        if members:
            lists.append((STYLES[kind], heading, members[:most], len(members)))
    return lists


def render(template: str, **values: object) -> str:
    """The HTML of one of the package's templates."""
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
        rate=rate, percent=percent, px=px, name=label_name, breakable=breakable, by_kind=by_kind
    )
    return environment


def px(value: float) -> str:
    """A length or percentage as the value of an SVG attribute."""
    return f"{value:.1f}"


def breakable(text: str) -> Markup:
    """A label or path with optional line breaks after "_", "-" and "/"."""
    return Markup("").join(
        Markup("{}<wbr>").format(char) if char in "_-/" else Markup("{}").format(char)
        for char in text
    )
