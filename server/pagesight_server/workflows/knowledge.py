"""From the store to a `Knowledge` that queries can use: snapshot, whitening and calibration.

    store ──snapshot──> whitening, index ──────────────────┐
      ├──calibration of this revision, else made and kept ─┼─> Knowledge
      └──threshold placed by labelled traffic: preferred ──┘

Calibrations are kept under keys that name all they depend on besides the revision.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from pagesight_server.common.errors import StorageError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import (
    CALIBRATION_VERSION,
    OWN_REJECTED,
    Calibration,
)
from pagesight_server.recognition.evidence import MethodName
from pagesight_server.recognition.knowledge import Knowledge

log = logging.getLogger(__name__)


def load_knowledge(
    store: Gallery,
    name: str,
    method: MethodName,
    epsilon: float,
    *,
    snapshot: Snapshot | None = None,
    interim_calibration: Calibration | None = None,
    before: Knowledge | None = None,
) -> Knowledge:
    """Reads a gallery and prepares it for queries; calibrates it unless the store has that.

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

    Raises:
        NotFoundError: no such gallery.
    """
    snapshot = store.snapshot(name) if snapshot is None else snapshot
    key = _calibration_key(method, epsilon)
    stored = store.calibration(name, snapshot.revision, key)
    knowledge = Knowledge.of(
        snapshot,
        method,
        epsilon=epsilon,
        calibration=Calibration.from_json(stored) if stored else interim_calibration,
        before=before,
        refit=interim_calibration is None,
    )
    if not stored and interim_calibration is None:
        try:
            store.put_calibration(name, snapshot.revision, key, knowledge.calibration.to_json())
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
    key = _calibration_key(method, epsilon)
    stored = store.calibration(snapshot.gallery, snapshot.revision, key)
    return Calibration.from_json(stored) if stored else None


def load_validated_calibration(
    store: Gallery, snapshot: Snapshot, method: MethodName, epsilon: float
) -> Calibration | None:
    """The newest calibration from labelled traffic, at this revision or before; None without."""
    key = validated_calibration_key(snapshot, method, epsilon)
    stored = store.last_calibration(snapshot.gallery, snapshot.revision, key)
    return Calibration.from_json(stored) if stored else None


def validated_calibration_key(snapshot: Snapshot, method: MethodName, epsilon: float) -> str:
    """The store's key of a calibration from labelled traffic; other bundles have another key."""
    bundles = snapshot.bundles
    return f"{_calibration_key(method, epsilon)} validation {bundles.encoder} {bundles.ocr}"


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


def _calibration_key(method: MethodName, epsilon: float) -> str:
    return f"{method} {epsilon} v{CALIBRATION_VERSION}"
