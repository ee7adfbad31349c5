"""Base, delta and tombstones answer like sorting all cosines, whatever happened before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from pagesight_server.index.exact import FlatIndex
from pagesight_server.index.ivf import Codes, IvfBase, RecallError, build
from pagesight_server.index.layered import FlatBase, LayeredIndex
from pagesight_server.index.policy import IndexSettings, code_bytes, list_count
from pagesight_server.index.vectors import Allowed, Generation, Layout, Vectors, halves_at
from tests.support.parts import unit

DIMENSION = 8


def flat_generation(halves: NDArray[np.float16]) -> Generation:
    return Generation(halves=halves, base=FlatBase(halves.astype(np.float32)))


def clustered(count: int, dimension: int, seed: int = 7) -> NDArray[np.float16]:
    """Unit vectors around one centre for every 50, with noise of norm 0.5."""
    random = np.random.default_rng(seed)

    def normal(rows: int) -> NDArray[np.float32]:
        drawn = random.standard_normal((rows, dimension), np.float32)
        return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)

    centres = normal(max(1, count // 50))
    return (centres[np.arange(count) % len(centres)] + 0.5 * normal(count)).astype(np.float16)


def brute_force(
    halves: NDArray[np.float16], query: NDArray[np.float32], rows: list[int], k: int
) -> list[tuple[int, float]]:
    vectors = halves.astype(np.float64)
    scores = vectors @ query / np.linalg.norm(vectors, axis=1)
    return [(row, scores[row]) for row in sorted(rows, key=lambda r: (-scores[r], r))[:k]]


class Changes(RuleBasedStateMachine):
    """Vectors and their model: pictures by id in the order of their labels."""

    @initialize()
    def begin(self) -> None:
        self.random = np.random.default_rng(0)
        self.pictures: dict[tuple[str, int], NDArray[np.float16]] = {}
        self.next_id = 0
        self.vectors = Vectors.of_generation(flat_generation(np.empty((0, DIMENSION), np.float16)))
        self.building: Layout | None = None

    def move(self, pictures: dict[tuple[str, int], NDArray[np.float16]]) -> None:
        """Takes the model and the vectors to the next revision; slots follow the id."""
        before = {key[1]: row for row, key in enumerate(sorted(self.pictures))}
        keys = sorted(pictures)
        kept = np.asarray([before.get(key[1], -1) for key in keys], np.int64)
        places = np.flatnonzero(kept < 0)
        added = [pictures[keys[place]] for place in places.tolist()]
        halves = np.asarray(added, np.float16).reshape(len(added), DIMENSION)
        self.vectors = self.vectors.after(kept, halves)
        self.pictures = pictures

    @rule(label=st.sampled_from("abc"), count=st.integers(1, 6), twin=st.booleans())
    def enrol(self, label: str, count: int, twin: bool) -> None:
        added = dict(self.pictures)
        for _ in range(count):
            vector = self.random.normal(size=DIMENSION).astype(np.float16)
            if twin and self.pictures:
                vector = next(iter(self.pictures.values()))
            added[label, self.next_id] = vector
            self.next_id += 1
        self.move(added)

    @precondition(lambda self: self.pictures)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        gone = data.draw(st.sets(st.sampled_from(sorted(self.pictures)), min_size=1, max_size=4))
        self.move({k: v for k, v in self.pictures.items() if k not in gone})

    @precondition(lambda self: self.pictures)
    @rule(data=st.data(), label=st.sampled_from("abc"))
    def relabel(self, data: st.DataObject, label: str) -> None:
        key = data.draw(st.sampled_from(sorted(self.pictures)))
        kept = {k: v for k, v in self.pictures.items() if k != key}
        self.move(kept | {(label, key[1]): self.pictures[key]})

    @precondition(lambda self: self.building is None)
    @rule()
    def begin_a_rebuild(self) -> None:
        self.building = self.vectors.layout

    @precondition(lambda self: self.building is not None)
    @rule()
    def end_the_rebuild(self) -> None:
        built_from, self.building = self.building, None
        assert built_from is not None
        halves = halves_at(built_from, built_from.slots)
        assert self.vectors.adopt(flat_generation(halves), built_from)
        assert not self.vectors.adopt(flat_generation(halves), built_from)

    @invariant()
    def it_answers_like_sorting_all_cosines(self) -> None:
        keys = sorted(self.pictures)
        assert len(self.vectors) == len(keys)
        halves = np.asarray([self.pictures[key] for key in keys], np.float16)
        halves = halves.reshape(len(keys), DIMENSION)
        np.testing.assert_array_equal(self.vectors[:], halves.astype(np.float32))
        query = unit(*self.random.normal(size=DIMENSION))
        known = [row for row, key in enumerate(keys) if key[0] != "c"]
        without = known[0] if known else None
        index = LayeredIndex(self.vectors, np.asarray(known, np.int64))
        flat = FlatIndex(halves.astype(np.float32), np.asarray(known, np.int64))
        for k, left_out in ((1, None), (4, without), (99, without)):
            hits = index.search(query, k, without=left_out)
            allowed = [row for row in known if row != left_out]
            expected = brute_force(halves, query, allowed, k)
            assert hits.cosines.tolist() == pytest.approx([c for _, c in expected], abs=1e-6)
            again = flat.search(query, k, without=left_out)
            assert hits.rows.tolist() == again.rows.tolist()
            assert hits.cosines.tolist() == again.cosines.tolist()
            assert len(set(hits.rows.tolist())) == len(expected)


def test_any_interleaving_of_changes_and_rebuilds_answers_like_brute_force() -> None:
    run_state_machine_as_test(Changes, settings=settings(max_examples=40, stateful_step_count=25))


def test_pictures_with_the_same_vector_come_in_the_order_of_their_rows() -> None:
    halves = np.tile(unit(1, 2, 2).astype(np.float16), (40, 1))
    vectors = Vectors.of_generation(flat_generation(halves))
    rows = np.arange(40, dtype=np.int64)
    assert LayeredIndex(vectors, rows).search(unit(1, 0, 0), 3).rows.tolist() == [0, 1, 2]
    assert FlatIndex(vectors[:], rows).search(unit(1, 0, 0), 3).rows.tolist() == [0, 1, 2]


@pytest.fixture(scope="module")
def halves() -> NDArray[np.float16]:
    return clustered(3_000, 32)


CODES: list[Codes] = ["ivfpq", "ivfrabitq"]


@pytest.fixture(scope="module", params=CODES)
def base(request: pytest.FixtureRequest, halves: NDArray[np.float16]) -> IvfBase:
    return build(halves, IndexSettings(), kind=request.param, threads=1)


def test_a_quantised_base_finds_what_it_measured_and_scores_exactly(
    halves: NDArray[np.float16], base: IvfBase
) -> None:
    assert base.measured.recall >= 0.98
    vectors = Vectors.of_generation(Generation(halves=halves, base=base))
    index = LayeredIndex(vectors, np.arange(len(halves), dtype=np.int64))
    random = np.random.default_rng(3)
    found = 0
    for row in random.integers(0, len(halves), 100).tolist():
        near = halves[row].astype(np.float32) + 0.02 * random.standard_normal(32)
        query = unit(*near.tolist())
        hits = index.search(query, 5)
        expected = brute_force(halves, query, list(range(len(halves))), 5)
        found += len(set(hits.rows.tolist()) & {r for r, _ in expected})
        true = brute_force(halves, query, list(range(len(halves))), len(halves))
        scores = dict(true)
        exact = [scores[r] for r in hits.rows.tolist()]
        assert hits.cosines.tolist() == pytest.approx(exact, abs=1e-6)
    assert found >= 0.97 * 500


def test_a_quantised_base_returns_no_picture_that_was_removed(
    halves: NDArray[np.float16], base: IvfBase
) -> None:
    vectors = Vectors.of_generation(Generation(halves=halves, base=base))
    query = unit(*halves[0].tolist())
    everything = np.arange(len(halves), dtype=np.int64)
    first = LayeredIndex(vectors, everything).search(query, 5).rows
    rest = np.setdiff1d(everything, first)
    hits = LayeredIndex(vectors, rest).search(query, 5)
    assert len(hits.rows) == 5
    assert not set(hits.rows.tolist()) & set(first.tolist())


def test_a_few_rows_of_many_are_all_found_however_far_they_are(
    halves: NDArray[np.float16], base: IvfBase
) -> None:
    vectors = Vectors.of_generation(Generation(halves=halves, base=base))
    few = np.arange(0, 3_000, 10, dtype=np.int64)
    index = LayeredIndex(vectors, few)
    random = np.random.default_rng(2)
    for _ in range(100):
        query = unit(*random.standard_normal(32))
        expected = brute_force(halves, query, few.tolist(), 5)
        assert index.search(query, 5).rows.tolist() == [row for row, _ in expected]


class CountingBase(FlatBase):
    """An exact base that counts the queries it is asked."""

    queries = 0

    def candidates(
        self, queries: NDArray[np.float32], count: int, allowed: Allowed | None
    ) -> NDArray[np.int64]:
        self.queries += len(queries)
        return super().candidates(queries, count, allowed)


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        pytest.param(10, 0, id="a tenth of the rows"),
        pytest.param(5, 1, id="a fifth, above the share of an eighth"),
    ],
)
def test_an_exact_base_is_not_asked_for_a_few_of_its_rows(
    halves: NDArray[np.float16], step: int, asked: int
) -> None:
    base = CountingBase(halves)
    rows = np.arange(0, 3_000, step, dtype=np.int64)
    index = LayeredIndex(Vectors.of_generation(Generation(halves=halves, base=base)), rows)
    query = unit(*halves[1].tolist())
    expected = brute_force(halves, query, rows.tolist(), 5)
    assert index.search(query, 5).rows.tolist() == [row for row, _ in expected]
    assert base.queries == asked


def test_half_of_the_rows_are_searched_as_well_as_all(
    halves: NDArray[np.float16], base: IvfBase
) -> None:
    vectors = Vectors.of_generation(Generation(halves=halves, base=base))
    some = np.arange(0, 3_000, 5, dtype=np.int64)  # too many for an index of their own
    index = LayeredIndex(vectors, some)
    found = 0
    for row in range(0, 3_000, 30):
        query = unit(*halves[row].tolist())
        expected = brute_force(halves, query, some.tolist(), 5)
        found += len({r for r, _ in expected} & set(index.search(query, 5).rows.tolist()))
    assert found >= 0.98 * 500
    # The lists nearest to a query hold fewer than 600 of them.
    assert len(index.search(unit(*halves[0].tolist()), 600).rows) == 600


@pytest.mark.parametrize("kind", CODES)
def test_pictures_that_are_all_alike_are_found_whichever_they_are(kind: Codes) -> None:
    twins = np.repeat(clustered(10, 16), 600, axis=0)  # more than are ever looked at
    made = build(twins, IndexSettings(min_recall=1.0), kind=kind, threads=1)
    assert made.measured.recall == 1.0


def test_several_queries_at_once_are_answered_as_one_by_one(
    halves: NDArray[np.float16], base: IvfBase
) -> None:
    index = LayeredIndex(
        Vectors.of_generation(Generation(halves=halves, base=base)),
        np.arange(3_000, dtype=np.int64),
    )
    queries = np.stack([unit(*halves[row].tolist()) for row in (5, 50, 500)])
    for query, hits in zip(queries, index.search_many(queries, 5), strict=True):
        alone = index.search(query, 5)
        assert hits.rows.tolist() == alone.rows.tolist()
        assert hits.cosines.tolist() == alone.cosines.tolist()


@pytest.mark.parametrize(("kind", "title"), [("ivfpq", "IVF-PQ"), ("ivfrabitq", "IVF-RaBitQ")])
def test_a_base_that_finds_too_little_is_refused(
    kind: Codes, title: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.index.ivf.STEPS", ((1, 1),))
    scattered = np.random.default_rng(1).standard_normal((2_000, 96)).astype(np.float16)
    with pytest.raises(RecallError, match=rf"{title} .* less than index.min_recall = 0.98"):
        build(scattered, IndexSettings(), kind=kind, threads=1)


@pytest.mark.parametrize(
    ("kind", "gpu", "pictures", "dimension", "expected"),
    [
        ("auto", False, 50_000, 1152, "flat"),
        ("auto", True, 50_000, 1152, "flat"),
        ("auto", False, 50_001, 1152, "ivfrabitq"),
        ("auto", True, 50_001, 1152, "ivfpq"),
        ("flat", False, 10_000_000, 1152, "flat"),
        ("ivfpq", False, 512, 1152, "ivfpq"),
        ("ivfpq", False, 511, 1152, "flat"),
        ("ivfpq", False, 60_000, 7, "flat"),
        ("ivfrabitq", False, 512, 1152, "ivfrabitq"),
        ("ivfrabitq", True, 512, 1152, "ivfrabitq"),
        ("ivfrabitq", False, 511, 1152, "flat"),
        ("auto", False, 60_000, 7, "ivfrabitq"),
        ("auto", True, 60_000, 7, "flat"),
    ],
)
def test_the_planner_is_exact_while_that_is_cheap(
    kind: str, gpu: bool, pictures: int, dimension: int, expected: str
) -> None:
    settings = IndexSettings(kind=kind)  # type: ignore[arg-type]
    assert settings.kind_for(pictures, dimension, gpu=gpu) == expected


def test_one_bit_codes_are_not_asked_of_a_gpu() -> None:
    with pytest.raises(ValueError, match=r"index.kind = ivfrabitq is searched on the CPU only"):
        IndexSettings(kind="ivfrabitq", device="cuda")


def test_codes_take_the_largest_number_of_parts_that_divides_the_dimension() -> None:
    dimensions = (1152, 384, 768, 1280, 1664, 100, 7)
    assert [code_bytes(d) for d in dimensions] == [96, 96, 96, 64, 64, 20, 0]


def test_lists_grow_with_the_root_of_the_pictures() -> None:
    # 4 sqrt(100 000) = 1265, 4 sqrt(10 000) = 400 but 10 000 / 30 = 333, 4 sqrt(1e6) = 4000.
    assert [list_count(n) for n in (1, 10_000, 100_000, 1_000_000)] == [1, 256, 1024, 2048]


def test_settings_out_of_range_say_what_to_write() -> None:
    with pytest.raises(ValueError, match=r"index.min_recall must be above 0, at most 1, got 2"):
        IndexSettings(min_recall=2)
    with pytest.raises(ValueError, match=r"index.flat_up_to must be 1 or more, got 0"):
        IndexSettings(flat_up_to=0)
    with pytest.raises(ValueError, match=r"index.gpu_temporary_mb must be 1 or more, got 0"):
        IndexSettings(gpu_temporary_mb=0)
