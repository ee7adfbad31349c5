"""What the HTML pages share: templates and thumbnails.

A page is one file that needs nothing else: styles, drawings and pictures are inside,
there are no scripts, and nothing is fetched. All text is escaped by the templates.
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
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.thumbnails import thumbnail_jpeg
from pagesight_server.recognition.findings import Finding, FindingKind
from pagesight_server.text.reading import Box

DEFAULT_LIMITS = ImageLimits()

ImageBytes: TypeAlias = Callable[[str], bytes | None]
"""The bytes of a gallery picture by its id; None where pictures are not kept."""

THUMBNAIL_PX = (360, 800)
"""Largest width and height: a 1080 x 2400 screenshot at a third of its size, so that its text can
be read. What is longer is cut below, for a page is known by its head."""

_QUALITY = 68

STYLES: Mapping[FindingKind, str] = {"agrees": "good", "forbids": "bad", "missing": "warn"}
"""Kinds of findings as style sheets name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A box over a picture, in pixels of the original."""

    x: int
    y: int
    width: int
    height: int
    style: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A picture, scaled down, and where to look."""

    address: str
    """`data:`"""
    width_px: int
    """Of the original, as far as it is shown."""
    height_px: int
    marks: tuple[Mark, ...] = ()

    def marked(self, boxes: Iterable[tuple[Box, Finding]]) -> Shot:
        """The same picture with boxes around texts; a little wider, so that they cover none."""
        grown = self.width_px // 120 + 1
        marks = tuple(
            Mark(
                x=max(0, box.left - grown),
                y=max(0, box.top - grown),
                width=box.right - box.left + 2 * grown,
                height=box.bottom - box.top + 2 * grown,
                style=STYLES[finding.kind],
                title=f"{finding.text}: {finding.note}" if finding.note else finding.text,
            )
            for box, finding in boxes
            if box.top < self.height_px
        )
        return replace(self, marks=marks)


def thumbnail(data: bytes | None, limits: ImageLimits = DEFAULT_LIMITS) -> Shot | None:
    """A picture for a page; None when there is none or it cannot be used."""
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
    """Where the screenshot is boxed."""
    return [(finding.query_box, finding) for finding in findings if finding.query_box is not None]


def gallery_marks(findings: Iterable[Finding]) -> list[tuple[Box, Finding]]:
    """Where the gallery picture is boxed."""
    return [(f.gallery_box, f) for f in findings if f.gallery_box is not None]


def by_kind(
    findings: Iterable[Finding], most: int = 6
) -> list[tuple[str, str, list[Finding], int]]:
    """Findings as lists beside the pictures: style, heading, the first few, how many in all."""
    found = list(findings)
    headings: dict[FindingKind, str] = {
        "forbids": "new to this page",
        "missing": "missing in the screenshot",
        "agrees": "agrees",
    }
    lists = []
    for kind, heading in headings.items():
        # A text that stands in several places is quoted once.
        members = list(
            {finding.text: finding for finding in found if finding.kind == kind}.values()
        )
        if members:
            lists.append((STYLES[kind], heading, members[:most], len(members)))
    return lists


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
        rate=rate, percent=percent, px=px, name=label_name, breakable=breakable, by_kind=by_kind
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
