"""New pages among rejected pictures, in a gallery of hand-made vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pagesight_server.curation import discovery
from pagesight_server.curation.discovery import DEFAULT_CUT, Discovered, discover, place_cut
from pagesight_server.curation.likeness import Likeness, Pages, SeenPicture
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.knowledge import Knowledge
from tests.support.parts import image_id, snapshot, unit
from tests.unit.curation.test_page_names import page

SIZE = 8
PAGES = {
    "home": ("Home", "Balance", "Transfer"),
    "settings": ("Settings", "Language", "Theme"),
    "login": ("Sign in", "Password", "Forgot it?"),
}


def axis(number: int, noise: float = 0.0, towards: int = 0) -> list[float]:
    """A direction along one axis, and a little along another."""
    direction = [0.0] * SIZE
    direction[number] += 1.0
    direction[towards] += noise
    return direction


@pytest.fixture(scope="module")
def knowledge() -> Knowledge:
    """Three pages of four pictures each, and an example of an unknown one."""
    pictures = [
        (label, axis(number, 0.05 * turn, 7), texts)
        for number, (label, texts) in enumerate(PAGES.items())
        for turn in range(4)
    ]
    return Knowledge.of(snapshot(*pictures, ("other_ads", axis(6), ("Buy now", "Only today"))))


def seen(number: int, direction: Sequence[float], *texts: str) -> SeenPicture:
    return SeenPicture(
        image_id=image_id(1000 + number), embedding=unit(*direction), reading=page(*texts)
    )


def orders(first: int, count: int) -> list[SeenPicture]:
    """Pictures of a page that the gallery lacks."""
    return [
        seen(first + i, axis(3, 0.05 * i, 7), "Order history", f"Paid {10 + i}.00", "Help")
        for i in range(count)
    ]


def ids(pictures: Sequence[SeenPicture]) -> set[str]:
    return {picture.image_id for picture in pictures}


def test_alike_pictures_are_a_cluster_with_a_name_and_others_are_single(
    knowledge: Knowledge,
) -> None:
    coupons = [seen(50 + i, axis(4, 0.05 * i, 7), "Coupons", "All", "Used") for i in range(2)]
    alone = seen(60, axis(5), "Something else entirely")
    found = discover(knowledge, [alone, *coupons, *orders(0, 3)])
    assert [set(cluster.image_ids) for cluster in found.clusters] == [
        ids(orders(0, 3)),
        ids(coupons),
    ]
    assert [cluster.suggested_label for cluster in found.clusters] == ["order_history", "coupons"]
    assert found.clusters[0].shared_texts == ("Order history", "Paid #.#", "Help")
    assert found.single_image_ids == (alone.image_id,)
    assert found.left_out == 0
    assert all(cluster.closest_label in PAGES for cluster in found.clusters)
    assert all(0.9 < cluster.likeness <= 1 for cluster in found.clusters)


def test_known_pages_are_left_out_and_what_resembles_an_unknown_example(
    knowledge: Knowledge,
) -> None:
    home = seen(0, axis(0), *PAGES["home"])
    advert = seen(1, axis(6, 0.02, 7), "Buy now", "Only today")
    found = discover(knowledge, [home, advert, *orders(10, 2)])
    assert found.left_out == 2
    assert [set(cluster.image_ids) for cluster in found.clusters] == [ids(orders(10, 2))]


def test_what_resembles_a_dismissed_picture_is_left_out_and_nothing_else(
    knowledge: Knowledge,
) -> None:
    coupons = [seen(50 + i, axis(4), "Coupons", "All", "Used") for i in range(3)]
    pictures = [*orders(0, 3), *coupons]
    found = discover(knowledge, pictures, [seen(99, axis(3), "Order history", "Help")])
    assert [set(cluster.image_ids) for cluster in found.clusters] == [ids(coupons)]
    assert found.left_out == 3


def test_enrolled_clusters_are_left_out_the_next_time(knowledge: Knowledge) -> None:
    first = discover(knowledge, orders(0, 4))
    assert len(first.clusters) == 1
    grown = [
        (picture.label, knowledge.snapshot.embeddings[row].tolist(), _texts(picture))
        for row, picture in enumerate(knowledge.snapshot.pictures)
    ]
    grown += [("order_history", one.embedding.tolist(), _texts(one)) for one in orders(0, 4)]
    second = discover(Knowledge.of(snapshot(*grown)), orders(20, 4))
    assert (second.clusters, second.left_out) == ((), 4)


def _texts(one: object) -> tuple[str, ...]:
    return tuple(line.text for line in one.reading.lines)  # type: ignore[attr-defined]


def test_order_and_repeats_change_nothing_but_the_order_of_singles(knowledge: Knowledge) -> None:
    pictures = [*orders(0, 3), *orders(0, 3), seen(60, axis(5), "Else")]
    forwards, backwards = discover(knowledge, pictures), discover(knowledge, pictures[::-1])
    assert [(c.key, set(c.image_ids), c.suggested_label) for c in forwards.clusters] == [
        (c.key, set(c.image_ids), c.suggested_label) for c in backwards.clusters
    ]
    assert len(forwards.clusters[0].image_ids) == 3
    assert len(forwards.clusters[0].key) == 16


def test_a_cluster_has_as_many_pictures_as_are_asked_for(knowledge: Knowledge) -> None:
    pictures = orders(0, 3)
    assert len(discover(knowledge, pictures, min_pictures=3).clusters) == 1
    found = discover(knowledge, pictures, min_pictures=4)
    assert (found.clusters, set(found.single_image_ids)) == ((), ids(pictures))


def test_the_label_is_one_that_neither_gallery_nor_another_cluster_has(
    knowledge: Knowledge,
) -> None:
    taken = [seen(70 + i, axis(4), "Settings", "All new and other") for i in range(2)]
    again = [seen(80 + i, axis(5), "Settings", "Nothing of the kind") for i in range(2)]
    labels = {one.suggested_label for one in discover(knowledge, [*taken, *again]).clusters}
    assert labels == {"settings_2", "settings_3"}


def test_an_empty_gallery_rejects_everything() -> None:
    found = discover(Knowledge.of(snapshot()), orders(0, 3))
    assert [len(cluster.image_ids) for cluster in found.clusters] == [3]
    assert found.clusters[0].closest_label == ""
    assert discover(Knowledge.of(snapshot()), []) == Discovered(
        clusters=(), single_image_ids=(), left_out=0, cut=DEFAULT_CUT
    )


def test_pictures_without_text_go_by_their_looks(knowledge: Knowledge) -> None:
    silent = [seen(i, axis(3, 0.02 * i, 7)) for i in range(3)]
    other = seen(9, axis(4))
    found = discover(knowledge, [*silent, other])
    assert [set(cluster.image_ids) for cluster in found.clusters] == [ids(silent)]
    assert found.clusters[0].suggested_label == "new_page"
    pages = Pages.of([*silent[:1], other])
    assert Likeness(knowledge.method).between(pages, pages)[0, 1] < 0.1


def test_in_blocks_and_by_sample_the_clusters_are_the_same(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    coupons = [seen(50 + i, axis(4, 0.02 * i, 7), "Coupons", "All", "Used") for i in range(9)]
    pictures = [*orders(0, 12), *coupons]
    whole = discover(knowledge, pictures)
    assert sorted(len(cluster.image_ids) for cluster in whole.clusters) == [9, 12]
    for constant, value in (("BLOCK", 4), ("MAX_WHOLE", 5)):
        monkeypatch.setattr(discovery, constant, value)
        parted = discover(knowledge, pictures)
        assert [set(one.image_ids) for one in parted.clusters] == [
            set(one.image_ids) for one in whole.clusters
        ]


def test_work_ends_at_its_next_step(knowledge: Knowledge) -> None:
    class LeftError(Exception):
        pass

    def step() -> None:
        raise LeftError

    with pytest.raises(LeftError):
        discover(knowledge, orders(0, 2), step=step)


def test_the_gallery_places_the_cut_and_more_surely_the_more_pictures_a_page_has() -> None:
    # Looks say nothing here; a page's own pictures share half of their text, others none of it.
    def gallery(pictures: int) -> Snapshot:
        return snapshot(
            *(
                (name, axis(0), (f"{name} " * 6, f"{'qwertzuiopasdfgh'[turn]}" * 20))
                for name in ("alpha", "bravo", "charlie", "delta", "echoes")
                for turn in range(pictures)
            )
        )

    made = gallery(8)
    likeness = Likeness(Knowledge.of(made).method)
    pages = Pages.of_gallery(made, range(40))
    alike = likeness.between(pages, pages)
    labels = np.asarray([picture.label for picture in made.pictures])
    same = labels[:, None] == labels[None, :]
    np.fill_diagonal(same, False)
    apart = alike[labels[:, None] != labels[None, :]].mean()
    eight, four = place_cut(made, likeness), place_cut(gallery(4), likeness)
    assert apart < eight < four < DEFAULT_CUT
    # Of 8 pictures a page, 8 / 11 of the cut is the gallery's: between the two kinds of pair.
    own = DEFAULT_CUT + (eight - DEFAULT_CUT) * 11 / 8
    assert apart < own < alike[same].max()
    assert place_cut(gallery(3), likeness) == DEFAULT_CUT
