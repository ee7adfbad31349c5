"""One status bar for all: whatever looks at a page begins it at the same pixel."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagesight_server.curation.brand_mining import suggest
from pagesight_server.curation.diagnostics import page_text
from pagesight_server.gallery.snapshot import LabelFacts, Snapshot
from pagesight_server.recognition.candidates import Candidate
from pagesight_server.recognition.entity_names import EntityNames
from pagesight_server.recognition.explanation import compare_with_page
from pagesight_server.recognition.templates import Templates
from pagesight_server.text.lines import STATUS_BAR, lines_below_status_bar, page_lines
from pagesight_server.text.reading import Box, Reading, TextLine
from tests.support.parts import snapshot

BRAND = "有钱花"
SIDE_PX = 1000
"""Width and height alike, so that it does not matter of which of them the bar is a share."""
BAR_PX = round(STATUS_BAR * SIDE_PX)


def page(bottom_px: int, *texts: str) -> Reading:
    """A page with the brand down to `bottom_px` and other lines far below."""
    top = TextLine(BRAND, 0.9, Box(0, 5, 100, bottom_px))
    rest = [
        TextLine(text, 0.9, Box(0, 300 + 50 * i, 100, 340 + 50 * i)) for i, text in enumerate(texts)
    ]
    return Reading(width_px=SIDE_PX, height_px=SIDE_PX, lines=(top, *rest))


def gallery(bottom_px: int, *texts: str) -> Snapshot:
    """Two pictures of such a page, and two of another app."""
    made = snapshot(
        *[("dx_amount", (1, 0), texts)] * 2, *[("zs_amount", (0, 1), ("闪电", "可用额度"))] * 2
    )
    pictures = [
        replace(picture, reading=page(bottom_px, *texts))
        if picture.label == "dx_amount"
        else picture
        for picture in made.pictures
    ]
    facts = {"dx_amount": LabelFacts(brands=(BRAND,))}
    return replace(made, pictures=tuple(pictures), facts=facts)


@pytest.mark.parametrize(
    ("bottom_px", "on_page"),
    [
        pytest.param(BAR_PX, False, id="a line down to the bound of the bar"),
        pytest.param(BAR_PX + 1, True, id="a line one pixel lower"),
    ],
)
def test_all_that_look_at_a_page_agree_where_it_begins(bottom_px: int, on_page: bool) -> None:
    query = page(bottom_px)
    known = gallery(bottom_px, "可用额度", "有钱花祝您生活愉快")
    shown_elsewhere = gallery(SIDE_PX // 2, "可用额度")
    names = EntityNames(gallery(bottom_px, "可用额度")).weigh("dx_amount", [])
    shown = Candidate(label=shown_elsewhere.pictures[0].label, row=0, visual=1, textual=1, terms=())
    seen = {
        "lines below the bar": bool(lines_below_status_bar(query)),
        "page lines": bool(page_lines(query)),
        "templates": BRAND in Templates(shown_elsewhere).weigh(query).shown,
        "entity names": names.pictures_with_brand == 2,
        "findings": compare_with_page(shown_elsewhere, query, shown).agreeing == 1,
        "diagnostics": page_text(query) == BRAND,
        "brand mining": [s.text for s in suggest(known)["dx_amount"]] == [BRAND],
    }
    assert seen == dict.fromkeys(seen, on_page)
