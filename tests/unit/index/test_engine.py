"""Engines are interchangeable: the same calls, the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pagesight_server.index.engine import Engine, LocalEngine, Stored
from tests.support.parts import unit
from tests.support.relay import Relay

DIMENSION = 8


def stored(number: int, label: str = "a") -> Stored:
    """An imagined picture; those of the same number modulo 5 are twins."""
    direction = np.random.default_rng(number % 5).normal(size=DIMENSION)
    return Stored(f"{number:064x}", label, unit(*direction))


@pytest.fixture
def milvus(tmp_path: Path) -> Iterator[str]:
    """Where a milvus-lite listens; left to itself it would until the process ends."""
    pytest.importorskip("pagesight_server.index.milvus", exc_type=ImportError)
    lite = pytest.importorskip("milvus_lite.server_manager").server_manager_instance
    uri = lite.start_and_get_uri(str(tmp_path / "milvus.db"))
    if uri is None:
        pytest.skip("milvus-lite cannot start here")
    yield uri
    lite.release_server(str(tmp_path / "milvus.db"))


@pytest.fixture(params=["local", "milvus"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "local":
        yield LocalEngine(DIMENSION)
        return
    request.getfixturevalue("milvus")
    made = connected(str(tmp_path / "milvus.db"))
    yield made
    made.close()


def connected(uri: str) -> Any:
    milvus = pytest.importorskip("pagesight_server.index.milvus", exc_type=ImportError)
    return milvus.MilvusEngine(uri, "pictures", DIMENSION)


def test_a_closed_engine_has_hung_up(milvus: str) -> None:
    with Relay(milvus.removeprefix("http://")) as relay:
        made = connected(f"http://{relay.address}")
        relay.wait_until_open(1)
        made.close()
        relay.wait_until_open(0)


def numbers(engine: Engine, query: Stored, k: int, *, without: str = "") -> list[int]:
    return [int(near.image_id, 16) for near in engine.search(query.embedding, k, without=without)]


def test_an_empty_engine_finds_nothing(engine: Engine) -> None:
    assert engine.search(stored(1).embedding, 3) == []


def test_what_was_put_is_found_with_its_label_and_cosine(engine: Engine) -> None:
    engine.put([stored(1, "login 招商"), stored(2, "b")])
    first = engine.search(stored(1).embedding, 1)[0]
    assert (int(first.image_id, 16), first.label) == (1, "login 招商")
    assert first.cosine == pytest.approx(1.0, abs=1e-6)


def test_twins_come_in_the_order_of_their_ids(engine: Engine) -> None:
    engine.put([stored(11), stored(1), stored(6)])
    assert numbers(engine, stored(1), 2) == [1, 6]


def test_a_picture_can_be_left_out(engine: Engine) -> None:
    engine.put([stored(1), stored(6), stored(2)])
    assert numbers(engine, stored(1), 2, without=stored(1).image_id) == [6, 2]


def test_what_was_removed_is_not_found(engine: Engine) -> None:
    engine.put([stored(1), stored(2), stored(3)])
    engine.remove([stored(1).image_id, stored(99).image_id])
    assert sorted(numbers(engine, stored(1), 9)) == [2, 3]


def test_a_picture_that_is_put_again_has_its_new_label(engine: Engine) -> None:
    engine.put([stored(1, "old")])
    engine.put([stored(1, "new")])
    assert [near.label for near in engine.search(stored(1).embedding, 9)] == ["new"]


def test_any_changes_leave_it_like_the_local_engine(engine: Engine) -> None:
    local = LocalEngine(DIMENSION)
    random = np.random.default_rng(0)
    for step in range(12):
        chosen = random.integers(0, 12, 4).tolist()
        for each in (engine, local):
            if step % 3 == 2:
                each.remove([stored(number).image_id for number in chosen])
            else:
                each.put([stored(number, f"l{step}") for number in chosen])
        query = unit(*random.normal(size=DIMENSION))
        found, expected = engine.search(query, 5), local.search(query, 5)
        assert [near[:2] for near in found] == [near[:2] for near in expected]
        assert [n.cosine for n in found] == pytest.approx([n.cosine for n in expected], abs=1e-6)
