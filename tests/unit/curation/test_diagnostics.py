"""What may be wrong with a gallery: wrong labels, near duplicates, labels with few pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagesight_server.curation.bounds import quantile_bound, rejection_bound
from pagesight_server.curation.diagnostics import diagnose, near_duplicates
from pagesight_server.curation.own_scores import own_scores
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from tests.support.parts import image_id, reading, snapshot

RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
ALMOST_RED = (1.0, 0.1, 0.0)  # cosine to RED: 1 / sqrt(1.01) = 0.995
LOAN = ("我的额度", "可用额度 800 元", "去借款")
CLOCK = ("Alarms", "Stopwatch", "Add a timer")


def knowledge(*pictures: tuple[str, tuple[float, ...], tuple[str, ...]]) -> Knowledge:
    return Knowledge.of(snapshot(*pictures))


def test_a_picture_under_the_wrong_label_is_likely_wrong_and_comes_first() -> None:
    diagnosis = diagnose(
        knowledge(
            ("clock", GREEN, CLOCK),
            ("clock", GREEN, CLOCK),
            ("clock", RED, LOAN),
            ("loan", RED, LOAN),
            ("loan", RED, LOAN),
        )
    )
    suspect = diagnosis.suspects[0]
    assert suspect.picture.image_id == image_id(2)
    assert (suspect.picture.label, suspect.suggested.label) == ("clock", "loan")
    assert suspect.likely
    assert suspect.suggested_score > suspect.own_score
    # Two others carry its label, so two neighbours are asked: the loans.
    assert (suspect.neighbours, suspect.foreign) == (2, 2)


def test_a_gallery_in_order_has_no_suspects() -> None:
    diagnosis = diagnose(
        knowledge(
            ("clock", GREEN, CLOCK),
            ("clock", GREEN, CLOCK),
            ("loan", RED, LOAN),
            ("loan", RED, LOAN),
        )
    )
    assert diagnosis.suspects == ()


def test_the_only_picture_of_a_label_and_examples_of_unknown_pages_are_no_suspects() -> None:
    diagnosis = diagnose(
        knowledge(
            ("clock", RED, LOAN),
            ("loan", RED, LOAN),
            ("loan", RED, LOAN),
            ("other_ads", RED, LOAN),
            ("other_ads", GREEN, CLOCK),
        )
    )
    assert [s for s in diagnosis.suspects if s.picture.label != "loan"] == []


def test_pictures_that_look_and_read_almost_the_same_are_one_group_whatever_their_label() -> None:
    diagnosis = diagnose(
        knowledge(
            ("a", RED, LOAN),
            ("a", ALMOST_RED, LOAN),
            ("b", RED, LOAN),
            ("b", GREEN, CLOCK),
            ("c", GREEN, ("Contacts", "Favourites")),
        )
    )
    groups = [[picture.image_id for picture in group] for group in diagnosis.duplicates]
    assert groups == [[image_id(0), image_id(1), image_id(2)]]
    by_label = {label.label: (label.images, label.distinct) for label in diagnosis.labels}
    assert by_label == {"a": (2, 1), "b": (2, 2), "c": (1, 1)}


@pytest.mark.parametrize(
    ("direction", "texts", "same"),
    [
        pytest.param(ALMOST_RED, LOAN, True, id="almost the same look and the same text"),
        pytest.param(RED, ("我的额度", "可用额度 650 元", "去借款"), False, id="another amount"),
        pytest.param((1.0, 0.5, 0.0), LOAN, False, id="another look: cosine 0.894"),
        pytest.param(RED, (), False, id="text on one of the two alone"),
    ],
)
def test_near_duplicates_look_alike_and_read_alike(
    direction: tuple[float, ...], texts: tuple[str, ...], same: bool
) -> None:
    duplicates = near_duplicates(
        knowledge(("a", RED, LOAN), ("b", direction, texts)), [image_id(1)]
    )
    assert [near.picture.label for near in duplicates.get(image_id(1), [])] == ["a"] * same


def test_pictures_without_text_must_look_the_same() -> None:
    pictures = knowledge(("a", RED, ()), ("a", RED, ()), ("a", ALMOST_RED, ()))
    duplicates = near_duplicates(pictures, [image_id(0), image_id(2), "f" * 64])
    assert list(duplicates) == [image_id(0)]
    assert [near.picture.image_id for near in duplicates[image_id(0)]] == [image_id(1)]


def test_at_most_so_many_pictures_are_examined() -> None:
    pictures = knowledge(*[("a", RED, (f"page {i} of many",)) for i in range(6)])
    diagnosis = diagnose(pictures, max_images=2)
    assert (diagnosis.images, diagnosis.examined) == (6, 2)


def test_an_empty_gallery_is_in_order() -> None:
    diagnosis = diagnose(knowledge())
    assert (diagnosis.images, diagnosis.suspects, diagnosis.duplicates, diagnosis.labels) == (
        0,
        (),
        (),
        (),
    )
    assert diagnosis.rejection_bound == 1.0


@pytest.mark.parametrize(
    ("scores", "k", "bound"),
    [
        # k = 1: 1 - 0.05 ** (1 / n).
        (1, 1, 0.95),
        (3, 1, 0.632),
        (59, 1, 0.0495),
        # The classic table of tolerance limits: 93 for k = 2, 124 for k = 3, at 5 % and 95 %.
        (93, 2, 0.05),
        (124, 3, 0.05),
        (0, 1, 1.0),
        (3, 4, 1.0),
    ],
)
def test_the_bound_is_that_of_wilks(scores: int, k: int, bound: float) -> None:
    assert quantile_bound(scores, k) == pytest.approx(bound, abs=6e-4)


def test_with_more_pictures_the_bound_comes_close_to_epsilon() -> None:
    bounds = [rejection_bound(n, 0.05) for n in (19, 100, 500, 2_000, 100_000)]
    assert bounds == sorted(bounds, reverse=True)
    assert 0.05 < bounds[-1] < 0.06


def test_nothing_is_promised_of_rejections_where_labels_have_few_pictures() -> None:
    few = [("a", RED, LOAN), ("a", RED, LOAN), ("b", GREEN, CLOCK), ("b", GREEN, CLOCK)]
    assert diagnose(knowledge(*few)).rejection_bound == 1.0


def test_own_pictures_below_the_threshold_are_counted_and_their_labels_told() -> None:
    gallery = snapshot(
        ("clock", GREEN, ("Alarms", "Stopwatch")),
        ("clock", (0.0, 0.0, 1.0), ("Sveglie", "Cronometro")),
        ("loan", RED, LOAN),
        ("loan", RED, LOAN),
        ("single", (1.0, 1.0, 1.0), ("Contacts", "Favourites")),
    )
    high = Calibration(
        epsilon=0.05,
        pictures=4,
        guaranteed=False,
        threshold_with_text=0.9,
        threshold_without_text=0.9,
    )
    known = Knowledge.of(gallery, calibration=high)
    found = diagnose(known)
    assert (found.left_out, found.rejected) == (4, 2)
    own = {label.label: label.own for label in found.labels}
    assert own["single"] is None
    assert own["clock"] is not None
    assert own["loan"] is not None
    assert (own["clock"].rejected, own["loan"].rejected) == (2, 0)
    rejected = {label.label: [p.image_id for p in label.rejected] for label in found.labels}
    assert sorted(rejected["clock"]) == [image_id(0), image_id(1)]
    assert (rejected["loan"], rejected["single"]) == ([], [])
    alone = own_scores(known, with_text=True)
    assert sorted(own["clock"].scores) == sorted(alone["clock"].scores)


def test_looks_are_wanted_that_no_other_picture_of_the_label_has() -> None:
    # Of the eleven that have another of their label, the two of b are least alike: their cosine is
    # 1 / sqrt(2) = 0.707, and the quantile at a tenth of 0.707, 0.707, 1, ... is the second.
    known = knowledge(
        *[("a", RED, LOAN) for _ in range(9)],
        ("b", GREEN, CLOCK),
        ("b", (0.0, 1.0, 1.0), CLOCK),
        ("single", (0.0, 0.0, 1.0), ("Contacts", "Favourites")),
    )
    health = {label.label: label for label in diagnose(known).labels}
    assert {picture.image_id for picture in health["b"].unlike} == {image_id(9), image_id(10)}
    assert health["b"].least_looks == pytest.approx(0.7071, abs=1e-3)
    assert health["a"].unlike == ()
    assert health["a"].least_looks == pytest.approx(1.0, abs=1e-3)
    assert (health["single"].least_looks, health["single"].unlike) == (0.0, ())


def test_where_all_pictures_look_the_same_no_look_is_wanted() -> None:
    found = diagnose(knowledge(*[("a", RED, LOAN) for _ in range(4)]))
    assert [label.unlike for label in found.labels] == [()]


def test_a_picture_whose_text_was_hardly_read_is_named_with_how_much_of_it() -> None:
    gallery = snapshot(("a", RED, LOAN), ("a", GREEN, ()), ("other_ads", GREEN, ()))
    lines = reading("γotob", "Hactpoйkn", "Oтмeнa", "Дaлee", "Пoиск").lines
    # Of five lines two were read with confidence: 3 of 5 were not. Of the example all were not.
    unsure = [line._replace(confidence=0.6 if i < 3 else 0.99) for i, line in enumerate(lines)]
    nonsense = [line._replace(confidence=0.6) for line in lines]
    pictures = list(gallery.pictures)
    for row, found_lines in ((1, unsure), (2, nonsense)):
        text = replace(reading(), lines=tuple(found_lines))
        pictures[row] = replace(pictures[row], reading=text)
    found = diagnose(Knowledge.of(replace(gallery, pictures=tuple(pictures))))
    assert [(h.picture.image_id, *h.legibility) for h in found.hardly_read] == [
        (image_id(2), 5, 5),
        (image_id(1), 5, 3),
    ]


def test_a_label_whose_text_all_stands_on_others_has_none_of_its_own() -> None:
    known = knowledge(
        ("contact", RED, ("姓名", "手机号码")),
        ("contact", RED, ("姓名", "手机号码")),
        ("name", GREEN, ("姓名",)),
        ("name", GREEN, ("姓名",)),
    )
    shared = {label.label: label.text_shared_with for label in diagnose(known).labels}
    assert shared == {"contact": (), "name": ("contact",)}
