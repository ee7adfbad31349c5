"""What can be asked of a store: listings, history, calibrations."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pagesight_server.common.errors import InvalidRequestError, NotFoundError
from pagesight_server.gallery import Gallery, Revision
from pagesight_server.gallery.location import StoreLocation
from tests.support.parts import held
from tests.support.stores import enrol, picture_id

ONE, TWO = picture_id("one"), picture_id("two")


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location, now_ms=iter(range(1000, 9000)).__next__)
    yield opened
    opened.close()


def test_listing_goes_page_by_page_by_label_and_id_at_one_revision(store: Gallery) -> None:
    names = [f"p{i}" for i in range(7)]
    enrol(store, {name: "ab"[i % 2] for i, name in enumerate(names)})
    everything = sorted((("ab"[i % 2], picture_id(name)) for i, name in enumerate(names)))
    listed: list[tuple[str, str]] = []
    after = ("", "")
    while True:
        at, page = store.images("default", revision=1, after=after, limit=3)
        assert at == 1
        if not page:
            break
        assert len(page) <= 3
        listed += [(image.label, image.image_id) for image in page]
        after = listed[-1]
        # A change in the midst does not disturb the listing of its revision.
        enrol(store, {f"new {len(listed)}": "a"})
    assert listed == everything


def test_a_listing_shows_sizes_and_lines_and_may_keep_to_a_label(store: Gallery) -> None:
    enrol(store, {"one": "a", "two": "b"})
    at, (image,) = store.images("default", label="b")
    assert at == 1
    assert (image.image_id, image.label, image.text_lines) == (TWO, "b", 2)
    assert (image.width_px, image.height_px, image.source) == (108, 240, "two.png")
    assert store.images("default", label="none") == (1, [])


def test_a_position_that_is_none_is_refused(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    with pytest.raises(InvalidRequestError):
        store.images("default", after=("a", "zz"))


def test_the_history_is_newest_first_and_comes_in_pages(store: Gallery) -> None:
    for i in range(5):
        enrol(store, {f"p{i}": "a"})
    assert [made.revision for made in store.history("default", limit=2)] == [5, 4]
    assert [made.revision for made in store.history("default", before=4)] == [3, 2, 1]
    assert [made.images for made in store.history("default")] == [5, 4, 3, 2, 1]
    assert store.history("default")[4] == Revision(
        revision=1,
        made_at_ms=1001,
        author="mei",
        kind="enrol",
        summary="enrolled 1 of a",
        images=1,
    )


def test_a_long_change_is_summed_up_in_a_line(store: Gallery) -> None:
    enrol(store, {f"p{i}": f"label{i}" for i in range(8)})
    assert store.history("default")[0].summary == (
        "enrolled 8 of label0, label1, label2, label3, label4 and 3 more"
    )


@pytest.mark.parametrize("revision", [-1, 2])
def test_a_revision_that_never_was_is_not_found(store: Gallery, revision: int) -> None:
    enrol(store, {"one": "a"})
    with pytest.raises(NotFoundError, match=f"no revision {revision}"):
        store.snapshot(revision=revision)
    with pytest.raises(NotFoundError):
        store.images("default", revision=revision)


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.snapshot("none"),
        lambda store: store.images("none"),
        lambda store: store.labels("none"),
        lambda store: store.history("none"),
        lambda store: store.calibration("none", 1, "seed"),
        lambda store: store.put_calibration("none", 1, "seed", "{}"),
    ],
)
def test_a_gallery_that_never_was_is_not_found(
    store: Gallery, read: Callable[[Gallery], object]
) -> None:
    with pytest.raises(NotFoundError, match="no gallery 'none': enrol a picture to create it"):
        read(store)


def test_calibrations_are_kept_by_revision_and_method(store: Gallery) -> None:
    enrol(store, {"one": "a"})
    store.put_calibration("default", 1, "seed", "first")
    store.put_calibration("default", 1, "seed", "second")
    store.put_calibration("default", 1, "pagesight", "ours")
    assert store.calibration("default", 1, "seed") == "second"
    assert store.calibration("default", 1, "pagesight") == "ours"
    assert store.calibration("default", 2, "seed") is None


def test_clocks_that_jump_backwards_keep_the_history_in_order(location: StoreLocation) -> None:
    now = [0]
    store = Gallery(location, now_ms=lambda: now[0])
    for name, now[0] in (("one", 5000), ("two", -7), ("three", 3000)):
        enrol(store, {name: "a"})
    history = store.history("default")
    assert [(made.revision, made.made_at_ms) for made in history] == [
        (3, 3000),
        (2, -7),
        (1, 5000),
    ]
    assert held(store.snapshot(revision=2)) == {ONE: "a", TWO: "a"}
    store.close()
