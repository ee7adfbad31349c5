"""Pictures whose text is read from the store when it is asked for, or cannot be read any more."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from pagesight_server.curation import diagnostics
from pagesight_server.curation.diagnostics import diagnose, near_duplicates
from pagesight_server.curation.known_items import draw_known
from pagesight_server.curation.own_scores import own_scores
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading
from tests.support.parts import image_id, reading, snapshot

HELD, ALL = 8, 12
"""Pictures of the label whose text is held, the first ones, and all of them."""

PAGE = ("可用额度", "借款")


class StoredTexts:
    """The texts that a store has, and which were asked for, call by call."""

    def __init__(self, *rows: int) -> None:
        self._texts = {image_id(row): reading(*PAGE) for row in rows}
        self.calls: list[list[str]] = []

    def __call__(self, image_ids: Sequence[str]) -> Mapping[str, Reading]:
        self.calls.append(list(image_ids))
        return {one: self._texts[one] for one in image_ids if one in self._texts}


def knowledge(texts: StoredTexts) -> Knowledge:
    whole = snapshot(
        *(("a", (1, 0, n / 100), PAGE) for n in range(ALL)), ("b", (0, 1, 0), ("还款记录",))
    )
    pictures = [
        replace(picture, reading=None) if HELD <= row < ALL else picture
        for row, picture in enumerate(whole.pictures)
    ]
    return Knowledge.of(
        replace(whole, pictures=tuple(pictures), texts_per_label=HELD, read_texts=texts)
    )


ONE_LOST = tuple(row for row in range(HELD, ALL) if row != 9)


def test_a_picture_whose_text_is_lost_has_no_score_among_those_with_text() -> None:
    known = knowledge(StoredTexts(*ONE_LOST))
    assert len(own_scores(known, with_text=True)["a"].scores) == ALL - 1
    assert len(own_scores(known, with_text=False)["a"].scores) == ALL
    assert diagnose(known).left_out == ALL - 1


def test_a_known_item_is_read_once_and_one_whose_text_is_lost_is_none() -> None:
    texts = StoredTexts(*ONE_LOST)
    drawn = draw_known(knowledge(texts), ALL, lot=random.Random(0))
    assert {item.picture.image_id for item in drawn} == {
        image_id(row) for row in range(ALL) if row != 9
    }
    assert all(item.answer.query.reading == reading(*PAGE) for item in drawn)
    assert sorted(texts.calls) == [[image_id(row)] for row in range(HELD, ALL)]


def test_the_neighbours_of_an_enrolled_picture_are_read_together() -> None:
    texts = StoredTexts(*range(HELD, ALL))
    assert near_duplicates(knowledge(texts), [image_id(0)])
    assert [sorted(call) for call in texts.calls] == [[image_id(row) for row in range(HELD, ALL)]]


def test_a_diagnosis_holds_few_texts_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = StoredTexts(*range(HELD, ALL))
    plenty = diagnose(knowledge(texts))
    assert len(plenty.duplicates[0]) == ALL
    monkeypatch.setattr(diagnostics, "MAX_TEXTS", 1)
    assert diagnose(knowledge(texts)) == plenty
