"""Answers are kept beside the hot path: chosen, bounded, and never at an answer's cost."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Gallery, KeepLimits, KeptPicture
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import Decision, ReviewReason
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows import keeping
from pagesight_server.workflows.keeping import AnswerKeeper, KeepPolicy, reason_to_keep
from tests.support import WAIT_S
from tests.support.parts import reading, snapshot, unit
from tests.support.pictures import RED, solid
from tests.support.stores import enrol

LIMITS = KeepLimits(answers=10)
POLICY = KeepPolicy(limits=LIMITS)
DAY_MS = 86_400_000


class Clock:
    """A clock that is set by hand."""

    now_ms = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db", now_ms=Clock())
    enrol(opened, {"one": "a"})
    yield opened
    opened.close()


def decision(label: str = "other", *reasons: ReviewReason) -> Decision:
    return Decision(
        label=label,
        closest_label="a",
        score=0.25,
        threshold=0.5,
        candidates=(),
        against=None,
        doubt=0.75,
        review_reasons=reasons,
    )


def answer(made: Decision | None = None) -> Answer:
    return Answer(
        decision=made or decision(),
        knowledge=Knowledge.of(snapshot(("a", (1, 2, 2), ["额度"]))),
        query=Query(embedding=unit(1, 2, 2), reading=reading("额度")),
    )


def keeper(store: Gallery, policy: KeepPolicy = POLICY) -> AnswerKeeper:
    return AnswerKeeper(store, policy, ImageLimits(), lot=random.Random(0))


@pytest.mark.parametrize(
    ("made", "shares", "reason"),
    [
        pytest.param(decision(), (1.0, 0.0), "rejected", id="a rejection"),
        pytest.param(decision(), (0.0, 1.0), None, id="a rejection where none are wanted"),
        pytest.param(
            decision("a", "near_threshold"), (0.0, 0.0), "doubtful", id="a doubtful answer"
        ),
        pytest.param(decision("a"), (1.0, 0.0), None, id="a sure answer"),
        pytest.param(decision("a"), (1.0, 1.0), "random", id="a sure answer that is drawn"),
    ],
)
def test_why_an_answer_is_kept(
    made: Decision, shares: tuple[float, float], reason: str | None
) -> None:
    policy = KeepPolicy(rejected_share=shares[0], random_share=shares[1])
    assert reason_to_keep(made, policy, random.Random(0)) == reason


def test_a_share_of_the_answers_is_drawn() -> None:
    lot = random.Random(0)
    policy = KeepPolicy(rejected_share=0.5, random_share=0.1)
    for label, share in (("other", 0.5), ("a", 0.1)):
        drawn = [reason_to_keep(decision(label), policy, lot) for _ in range(10_000)]
        assert 0.9 * share < sum(map(bool, drawn)) / len(drawn) < 1.1 * share


async def test_what_is_offered_is_kept_with_its_picture_and_features(store: Gallery) -> None:
    made = keeper(store)
    made.offer(b"shot", answer(decision("a", "close_runner_up", "looks_unlike")))
    assert store.kept("default") == []  # whoever asked is answered by now
    await made.flush()
    (listed,) = store.kept("default")
    kept = listed.answer
    assert kept.image_id == hashlib.sha256(b"shot").hexdigest()
    assert (kept.gallery, kept.revision, kept.label, kept.closest_label) == ("default", 1, "a", "a")
    assert (kept.score, kept.threshold, kept.doubt) == (0.25, 0.5, 0.75)
    assert kept.review_reasons == ("close_runner_up", "looks_unlike")
    assert kept.kept_reason == "doubtful"
    assert kept.kept_at_ms == store.now_ms()
    assert store.kept_image("default", kept.image_id) == b"shot"
    (features,) = store.kept_features("default", answer().knowledge.snapshot.bundles)
    assert features.reading == reading("额度")


async def test_nothing_is_kept_unless_it_is_asked_for(store: Gallery) -> None:
    made = keeper(store, KeepPolicy())
    made.offer(b"shot", answer())
    await made.flush()
    assert store.kept("default") == []


async def test_a_thumbnail_is_named_by_what_was_received(store: Gallery) -> None:
    made = keeper(store, replace(POLICY, thumbnails=True))
    large = solid(RED, width=800, height=1600)
    made.offer(large, answer())
    await made.flush()
    image_id = hashlib.sha256(large).hexdigest()
    kept = store.kept_image("default", image_id)
    assert kept.startswith(b"\xff\xd8")
    assert hashlib.sha256(kept).hexdigest() != image_id


async def test_a_flood_is_bounded_in_the_queue_and_in_the_store(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    keep = store.keep

    def counting(pictures: list[KeptPicture], limits: KeepLimits) -> int:
        batches.append(len(pictures))
        return keep(pictures, limits)

    monkeypatch.setattr(store, "keep", counting)
    made = keeper(store)
    same = answer()
    for number in range(1_000):
        made.offer(f"shot {number}".encode(), same)
    assert made.dropped == 1_000 - keeping.MAX_QUEUED
    await made.flush()
    assert len(store.kept("default")) == LIMITS.answers
    assert max(batches) == keeping.BATCH
    assert sum(batches) == keeping.MAX_QUEUED
    made.offer(b"later", same)
    await made.flush()
    assert store.kept("default")[0].answer.image_id == hashlib.sha256(b"later").hexdigest()


async def test_large_pictures_are_bounded_by_their_bytes(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MAX_QUEUED_BYTES", 250)
    made = keeper(store)
    for number in range(4):
        made.offer(bytes([number]) * 100, answer())
    assert made.dropped == 2
    await made.flush()
    made.offer(bytes(200), answer())
    assert made.dropped == 2


async def test_a_store_that_cannot_be_written_costs_the_kept_answers_alone(
    store: Gallery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = True
    keep = store.keep

    def failing(pictures: list[KeptPicture], limits: KeepLimits) -> int:
        if full:
            raise StorageError("the disk is full")
        return keep(pictures, limits)

    monkeypatch.setattr(store, "keep", failing)
    made = keeper(store)
    for number in range(keeping.BATCH + 1):
        made.offer(f"shot {number}".encode(), answer())
    await made.flush()
    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert warnings == ["answers cannot be kept for review, and are dropped: the disk is full"]
    full = False
    made.offer(b"later", answer())
    await made.flush()
    assert len(store.kept("default")) == 1


async def test_what_is_queued_is_written_when_the_server_ends(store: Gallery) -> None:
    made = keeper(store)
    made.start()
    for number in range(5):
        made.offer(f"shot {number}".encode(), answer())
    await asyncio.wait_for(made.close(), WAIT_S)
    assert len(store.kept("default")) == 5
    made.offer(b"too late", answer())
    await made.flush()
    assert len(store.kept("default")) == 5


async def test_what_is_too_old_is_forgotten_though_nothing_comes(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keeper(store)
    first.offer(b"shot", answer())
    await first.flush()
    clock = store.now_ms
    assert isinstance(clock, Clock)
    clock.now_ms += 15 * DAY_MS
    forgotten = asyncio.Event()
    loop = asyncio.get_running_loop()
    forget = store.forget_kept

    def telling(limits: KeepLimits) -> int:
        count = forget(limits)
        loop.call_soon_threadsafe(forgotten.set)
        return count

    monkeypatch.setattr(store, "forget_kept", telling)
    made = keeper(store)
    made.start()
    await asyncio.wait_for(forgotten.wait(), WAIT_S)
    await asyncio.wait_for(made.close(), WAIT_S)
    assert store.kept("default") == []


async def test_what_was_kept_is_forgotten_once_none_is_to_be_kept(store: Gallery) -> None:
    first = keeper(store)
    first.offer(b"shot", answer())
    await first.flush()
    off = keeper(store, KeepPolicy())
    await off.forget()
    assert store.kept("default") == []
    off.start()
    await asyncio.wait_for(off.close(), WAIT_S)


async def test_only_the_process_that_is_told_to_forgets(store: Gallery) -> None:
    first = keeper(store)
    first.offer(b"shot", answer())
    await first.flush()
    other = AnswerKeeper(store, KeepPolicy(), ImageLimits(), forgets=False)
    other.start()
    await asyncio.wait_for(other.close(), WAIT_S)
    assert len(store.kept("default")) == 1


async def test_while_the_store_is_away_it_is_not_waited_for(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def counting(*_: object) -> int:
        nonlocal asked
        asked += 1
        return 0

    monkeypatch.setattr(store, "keep", counting)
    monkeypatch.setattr(store, "forget_kept", counting)
    away = AnswerKeeper(store, POLICY, ImageLimits(), is_away=lambda: True)
    away.start()
    for number in range(keeping.MAX_QUEUED + 1):
        away.offer(f"shot {number}".encode(), answer())
    await asyncio.wait_for(away.close(), WAIT_S)
    assert (asked, away.dropped) == (0, 1)
