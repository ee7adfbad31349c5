"""Two pages that share every line but the title, three pictures each, are told apart by it.

Looks are directions in the plane of the two pages: (1, 0) is one page's look, (0, 1) the
other's. Where both pages have one look, looks cannot help; elsewhere they speak for the wrong one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.evidence import PagesightMethod
from pagesight_server.recognition.scorers.siblings import SCORE_PER_NAT
from tests.support.parts import reading, snapshot, unit

Direction = tuple[float, float, float]

LINES = ("姓名", "证件有效期", "联系电话", "居住地址", "阅读并同意协议", "提交")
PICTURES = 3
ONE_LOOK: Direction = (1, 0, 0)
OTHER_LOOK: Direction = (0, 1, 0)
ELSEWHERE = [("home", (0, 0, 1), ["首页", "理财", "我的"])] * PICTURES
"""Pictures of a third page, so that the gallery is no pair."""

TITLES = [
    pytest.param("个人信息", "补充个人信息", id="one title within the other"),
    pytest.param("收款", "付款", id="one character differs"),
    pytest.param("Sent", "Received", id="nothing in common"),
    pytest.param("New category", "Edit category", id="one word differs"),
]

LANGUAGES = {
    "en": ("Alert", "Webhook", ["Enabled", "Contact", "Message text", "Cancel", "Save"]),
    "de": ("Warnung", "Netzaufruf", ["Aktiviert", "Kontakt", "Nachricht", "Abbrechen", "Ja"]),
    "it": ("Avviso", "Chiamata", ["Attivato", "Contatto", "Messaggio", "Annulla", "Salva"]),
}
"""The titles of two pages and the lines that they share, in the language of each picture."""


def ranked(
    known: Snapshot, looks: Direction, lines: Sequence[str], *, without_looks: bool = False
) -> tuple[Candidate, ...]:
    """The candidates for a screenshot with these looks and lines, best first."""
    method = PagesightMethod(known, without={"looks"} if without_looks else ())
    query = Query(embedding=unit(*looks), reading=reading(*lines))
    return method.weigh(query, method.search(query.embedding))


def pair(one: str, other: str, look: Direction, other_look: Direction) -> Snapshot:
    """Two pages that differ in title and, if so given, in look; and a third page."""
    return snapshot(
        *[("one", look, [one, *LINES])] * PICTURES,
        *[("another", other_look, [other, *LINES])] * PICTURES,
        *ELSEWHERE,
    )


@pytest.mark.parametrize("without_looks", [False, True], ids=["looks count", "looks left out"])
@pytest.mark.parametrize(("one", "other"), TITLES)
def test_pages_that_look_alike_are_told_by_their_title(
    one: str, other: str, without_looks: bool
) -> None:
    known = pair(one, other, ONE_LOOK, ONE_LOOK)
    for label, title in (("one", one), ("another", other)):
        best, second, *_ = ranked(known, ONE_LOOK, [title, *LINES], without_looks=without_looks)
        assert (best.label, {best.label, second.label}) == (label, {"one", "another"})


@pytest.mark.parametrize(("one", "other"), TITLES)
def test_a_title_outweighs_looks_that_favour_the_other_page(one: str, other: str) -> None:
    known = pair(one, other, ONE_LOOK, OTHER_LOOK)
    for label, title, looks in (("one", one, (1, 2, 0)), ("another", other, (2, 1, 0))):
        best, second, *_ = ranked(known, looks, [title, *LINES])
        assert best.label == label
        # Cosines of (1, 2) with the two axes: 1 / sqrt(5) and 2 / sqrt(5).
        assert (best.visual, second.visual) == pytest.approx((0.4472, 0.8944), abs=1e-3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("转入记录明细", "转出记录明细", id="one character of six"),
        pytest.param("New subcategory", "Edit subcategory", id="one short word"),
    ],
)
def test_titles_as_alike_as_misreadings_tell_pages_to_which_looks_hardly_lean(
    one: str, other: str
) -> None:
    known = pair(one, other, ONE_LOOK, OTHER_LOOK)
    for label, title, looks in (("one", one, (10, 11, 0)), ("another", other, (11, 10, 0))):
        candidates = ranked(known, looks, [title, *LINES])
        assert candidates[0].label == label
        assert candidates[0].visual < candidates[1].visual
        # Each picture of its page shows the title, none of the other: ln((3.5 / 4) / (0.5 / 4)).
        assert {term.name: term.rank_score for term in candidates[0].terms}[
            "siblings"
        ] == pytest.approx(SCORE_PER_NAT * math.log(7))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_title_in_a_language_that_one_picture_has_tells_pages_that_look_alike(
    language: str,
) -> None:
    known = snapshot(
        *(("alert", ONE_LOOK, [alert, *lines]) for alert, _, lines in LANGUAGES.values()),
        *(("webhook", ONE_LOOK, [webhook, *lines]) for _, webhook, lines in LANGUAGES.values()),
        *ELSEWHERE,
    )
    alert, webhook, lines = LANGUAGES[language]
    for label, title in (("alert", alert), ("webhook", webhook)):
        assert ranked(known, ONE_LOOK, [title, *lines])[0].label == label
