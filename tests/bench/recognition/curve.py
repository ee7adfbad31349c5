"""How many pictures a page needs: the same test with 1, 2, 3, 5 and 8 of each in the gallery.

    gallery pictures of a page, then its test screenshots ──the first n──> gallery of n a page
                                     └──half of them, never moved──> the test, alike for every n

A page whose gallery has fewer pictures than the longest curve wants gives test screenshots to it:
at most half of them, so that every n is tested by the same screenshots. Where that is not enough
the page has fewer than n, and `pictures` says how many there were.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np

from pagesight_server.evaluation import measure
from pagesight_server.gallery.snapshot import Picture, is_reserved
from tests.bench.recognition.figures import HINDSIGHT, rejected_at
from tests.bench.recognition.methods import OURS, PUBLISHED, answers
from tests.bench.recognition.sets import ScreenSet, TestScreenshot

SIZES = (1, 2, 3, 5, 8)

ORDERS = 3
"""Orders in which pictures are taken, of which the mean is shown: with one picture a page it
matters which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One method on one set with so many pictures a page: means over the orders."""

    set_name: str
    method: str
    size: int
    pictures: float
    """Pictures that the gallery's labels have, on average; less than `size` where a set has no
    more."""
    known: int
    unknown: int
    micro_f1: float
    auroc: float
    false_rejection: float
    rejected: float
    rejected_in_hindsight: float


def curve(
    screen_set: ScreenSet,
    *,
    epsilon: float,
    sizes: Sequence[int] = SIZES,
    orders: int = ORDERS,
) -> list[Point]:
    """Ours and the published method with more and more pictures a page.

    Args:
        screen_set: The set; known and unknown screenshots test it.
        epsilon: Share of known pages that may be rejected.
        sizes: Pictures a page.
        orders: In how many orders pictures are taken.
    """
    tested, spare = split_tests(screen_set, max(sizes))
    points = []
    for size in sizes:
        sets = [with_pictures(screen_set, tested, spare, size, order) for order in range(orders)]
        by_order = [answers(one, epsilon=epsilon, names=(OURS, PUBLISHED)) for one in sets]
        for of_method in zip(*by_order, strict=True):
            measured = [measure(a.predictions) for a in of_method]
            unknown = [m.open_set.kinds.values() for m in measured]
            points.append(
                Point(
                    set_name=screen_set.name,
                    method=of_method[0].method,
                    size=size,
                    pictures=mean(
                        len(one.snapshot.pictures) / len(one.snapshot.labels) for one in sets
                    ),
                    known=measured[0].n,
                    unknown=sum(kind.n for kind in unknown[0]),
                    micro_f1=mean(m.micro_f1 or 0.0 for m in measured),
                    auroc=mean(m.open_set.auroc or 0.0 for m in measured),
                    false_rejection=mean(m.open_set.false_rejection_rate or 0.0 for m in measured),
                    rejected=mean(
                        sum(kind.rejected for kind in kinds) / sum(kind.n for kind in kinds)
                        for kinds in unknown
                    ),
                    rejected_in_hindsight=mean(
                        rejected_at(
                            HINDSIGHT,
                            [p.score for p in a.predictions if p.known],
                            [p.score for p in a.predictions if not p.known],
                        )
                        or 0.0
                        for a in of_method
                    ),
                )
            )
    return points


def split_tests(
    screen_set: ScreenSet, most: int
) -> tuple[tuple[TestScreenshot, ...], tuple[TestScreenshot, ...]]:
    """The screenshots that always test, and those that may move into the gallery.

    Args:
        screen_set: The set.
        most: Pictures a page that are wanted.
    """
    enrolled: defaultdict[str, int] = defaultdict(int)
    for picture in screen_set.snapshot.pictures:
        enrolled[picture.label] += 1
    by_label: defaultdict[str, list[TestScreenshot]] = defaultdict(list)
    for test in screen_set.tests:
        by_label[test.truth].append(test)
    spare: set[str] = set()
    for label, tests in by_label.items():
        if label in enrolled and not is_reserved(label):
            wanted = max(0, most - enrolled[label])
            ordered = sorted(tests, key=lambda test: test.image_id)
            spare.update(test.path for test in ordered[: min(wanted, len(tests) // 2)])
    return (
        tuple(test for test in screen_set.tests if test.path not in spare),
        tuple(test for test in screen_set.tests if test.path in spare),
    )


def with_pictures(
    screen_set: ScreenSet,
    tested: tuple[TestScreenshot, ...],
    spare: Sequence[TestScreenshot],
    size: int,
    order: int,
) -> ScreenSet:
    """The set with at most so many pictures of each label, its own first, then spare ones.

    Args:
        screen_set: The set.
        tested: The screenshots that test it.
        spare: Test screenshots that may be enrolled.
        size: Pictures of a label.
        order: Which of the orders they are taken in.
    """
    snapshot = screen_set.snapshot
    pool = [
        (False, picture, np.asarray(snapshot.embeddings[np.asarray([row])])[0])
        for row, picture in enumerate(snapshot.pictures)
    ]
    pool += [(True, _enrolled(test), test.query.embedding) for test in spare]
    pool.sort(key=lambda entry: (entry[0], _lot(order, entry[1].image_id)))
    taken: defaultdict[str, list[tuple[Picture, np.ndarray]]] = defaultdict(list)
    for _, picture, embedding in pool:
        if len(taken[picture.label]) < size:
            taken[picture.label].append((picture, embedding))
    chosen = sorted(
        (entry for entries in taken.values() for entry in entries),
        key=lambda entry: (entry[0].label, entry[0].image_id),
    )
    return replace(
        screen_set,
        snapshot=replace(
            snapshot,
            pictures=tuple(picture for picture, _ in chosen),
            # Rounded as the store rounds them.
            embeddings=np.stack([e for _, e in chosen]).astype(np.float16).astype(np.float32),
        ),
        tests=tested,
    )


def _enrolled(test: TestScreenshot) -> Picture:
    if test.query.reading is None:
        raise AssertionError("test screenshots are always read")
    return Picture(
        image_id=test.image_id,
        label=test.truth,
        source=test.path,
        author="bench",
        added_at_ms=0,
        added_revision=1,
        reading=test.query.reading,
    )


def _lot(order: int, image_id: str) -> str:
    return hashlib.sha256(f"{order} {image_id}".encode()).hexdigest()
