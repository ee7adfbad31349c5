"""Known items are answered as if the gallery did not hold them."""

from __future__ import annotations

import random

from pagesight_server.curation.known_items import KnownItem, draw_known
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.explanation import explain
from pagesight_server.recognition.knowledge import Knowledge
from tests.support.parts import image_id, snapshot

LOGIN, HOME, ONLY = "登录账号", "首页余额", "唯一页面"


def gallery() -> Snapshot:
    """Two pictures of one page, two of another, one of a third, and examples of unknown pages."""
    return snapshot(
        ("home", (1, 0, 0.1), [HOME]),
        ("home", (1, 0, 0.2), [HOME, "只有这张"]),
        ("login", (0, 1, 0.1), [LOGIN]),
        ("login", (0, 1, 0.2), [LOGIN]),
        ("only", (0, 0, 1), [ONLY]),
        ("other_ads", (1, 1, 1), ["广告"]),
        ("other_ads", (1, 1, 0.9), ["广告"]),
    )


def draw(count: int, seed: int = 0) -> list[KnownItem]:
    return draw_known(Knowledge.of(gallery()), count, lot=random.Random(seed))


def test_pictures_of_known_pages_that_have_company_are_drawn_once_each() -> None:
    drawn = draw(20)
    assert {item.picture.image_id for item in drawn} == {image_id(row) for row in range(4)}
    assert len(drawn) == 4
    assert len(draw(2)) == 2
    assert {draw(1, seed)[0].picture.image_id for seed in range(40)} == {
        image_id(row) for row in range(4)
    }


def test_a_known_item_is_neither_its_own_candidate_nor_its_own_evidence() -> None:
    for item in draw(20):
        answer = item.answer
        assert answer.left_out is not None
        assert answer.left_out not in {c.row for c in answer.decision.candidates}
        assert answer.decision.closest_label == item.picture.label
    (item,) = [one for one in draw(20) if one.picture.image_id == image_id(1)]
    answer = item.answer
    told = explain(answer.knowledge, answer.query, answer.decision, without=answer.left_out)
    # No other picture shows that line, and its own does not count.
    assert {f.text: f.kind for f in told.findings} == {HOME: "agrees", "只有这张": "forbids"}
    # The one other picture of home shows it, the one of the runner-up does not: 1.5 / 2, 0.5 / 2.
    assert f"words that tell home from only: {HOME!r} (75% to 25%)" in told.reasons


def test_a_gallery_without_company_has_no_known_items() -> None:
    assert draw_known(Knowledge.of(snapshot(("only", (0, 0, 1), [ONLY]))), 5) == []
    assert draw_known(Knowledge.of(snapshot()), 5) == []
