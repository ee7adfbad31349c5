"""Nearest pictures: exact, in order, whatever is left out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pagesight_server.index import exact
from pagesight_server.index.exact import FlatIndex, most_alike
from tests.support.parts import unit

# Cosines with (1, 0): 1, 0.8, 0.6, 0, -1.
VECTORS = np.stack([unit(0, 1), unit(1, 0), unit(3, 4), unit(-1, 0), unit(4, 3)])
ALL = np.arange(5, dtype=np.int64)


def test_the_nearest_come_first_with_their_cosines() -> None:
    hits = FlatIndex(VECTORS, ALL).search(unit(1, 0), 3)
    assert hits.rows.tolist() == [1, 4, 2]
    assert hits.cosines.tolist() == pytest.approx([1.0, 0.8, 0.6])


def test_all_come_when_there_are_fewer_than_asked() -> None:
    assert FlatIndex(VECTORS, ALL).search(unit(1, 0), 99).rows.tolist() == [1, 4, 2, 0, 3]


def test_a_row_left_out_is_replaced_by_the_next() -> None:
    index = FlatIndex(VECTORS, ALL)
    assert index.search(unit(1, 0), 2, without=1).rows.tolist() == [4, 2]
    assert index.search(unit(1, 0), 2, without=3).rows.tolist() == [1, 4]
    assert index.search(unit(1, 0), 5, without=1).rows.tolist() == [4, 2, 0, 3]


def test_only_the_rows_that_were_asked_for_are_found() -> None:
    index = FlatIndex(VECTORS, np.array([0, 4], np.int64))
    assert len(index) == 2
    assert index.search(unit(1, 0), 5).rows.tolist() == [4, 0]
    assert index.search(unit(1, 0), 5, without=1).rows.tolist() == [4, 0]


@pytest.mark.parametrize("embeddings", [np.empty((0, 0), np.float32), VECTORS])
def test_an_empty_index_finds_nothing(embeddings: NDArray[np.float32]) -> None:
    hits = FlatIndex(embeddings, np.empty(0, np.int64)).search(unit(1, 0), 5)
    assert len(hits.rows) == len(hits.cosines) == 0


def test_a_picture_rounded_to_fp16_still_has_cosine_1_with_itself() -> None:
    vector = unit(*np.random.default_rng(0).normal(size=384))
    stored = vector.astype(np.float16).astype(np.float32)[None]
    hits = FlatIndex(stored, np.array([0], np.int64)).search(vector, 1)
    assert hits.cosines[0] == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 45), st.none() | st.integers(0, 39), st.integers(0, 99))
def test_the_search_agrees_with_sorting_all_cosines(
    count: int, k: int, without: int | None, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = np.stack([unit(*random.normal(size=8)) for _ in range(count)])
    query = unit(*random.normal(size=8))
    hits = FlatIndex(vectors, np.arange(count, dtype=np.int64)).search(query, k, without=without)
    cosines = vectors @ query
    order = [row for row in np.argsort(-cosines).tolist() if row != without][:k]
    assert hits.rows.tolist() == order
    np.testing.assert_allclose(hits.cosines, cosines[order], atol=1e-5)


def test_many_queries_are_answered_in_parts_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vectors = np.stack([unit(*random.normal(size=8)) for _ in range(30)])
    queries = np.stack([unit(*random.normal(size=8)) for _ in range(7)])
    monkeypatch.setattr(exact, "PRODUCTS", 2 * len(vectors))
    positions = most_alike(vectors, queries, 4)
    nearest = np.argsort(-(queries @ vectors.T))[:, :4]
    assert positions.tolist() == np.sort(nearest).tolist()


def test_all_that_tie_with_the_last_are_found_and_other_queries_have_none_in_their_place() -> None:
    vectors = np.stack([unit(0, 1), unit(1, 0), unit(1, 0), unit(3, 4), unit(1, 0)])
    queries = np.stack([unit(1, 0), unit(0, 1)])
    assert most_alike(vectors, queries, 2).tolist() == [[1, 2, 4], [0, 3, -1]]


def test_a_vector_that_is_no_number_hides_no_other() -> None:
    vectors = VECTORS.copy()
    vectors[3] = np.nan
    assert FlatIndex(vectors, ALL).search(unit(1, 0), 1).rows.tolist() == [1]
    assert FlatIndex(vectors, ALL).search(unit(1, 0), 3).rows.tolist() == [1, 4, 2]


def test_only_what_is_allowed_is_found() -> None:
    allowed = np.array([False, True, False, False, True])
    assert most_alike(VECTORS, unit(1, 0)[None, :], 2, allowed=allowed).tolist() == [[1, 4]]


def test_many_threads_may_search_at_once() -> None:
    index = FlatIndex(VECTORS, ALL)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: index.search(unit(1, 0), 3).rows.tolist(), range(200)))
    assert found == [[1, 4, 2]] * 200
