"""What a reviewer should look at: a text of the screenshot, of the gallery picture, or of both.

    screenshot            gallery picture
    ┌───────────┐         ┌───────────┐
    │ [额度]────┼─agrees──┼─[额度]    │   green: both show it
    │ [招商银行]│         │           │   red: new to the page, or names another
    │           │         │ [放心借]  │   amber: this page shows it, the screenshot does not
    └───────────┘         └───────────┘

A value and no more, so that whatever weighs evidence can say what it found and
whatever draws a page can box it; neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pagesight_server.text.reading import Box

FindingKind = Literal["agrees", "forbids", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One text that speaks for or against an answer."""

    kind: FindingKind
    """`agrees`: screenshot and page both show it. `forbids`: the screenshot shows it and this page
    does not. `missing`: this page shows it and the screenshot does not."""
    text: str
    """As read; from the screenshot where it shows it."""
    query_box: Box | None = None
    """Where it stands in the screenshot, in its pixels; None when it does not show it."""
    gallery_box: Box | None = None
    """Where it stands in the gallery picture that spoke for the page; None when it does not."""
    note: str = ""
    """Why it counts, in words for a reviewer: "9 of 10 pictures of this page show it"."""
