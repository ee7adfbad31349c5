"""What a store keeps of dismissed clusters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import LimitError, NotFoundError, PurgedError
from pagesight_server.gallery import Change, DismissedPicture, Gallery, backup
from pagesight_server.gallery import dismissed as table
from pagesight_server.gallery.location import StoreLocation
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit
from tests.support.stores import enrol

A, B = "a" * 64, "b" * 64


def picture(name: str, *texts: str) -> DismissedPicture:
    return DismissedPicture(image_id=name, embedding=unit(1, 2, 3), reading=reading(*texts))


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location)
    enrol(opened, {"one": "a"})
    yield opened
    opened.close()


def ids(store: Gallery) -> list[str]:
    return [one.image_id for one in store.dismissed("default", BUNDLES)]


def test_what_was_dismissed_is_read_back_and_repeats_change_nothing(store: Gallery) -> None:
    for _ in range(2):
        store.dismiss("default", {"k": [picture(A, "Buy"), picture(B)]}, BUNDLES, author="mei")
    first, second = store.dismissed("default", BUNDLES)
    assert (first.image_id, second.image_id) == (A, B)
    assert first.reading == reading("Buy")
    np.testing.assert_allclose(first.embedding, unit(1, 2, 3), atol=1e-3)
    assert [one.revision for one in store.history("default")] == [1]


def test_other_bundles_compare_with_nothing(store: Gallery) -> None:
    store.dismiss("default", {"k": [picture(A)]}, BUNDLES)
    assert store.dismissed("default", OTHER_BUNDLES) == []


def test_a_gallery_that_is_not_there_dismisses_nothing(store: Gallery) -> None:
    with pytest.raises(NotFoundError):
        store.dismiss("nowhere", {"k": [picture(A)]}, BUNDLES)
    with pytest.raises(NotFoundError):
        store.dismissed("nowhere", BUNDLES)


def test_deleting_the_gallery_forgets_it(store: Gallery) -> None:
    store.dismiss("default", {"k": [picture(A)]}, BUNDLES)
    store.delete(Change())
    enrol(store, {"one": "a"})
    assert ids(store) == []


def test_a_purge_reaches_dismissed_pictures_that_were_never_enrolled(store: Gallery) -> None:
    store.dismiss("default", {"k": [picture(A, "Bearer of a secret"), picture(B)]}, BUNDLES)
    assert store.full_ids([A[:20]]) == [A]
    store.purge([A], author="mei")
    assert ids(store) == [B]
    if isinstance(store.location, Path):
        assert b"Bearer of a secret" not in store.location.read_bytes()
    with pytest.raises(PurgedError):
        store.dismiss("default", {"k": [picture(B), picture(A)]}, BUNDLES)


def test_a_gallery_keeps_no_more_than_it_may(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "MAX_DISMISSED", 1)
    with pytest.raises(LimitError, match="at most 1 pictures"):
        store.dismiss("default", {"k": [picture(A), picture(B)]}, BUNDLES)
    assert ids(store) == []
    store.dismiss("default", {"k": [picture(A)]}, BUNDLES)
    assert ids(store) == [A]


def test_what_has_changed_on_the_disk_counts_for_nothing(store: Gallery) -> None:
    store.dismiss("default", {"k": [picture(A), picture(B)]}, BUNDLES)
    with store.database.writing() as db:
        db.execute(
            "UPDATE dismissed SET reading = replace(reading, '100', '101') WHERE image_id = :key",
            {"key": bytes.fromhex(A)},
        )
    assert ids(store) == [B]
    assert backup.check(store) == [
        f"gallery default: what is kept of the dismissed picture {A} has changed: it is not used, "
        "dismiss its cluster again"
    ]
