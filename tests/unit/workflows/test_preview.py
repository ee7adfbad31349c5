"""A preview tells exactly the answers that enrolling really gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pagesight_server.common.errors import AlreadyExistsError, InvalidRequestError
from pagesight_server.gallery import Change, Content, Entry, Gallery
from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.preview import (
    Addition,
    Additions,
    Asked,
    as_enrolled,
    empty_snapshot,
    preview,
)
from pagesight_server.workflows.registry import Registry
from tests.support.parts import BUNDLES, image_id, reading, unit

PAGES = {"home": ("Home", "Balance"), "settings": ("Settings", "Theme"), "login": ("Sign in",)}


def addition(number: int, label: str, direction: Sequence[float], *texts: str) -> Addition:
    return Addition(
        image_id=image_id(number),
        label=label,
        source="",
        embedding=unit(*direction),
        reading=reading(*texts),
    )


def direction(page: int, turn: int) -> list[float]:
    """Pictures of one page, each a little another way."""
    values = [0.1 * turn, 0.02 * turn * turn, 0.0, 0.0, 0.0]
    values[page] += 1.0
    return values


GALLERY = [
    addition(10 * page + turn, label, direction(page, turn), *texts, f"Line {'abcdefghi'[turn]}")
    for page, (label, texts) in enumerate(PAGES.items())
    for turn in range(5)
]
BATCH = [
    addition(100 + turn, "orders", direction(3, turn), "Orders", "Paid", f"To {'abcdefghi'[turn]}")
    for turn in range(4)
] + [addition(200, "home", direction(0, 8), "Home", "New look")]
ASKED = [
    Asked(
        image_id=image_id(300 + 10 * page + turn),
        query=Query(
            embedding=unit(*direction(page, turn + 5)),
            reading=reading(*texts, "Line z") if turn else None,
        ),
        truth=truth,
    )
    for page, (truth, texts) in enumerate([*PAGES.items(), ("orders", ("Orders", "Paid"))])
    for turn in range(3)
] + [
    Asked(
        image_id=image_id(400),
        query=Query(embedding=unit(0, 0, 0, 0, 1), reading=reading("Else")),
        truth=OTHER,
    )
]


def enrol(store: Gallery, pictures: Sequence[Addition]) -> None:
    """Enrols pictures in the store as an `Enroller` does."""
    entries = []
    for one in pictures:
        content = Content(
            image_id=one.image_id,
            width_px=100,
            height_px=200,
            data=None,
            embedding=one.embedding,
            reading=one.reading,
        )
        store.put_content(content, BUNDLES)
        entries.append(Entry(image_id=one.image_id, label=one.label))
    store.enrol(Change(), entries, BUNDLES)


def decision(knowledge: Knowledge, asked: Asked) -> Decision:
    candidates = knowledge.method.weigh(asked.query, knowledge.method.search(asked.query.embedding))
    with_text = asked.query.reading is not None
    return decide(candidates, knowledge.calibration, with_text=with_text)


async def known(registry: Registry) -> Knowledge:
    """What queries are answered from once all is settled."""
    await registry.refresh()
    await registry.settled()
    return registry.get("default")


async def test_enrolling_really_gives_the_answers_that_were_previewed(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.1)
    enrol(store, GALLERY)
    before = await known(registry)
    told = preview(before, BATCH, ASKED)
    assert store.revisions() == {"default": 1}
    old = [decision(before, one) for one in ASKED]

    enrol(store, BATCH)
    after = await known(registry)
    new = [decision(after, one) for one in ASKED]
    expected = [
        (one.image_id, a.label, b.label, one.truth)
        for one, a, b in zip(ASKED, old, new, strict=True)
        if a.label != b.label
    ]
    assert [(t.image_id, t.before, t.after, t.truth) for t in told.turned] == expected
    assert {turned.after for turned in told.turned} >= {"orders"}
    assert told.answered == len(ASKED)
    assert told.revision == 1
    for right, decisions in ((told.right_before, old), (told.right_after, new)):
        assert right == sum(d.label == a.truth for d, a in zip(decisions, ASKED, strict=True))
    assert told.right_after > told.right_before

    # Not the labels alone: scores and thresholds are those that were looked at.
    hypothetical = Knowledge.of(as_enrolled(before.snapshot, BATCH), epsilon=0.1, before=before)
    for one, decided in zip(ASKED, new, strict=True):
        looked_at = decision(hypothetical, one)
        assert (looked_at.label, looked_at.score, looked_at.threshold) == (
            decided.label,
            decided.score,
            decided.threshold,
        )
    await registry.close()
    store.close()


async def test_a_preview_of_a_new_gallery_is_that_of_its_first_enrolment(tmp_path: Path) -> None:
    store = Gallery(tmp_path / "gallery.db")
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.1)
    told = preview(Knowledge.of(empty_snapshot("default", BUNDLES), epsilon=0.1), GALLERY, ASKED)
    assert store.revisions() == {}
    enrol(store, GALLERY)
    after = await known(registry)
    labels = {one.image_id: decision(after, one).label for one in ASKED}
    turned = {name: label for name, label in labels.items() if label != OTHER}
    assert {one.image_id: one.after for one in told.turned} == turned
    assert turned
    assert told.revision == 0
    await registry.close()
    store.close()


def test_a_threshold_that_labelled_traffic_placed_stays() -> None:
    snapshot = as_enrolled(empty_snapshot("default", BUNDLES), GALLERY)
    placed = Calibration(
        epsilon=0.05,
        pictures=9,
        guaranteed=False,
        threshold_with_text=2.0,
        threshold_without_text=2.0,
        source="validation",
        revision=1,
    )
    # Nothing reaches a threshold of 2, neither before nor after.
    told = preview(Knowledge.of(snapshot, calibration=placed), BATCH, ASKED)
    assert told.turned == ()
    assert told.right_before == told.right_after == 1


def test_nothing_turns_where_nothing_is_added_and_each_picture_counts_once() -> None:
    knowledge = Knowledge.of(as_enrolled(empty_snapshot("default", BUNDLES), GALLERY))
    told = preview(knowledge, [], [*ASKED, *ASKED[:3]])
    assert (told.turned, told.answered) == ((), len(ASKED))
    assert told.right_before == told.right_after


def test_additions_follow_the_rules_of_an_enrolment() -> None:
    additions = Additions(as_enrolled(empty_snapshot("default", BUNDLES), GALLERY))
    assert not additions.lacks(GALLERY[0].image_id, "home", "")
    with pytest.raises(AlreadyExistsError, match="enrolled as 'home'"):
        additions.lacks(GALLERY[0].image_id, "orders", "")
    with pytest.raises(InvalidRequestError):
        additions.lacks(BATCH[0].image_id, "a/b", "")
    assert additions.lacks(BATCH[0].image_id, "orders", "")
    additions.add(BATCH[0])
    assert not additions.lacks(BATCH[0].image_id, "orders", "")
    with pytest.raises(AlreadyExistsError, match="enrolled as 'orders'"):
        additions.lacks(BATCH[0].image_id, "home", "")
    assert [one.label for one in additions.pictures] == ["orders"]


def test_work_ends_at_its_next_step() -> None:
    class LeftError(Exception):
        pass

    def step() -> None:
        raise LeftError

    knowledge = Knowledge.of(as_enrolled(empty_snapshot("default", BUNDLES), GALLERY))
    with pytest.raises(LeftError):
        preview(knowledge, BATCH, ASKED, step=step)
