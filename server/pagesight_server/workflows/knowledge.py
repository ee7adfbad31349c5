"""From the store to a `Knowledge` that queries can use: snapshot, whitening and calibration.

    store ──snapshot──> whitening, index ──────────────────┐
      ├──calibration of this revision, else made and kept ─┼─> Knowledge
      └──threshold placed by labelled traffic: preferred ──┘

Calibrations are kept under keys that name all they depend on besides the revision.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
import time
from dataclasses import replace
from functools import lru_cache

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import (
    CALIBRATION_VERSION,
    OWN_REJECTED,
    Calibration,
    Scores,
)
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge

log = logging.getLogger(__name__)


STEPS_EVERY_S = 5.0
"""How often a calibration that goes on is kept, and told of: so much is lost when it is broken
off. One that takes less is neither."""

ELSEWHERE_POLL_S = 0.5
"""How often the store is asked for what another process does, as it is for changes."""


class StoppedError(Exception):
    """Says that a calibration was broken off."""


async def until_retry(stop: threading.Event) -> None:
    """Waits a while for a store that is away.

    Raises:
        StoppedError: `stop` was set.
    """
    if stop.is_set():
        raise StoppedError
    await asyncio.sleep(ELSEWHERE_POLL_S)


class _Steps:
    """Keeps a calibration as it goes, and says how far it is."""

    def __init__(self, store: Gallery, snapshot: Snapshot, key: str, stop: threading.Event) -> None:
        self._store = store
        self._snapshot = snapshot
        self._key = f"{key} begun"
        self._stop = stop
        self._kept_s = time.monotonic()
        self._kept = False

    def begun(self) -> Scores | None:
        """What an earlier attempt had come to; None where there was none."""
        name, revision = self._snapshot.gallery, self._snapshot.revision
        stored = self._store.calibration(name, revision, self._key)
        self._kept = stored is not None
        return Scores.from_json(stored) if stored else None

    def step(self, scores: Scores) -> None:
        """Keeps what was scored so far, now and then.

        Raises:
            StoppedError: it should end; what was scored is kept.
            NotFoundError: the gallery was deleted.
        """
        stopped = self._stop.is_set()
        if scores.done == scores.of:
            return
        if not stopped and time.monotonic() - self._kept_s < STEPS_EVERY_S:
            return
        name, revision = self._snapshot.gallery, self._snapshot.revision
        try:
            self._store.put_calibration(name, revision, self._key, scores.to_json())
            self._kept = True
        except StorageError as error:
            log.warning("the calibration of gallery %s is not kept so far: %s", name, error)
        log.info("gallery %s: calibrated by %d of %d pictures", name, scores.done, scores.of)
        if stopped:
            raise StoppedError
        self._kept_s = time.monotonic()

    def forget(self) -> None:
        """Drops what was kept on the way, once it is done."""
        if self._kept:
            self._store.drop_calibrations(self._snapshot.gallery, self._key)


def load_knowledge(
    store: Gallery,
    name: str,
    method: MethodName,
    epsilon: float,
    *,
    snapshot: Snapshot | None = None,
    interim_calibration: Calibration | None = None,
    before: Knowledge | None = None,
    stop: threading.Event | None = None,
) -> Knowledge:
    """Reads a gallery and prepares it for queries; calibrates it unless the store has that.

    A calibration that was broken off, by `stop` or with its process, goes on where it was.

    A threshold that labelled traffic placed is preferred, also when the gallery has changed since:
    it was measured on real queries, whereas the gallery's own is an estimate.

    Args:
        store: Where galleries are kept.
        name: Which gallery.
        method: How evidence is weighed.
        epsilon: Share of known pages that may be rejected.
        snapshot: Its present revision, when that was read already.
        interim_calibration: Used where the store has none of this revision, instead of making it.
            The whitening is then not refitted either.
        before: The knowledge of an earlier revision; what still holds is not computed again.
        stop: Breaks the calibration off once it is set.

    Raises:
        NotFoundError: no such gallery.
        StoppedError: `stop` was set.
    """
    snapshot = store.snapshot(name) if snapshot is None else snapshot
    key = calibration_keys(snapshot, method, epsilon)[-1]
    stored = _parsed(stored_calibration(store, snapshot, method, epsilon))
    steps = _Steps(store, snapshot, key, stop or threading.Event())
    knowledge = Knowledge.of(
        snapshot,
        method,
        epsilon=epsilon,
        calibration=stored or interim_calibration,
        before=before,
        refit=interim_calibration is None,
        begun=None if stored else steps.begun(),
        step=steps.step,
    )
    if not stored and interim_calibration is None:
        try:
            store.put_calibration(name, snapshot.revision, key, knowledge.calibration.to_json())
            steps.forget()
        except StorageError as error:
            # It can be made again; what is enrolled must be found although the disk is full.
            log.warning("the calibration of gallery %s is not kept: %s", name, error)
    validated = load_validated_calibration(store, snapshot, method, epsilon)
    return replace(knowledge, calibration=validated) if validated else knowledge


def load_calibration(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> Calibration | None:
    """The stored calibration that queries of a revision use; None where it is still to be made."""
    if validated := load_validated_calibration(store, snapshot, method, epsilon):
        return validated
    return _parsed(stored_calibration(store, snapshot, method, epsilon))


def load_validated_calibration(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> Calibration | None:
    """The newest calibration from labelled traffic, at this revision or before; None without."""
    key = validated_calibration_key(snapshot, method, epsilon)
    return _parsed(store.last_calibration(snapshot.gallery, snapshot.revision, key))


@lru_cache(maxsize=64)  # servers ask for the same one twice a second
def _parsed(stored: str | None) -> Calibration | None:
    """A stored calibration; None where there is none, or what there is cannot be read.

    A store of an earlier pagesight kept no digest of it, so it may have changed on the disk.
    """
    if stored is None:
        return None
    try:
        return Calibration.from_json(stored)
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("a calibration of the store cannot be read and is not used: %s", error)
        return None


def validated_calibration_key(snapshot: Snapshot, method: MethodName, epsilon: float) -> str:
    """The store's key of a calibration from labelled traffic; other bundles have another key."""
    bundles = snapshot.bundles
    return f"{_method_key(method, epsilon)} validation {bundles.encoder} {bundles.ocr}"


def outdated_calibration_warning(knowledge: Knowledge) -> str:
    """A warning where labelled traffic placed the threshold at an earlier revision; else empty."""
    placed_at, present = knowledge.calibration.revision, knowledge.snapshot.revision
    if knowledge.calibration.source != "validation" or placed_at == present:
        return ""
    return (
        f"the threshold was placed by labelled traffic at revision {placed_at}, the gallery is at "
        f"{present}: run `pagesight-server calibrate --validation DIR` again, "
        "or --forget-validation"
    )


def own_rejected(calibration: Calibration) -> dict[str, float]:
    """How much of what placed the thresholds they reject, 0 to 1, for `--json`."""
    return {
        "with_text": round(calibration.share_rejected(with_text=True), 4),
        "without_text": round(calibration.share_rejected(with_text=False), 4),
    }


def own_rejected_text(calibration: Calibration) -> str:
    """How much of what placed the thresholds they reject, in a sentence."""
    if not calibration.pictures:
        return "no picture could be left out: how many would be rejected cannot be told"
    share, by_looks = (calibration.share_rejected(with_text=read) for read in (True, False))
    return (
        f"of {calibration_set(calibration)} {share:.1%} would be rejected, without text "
        f"{by_looks:.1%}"
    )


def own_rejected_warning(calibration: Calibration, *, with_text: bool = True) -> str:
    """A warning where the threshold rejects many of the pages that placed it; else empty.

    Args:
        calibration: Of the gallery.
        with_text: Whether queries are read.
    """
    share = calibration.share_rejected(with_text=with_text)
    # An operator who allows more is not warned of what is allowed.
    if share <= max(OWN_REJECTED, calibration.epsilon):
        return ""
    return (
        f"{share:.0%} of {calibration_set(calibration)} would be rejected, more than "
        f"{OWN_REJECTED:.0%}: `pagesight gallery doctor` shows which pictures; enrol more of the "
        "labels that it names, or place the threshold by labelled traffic "
        "(`pagesight-server calibrate --validation DIR`)"
    )


def calibration_set(calibration: Calibration) -> str:
    """What placed a threshold, in words."""
    if calibration.source == "validation":
        return f"the {calibration.pictures} screenshots of labelled traffic"
    return f"the gallery's own {calibration.pictures} pictures, each left out in turn,"


def stored_calibration(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> str | None:
    """The stored calibration of a revision from the gallery itself; None where there is none."""
    for key in calibration_keys(snapshot, method, epsilon):
        if stored := store.calibration(snapshot.gallery, snapshot.revision, key):
            return stored
    return None


def calibration_keys(snapshot: Snapshot, method: MethodName, epsilon: float) -> tuple[str, ...]:
    """The store's keys of calibrations from the gallery itself, the preferred one first.

    Where labels have more pictures than texts are learnt from, other samples have another key.
    What is made while pictures are left out as damaged has a key of its own, the last: it is not
    that of the revision once they are made anew. Until then that of all pictures is preferred.
    """
    key = _method_key(method, epsilon)
    if not snapshot.sample.is_whole:
        key += f" texts {snapshot.texts_per_label}"
    if not snapshot.damaged:
        return (key,)
    left_out = hashlib.sha256("".join(sorted(snapshot.damaged)).encode()).hexdigest()
    return key, f"{key} without {left_out[:16]}"


def _method_key(method: MethodName, epsilon: float) -> str:
    return f"{method} {epsilon} v{CALIBRATION_VERSION}"
