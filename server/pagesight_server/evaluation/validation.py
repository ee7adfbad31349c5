"""The threshold from labelled traffic, where there is some, instead of from the gallery.

    DIR/<label>/*, other*/* ──seen and read──> scores of known pages ──conformal──> threshold
                                          └──> scores of unknown ones ──> share rejected, told

Gallery pictures are few and chosen; traffic is what will be asked. So the promise (at most
epsilon of known pages rejected) rests on known pages alone, as always, and what it means
for unknown pages is measured on those there are.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagesight_server.common.errors import ImageError, SetupError
from pagesight_server.evaluation.run import DEFAULT_LIMITS, collect
from pagesight_server.gallery.snapshot import is_reserved
from pagesight_server.inference.decode import read_file
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.recognition.calibration import Calibration, acceptance, conformal, quantiles
from pagesight_server.recognition.decision import Knowledge
from pagesight_server.recognition.evidence import Query
from pagesight_server.workflows.pipeline import Features, Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """A threshold placed by labelled traffic, and what it does there."""

    calibration: Calibration
    known: int
    unknown: int
    rejected: float | None
    """Share of the unknown pages that the threshold rejects; None when there were none."""
    unreadable: int
    enrolled: int
    """Images that the gallery holds itself, which say nothing and were left out."""


def pictures_needed(epsilon: float) -> int:
    """The fewest known pages of which one may be rejected: 1 / epsilon - 1."""
    return math.ceil(1 / epsilon - 1)


async def validate(
    pipeline: Pipeline,
    knowledge: Knowledge,
    folder: Path,
    *,
    epsilon: float,
    concurrency: int = 1,
    limits: ImageLimits = DEFAULT_LIMITS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validation:
    """Places the threshold by labelled traffic.

    Args:
        pipeline: Sees and reads.
        knowledge: The gallery that will answer.
        folder: Holds `<label>/*`; `other` and `other_<kind>` are unknown pages.
        epsilon: Share of known pages that may be rejected.
        concurrency: Images under way at once.
        limits: What a file may cost.
        progress: Called with images done and images in all.

    Raises:
        SetupError: too few pictures of known pages, or a page that the gallery does not know.
        InvalidRequestError: a folder's name cannot be a label.
    """
    images = await asyncio.to_thread(collect, folder)
    snapshot = knowledge.snapshot
    truths = {truth for _, truth in images if not is_reserved(truth)}
    if missing := sorted(truths - set(snapshot.labels)):
        raise SetupError(
            f"the gallery has no pictures of {', '.join(missing)}: enrol some, or name the folder "
            "other_... if it shows unknown pages"
        )
    enrolled = {picture.image_id for picture in snapshot.pictures}
    scores: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    counts = {"unreadable": 0, "enrolled": 0, "done": 0}

    async def work(queue: Iterator[tuple[str, str]]) -> None:
        for path, truth in queue:
            try:
                data = await asyncio.to_thread(read_file, folder / path, limits)
                if hashlib.sha256(data).hexdigest() in enrolled:
                    counts["enrolled"] += 1
                else:
                    features = await pipeline.extract_features(data)
                    found = await asyncio.to_thread(_scores, knowledge, features)
                    scores[not is_reserved(truth)].append(found)
            except ImageError:
                counts["unreadable"] += 1
            counts["done"] += 1
            progress(counts["done"], len(images))

    queue = iter(images)
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work(queue))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    known, unknown = scores[True], scores[False]
    needed = pictures_needed(epsilon)
    if len(known) < needed:
        raise SetupError(
            f"{folder} holds {len(known)} usable pictures of known pages, {needed} are needed to "
            f"reject at most {epsilon:.0%}: add {needed - len(known)}, or leave out --validation "
            "to calibrate on the gallery"
        )
    calibration = _calibration(knowledge, known, epsilon)
    rejected = [score < calibration.threshold_with_text for score, _ in unknown]
    return Validation(
        calibration=calibration,
        known=len(known),
        unknown=len(unknown),
        rejected=sum(rejected) / len(rejected) if rejected else None,
        unreadable=counts["unreadable"],
        enrolled=counts["enrolled"],
    )


def _calibration(
    knowledge: Knowledge, known: Sequence[tuple[float, float]], epsilon: float
) -> Calibration:
    with_text = [score for score, _ in known]
    without_text = [score for _, score in known]
    return Calibration(
        epsilon=epsilon,
        pictures=len(known),
        guaranteed=True,
        threshold_with_text=conformal(with_text, epsilon),
        threshold_without_text=conformal(without_text, epsilon),
        scores_with_text=quantiles(with_text),
        scores_without_text=quantiles(without_text),
        source="validation",
        revision=knowledge.snapshot.revision,
    )


def _scores(knowledge: Knowledge, features: Features) -> tuple[float, float]:
    """How well the closest page fits, with text and without."""
    hits = knowledge.method.search(features.embedding)
    scores = []
    for reading in (features.reading, None):
        query = Query(embedding=features.embedding, reading=reading)
        scores.append(float(acceptance(knowledge.method.weigh(query, hits))))
    return scores[0], scores[1]
