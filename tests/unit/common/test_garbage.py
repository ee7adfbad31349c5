"""The collector of cycles is off within a block, and afterwards as it was before."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from pagesight_server.common.garbage import collection_put_off


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if enabled else gc.disable)()


def test_it_is_off_within_and_on_again_afterwards() -> None:
    with collection_put_off():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_is_on_again_after_an_error() -> None:
    with pytest.raises(ValueError, match="no"), collection_put_off():
        raise ValueError("no")
    assert gc.isenabled()


def test_of_blocks_that_overlap_the_last_to_end_turns_it_on() -> None:
    first, second = collection_put_off(), collection_put_off()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    with collection_put_off():
        assert not gc.isenabled()
    assert not gc.isenabled()
