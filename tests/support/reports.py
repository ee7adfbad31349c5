"""The HTML pages of reports, taken apart."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

from PIL import Image

NASTY = "<script>alert('x')</script>&\"额度"
"""What a name may hold that must be escaped."""


def png(colour: str = "red", size: tuple[int, int] = (108, 228)) -> bytes:
    """A picture of one colour, as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


class Page(HTMLParser):
    """Collects what a page holds, and fails on tags that do not match."""

    VOID = frozenset({"meta", "img", "br", "wbr", "line", "rect", "circle", "polyline"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """As HTMLParser calls it."""
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in {"src", "href", "xlink:href", "action"}]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """As HTMLParser calls it."""
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """As HTMLParser calls it."""
        if "style" not in self._open:
            self.text += data


def words(page: Page) -> str:
    """The text of a page, its spaces made single."""
    return " ".join(page.text.split())


def assert_stands_alone(html: str) -> None:
    """Holds a page to fetching nothing, running nothing, and tags that match."""
    page = Page(html)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in page.links)
    assert not set(page.tags) & {"script", "link", "iframe", "object", "embed"}
    assert not re.search(r"https?://|@import|url\(", html)
