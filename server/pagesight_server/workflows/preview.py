"""What enrolling a batch would change: the gallery as if it were enrolled, in memory alone.

    present knowledge ──snapshot + additions──> as if enrolled ──whitening, calibration──> after
    pictures ──answered by both──> those whose answer turns, and how many are right

Whitening and calibration are made as they are after an enrolment, once it has settled: enrolling
really gives the answers that were told. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pagesight_server.common.arrays import Embedding
from pagesight_server.common.errors import AlreadyExistsError
from pagesight_server.gallery.snapshot import (
    OTHER,
    Bundles,
    Changes,
    Picture,
    Snapshot,
    check_label,
    check_source,
    is_reserved,
)
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """A picture that would be enrolled, seen and read."""

    image_id: str
    label: str
    source: str
    embedding: Embedding
    reading: Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A picture to answer before and after."""

    image_id: str
    query: Query
    truth: str = ""
    """The label it is known to have; empty: unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """Holds an answer that would turn."""

    image_id: str
    before: str
    after: str
    truth: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """Says what enrolling would change."""

    revision: int
    answered: int
    turned: tuple[Turned, ...]
    """In the order of the pictures."""
    right_before: int
    right_after: int


class Additions:
    """The pictures that a gallery would take, by the rules of an enrolment.

    Args:
        snapshot: The gallery.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._label_of = {picture.image_id: picture.label for picture in snapshot.pictures}
        self.pictures: list[Addition] = []

    def lacks(self, image_id: str, label: str, source: str) -> bool:
        """Whether a picture would be added, and not be there already.

        Raises:
            AlreadyExistsError: the same picture has another label.
            InvalidRequestError: label or source cannot be.
        """
        label, _ = check_label(label), check_source(source)
        present = self._label_of.get(image_id, label)
        if present != label:
            raise AlreadyExistsError(
                f"the same picture is enrolled as {present!r}: relabel it instead"
            )
        return image_id not in self._label_of

    def add(self, addition: Addition) -> None:
        """Adds a picture that the gallery lacks."""
        self._label_of[addition.image_id] = check_label(addition.label)
        self.pictures.append(replace(addition, label=check_label(addition.label)))


def empty_snapshot(gallery: str, bundles: Bundles) -> Snapshot:
    """A gallery that is not there yet."""
    return Snapshot(
        gallery=gallery,
        revision=0,
        encoder_bundle=bundles.encoder,
        ocr_bundle=bundles.ocr,
        pictures=(),
        embeddings=np.empty((0, 0), np.float32),
        facts={},
    )


def as_enrolled(snapshot: Snapshot, additions: Sequence[Addition]) -> Snapshot:
    """The snapshot once pictures that it lacks are enrolled."""
    if not additions:
        return snapshot
    ordered = sorted(additions, key=lambda one: (one.label, one.image_id))
    joined = tuple(
        Picture(
            image_id=one.image_id,
            label=one.label,
            source=one.source,
            author="",
            added_at_ms=0,
            added_revision=snapshot.revision + 1,
            reading=one.reading,
        )
        for one in ordered
    )
    # As the store rounds them: a threshold is placed by what it keeps.
    halves = np.stack([one.embedding.astype(np.float16) for one in ordered])
    if isinstance(snapshot.embeddings, Vectors) and snapshot.pictures:
        return snapshot.after(
            Changes(
                revision=snapshot.revision + 1,
                bundles=snapshot.bundles,
                left=(),
                joined=joined,
                halves=halves,
                facts=snapshot.facts,
            )
        )
    vectors = halves.astype(np.float32)
    if snapshot.pictures:
        vectors = np.concatenate([snapshot.embeddings[:], vectors])
    pictures = (*snapshot.pictures, *joined)
    order = sorted(range(len(pictures)), key=lambda i: (pictures[i].label, pictures[i].image_id))
    return replace(
        snapshot,
        revision=snapshot.revision + 1,
        pictures=tuple(pictures[i] for i in order),
        embeddings=np.ascontiguousarray(vectors[order]),
    )


def preview(
    knowledge: Knowledge,
    additions: Sequence[Addition],
    asked: Sequence[Asked],
    *,
    step: Callable[[], None] = lambda: None,
) -> Previewed:
    """Answers pictures by the present gallery, and by it as if others were enrolled. Blocks.

    Args:
        knowledge: The gallery.
        additions: Pictures that it lacks, each once.
        asked: Pictures to answer; of several with one id the first counts.
        step: Called between steps of at most seconds; what it raises ends the work.
    """
    after = knowledge
    if additions:
        # A threshold that labelled traffic placed stays, as it would after an enrolment.
        placed = knowledge.calibration if knowledge.calibration.source == "validation" else None
        after = Knowledge.of(
            as_enrolled(knowledge.snapshot, additions),
            knowledge.method_name,
            epsilon=knowledge.calibration.epsilon,
            calibration=placed,
            before=knowledge if knowledge.snapshot.pictures else None,
            step=lambda _scores: step(),
        )
    turned = []
    answered = right_before = right_after = 0
    first: dict[str, Asked] = {}
    for one in asked:
        first.setdefault(one.image_id, one)
    for one in first.values():
        step()
        old, new = _answer(knowledge, one.query), _answer(after, one.query)
        answered += 1
        if one.truth:
            truth = OTHER if is_reserved(one.truth) else one.truth
            right_before += old == truth
            right_after += new == truth
        if old != new:
            turned.append(Turned(image_id=one.image_id, before=old, after=new, truth=one.truth))
    return Previewed(
        revision=knowledge.snapshot.revision,
        answered=answered,
        turned=tuple(turned),
        right_before=right_before,
        right_after=right_after,
    )


def _answer(knowledge: Knowledge, query: Query) -> str:
    if not knowledge.snapshot.pictures:
        return OTHER
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    with_text = query.reading is not None
    return decide(candidates, knowledge.calibration, with_text=with_text).label
