"""Diagnostics of a gallery: label errors, near duplicates, and labels with too few pictures.

    picture ──nearest neighbours──┬─ cosine and text similarity ──union-find──> near duplicates
                                  └─ their labels ─────────────┐
            ──leave-one-out──┬─ best label is another ─────────┴──> suspected label errors
                             └─ score below the threshold ──> rejected
            ──confidence of its lines──> hardly read
    label   ──number of distinct pictures──> upper confidence bound on unseen variation
            ──its pictures that none of it resembles──> of what look more are wanted
            ──document frequencies──> has it text of its own?

A mislabelled picture gives wrong answers for every page like it, and raises the threshold of
both labels. Near duplicates add no information, and make calibration overconfident, because it
takes the pictures for independent. The findings are for a person to correct; they change no
answer by themselves.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from rapidfuzz import fuzz

from pagesight_server.common.cache import Lru
from pagesight_server.curation.bounds import quantile_bound, rejection_bound
from pagesight_server.curation.own_scores import (
    MAX_EXAMINED,
    OwnScores,
    can_be_left_out,
    rows_to_examine,
)
from pagesight_server.gallery.snapshot import OTHER, Picture, is_reserved
from pagesight_server.index.cosines import Hits, cosines
from pagesight_server.recognition.candidates import Candidate, Query
from pagesight_server.recognition.decision import Decision, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.legibility import Legibility, legibility
from pagesight_server.text.lines import lines_below_status_bar
from pagesight_server.text.matching import letters_and_digits
from pagesight_server.text.reading import Reading

SAME_LOOK = 0.95
"""Least cosine similarity of near duplicates that show text; measured in docs/gallery-care.md."""

SAME_TEXT = 0.95
"""Least RapidFuzz ratio, 0 to 1, of the texts of near duplicates. Digits count: the same page with
another person's figures is not a duplicate. Measured in docs/gallery-care.md."""

SAME_LOOK_WITHOUT_TEXT = 0.997
"""Least cosine similarity of near duplicates without text, where nothing but the looks can tell
pages apart."""

MAX_NEAR = 5
"""Most near duplicates reported for one picture: a reader needs one, and sees if there are many."""

MAX_TEXTS = 4_096
"""Pictures whose text is at hand to be compared: 30 times the neighbours of one. Rows follow each
other by label, and so have their neighbours in common. A page of 500 characters takes 1 KB."""

NEIGHBOURS = 5
"""Most nearest neighbours whose labels are counted; a label with few pictures has fewer."""

FEW_PICTURES = 5
"""Distinct pictures below which a label needs more: with 5, up to 45 % of a page's screenshots may
still score below the worst of them (`LabelHealth.unseen_bound`)."""

UNLIKE_QUANTILE = 0.1
"""Share of the gallery's pictures that look least like the rest of their label, which are named as
the looks of which more are wanted: few enough for a person to go through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """A picture that shows almost the same as another one."""

    picture: Picture
    visual: float
    """Cosine similarity of the embeddings, -1 to 1."""
    textual: float
    """RapidFuzz ratio of the texts, 0 to 1; 0 also where either has no text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A picture that may carry the wrong label."""

    picture: Picture
    suggested: Picture
    """The best matching picture of the best matching other label."""
    suggested_score: float
    """Leave-one-out score of the suggested label."""
    own: Picture | None
    """The best matching other picture of its own label; None when no candidate has that label."""
    own_score: float
    """Leave-one-out score of its own label; 0 without `own`."""
    neighbours: int
    """Nearest neighbours that were counted: as many as its label has other pictures, at most
    `NEIGHBOURS`, so that a small label is not outnumbered by others."""
    foreign: int
    """How many of them carry another label."""
    likely: bool
    """Whether the suggested label would even be the answer and at least half of the neighbours
    carry another label. Otherwise it may just be unlike the other pictures of its label."""

    @property
    def doubt(self) -> float:
        """Margin by which the suggested label outscores its own."""
        return self.suggested_score - self.own_score


@dataclass(frozen=True, slots=True, kw_only=True)
class HardlyRead:
    """A picture whose text was found and hardly read."""

    picture: Picture
    legibility: Legibility


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHealth:
    """How well its pictures cover one label."""

    label: str
    images: int
    """All its pictures."""
    distinct: int
    """Its pictures, each group of near duplicates counted once."""
    own: OwnScores | None = None
    """What its examined pictures score, each left out; None where it has but one."""
    rejected: tuple[Picture, ...] = ()
    """Those of these that would be answered `other`, the least score first."""
    least_looks: float = 0.0
    """Cosine of the picture that looks least like the others of its label with the most alike of
    them, -1 to 1; 0 where there is no other."""
    unlike: tuple[Picture, ...] = ()
    """Pictures that no other one of the label resembles, the least alike first."""
    text_shared_with: tuple[str, ...] = ()
    """Labels that show, between them, all of its stable text as often: it has no text of its own.
    Empty where it has, or where it has no stable text."""

    @property
    def unseen_bound(self) -> float:
        """Share of the page's screenshots that may score below its worst picture, 0 to 1.

        It is an upper bound at 95 % confidence.
        """
        return quantile_bound(self.distinct, 1)

    @property
    def few(self) -> bool:
        """Whether more pictures should be enrolled."""
        return self.distinct < FEW_PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The findings about one gallery."""

    revision: int
    images: int
    """Pictures in the gallery."""
    examined: int
    """Pictures that were examined; fewer where the gallery is larger than the limit."""
    suspects: tuple[Suspect, ...]
    """Suspected label errors: the likely ones first, each kind by falling doubt."""
    duplicates: tuple[tuple[Picture, ...], ...]
    """Groups of two or more near duplicates, those that span most labels first."""
    labels: tuple[LabelHealth, ...]
    """All labels but those of unknown pages, the ones with fewest distinct pictures first."""
    rejection_bound: float
    """Upper bound, at 95 % confidence, on the false rejection rate, where traffic is like the
    gallery; 1 where labels have too few pictures for the threshold to keep to its epsilon."""
    hardly_read: tuple[HardlyRead, ...] = ()
    """Examined pictures whose text was found and hardly read, the greatest share first."""

    @property
    def left_out(self) -> int:
        """How many pictures were taken for queries and left out."""
        return sum(len(label.own.scores) for label in self.labels if label.own)

    @property
    def rejected(self) -> int:
        """How many of these would be answered `other`."""
        return sum(len(label.rejected) for label in self.labels)


@dataclass(slots=True)
class _Examined:
    """What is noted of pictures while they are examined."""

    suspects: list[Suspect] = field(default_factory=list)
    hardly_read: list[HardlyRead] = field(default_factory=list)
    decisions: dict[int, Decision] = field(default_factory=dict)
    """By row, of pictures that were left out."""
    looks: dict[int, float] = field(default_factory=dict)
    """By row: the cosine with the most alike other picture of the label."""


def near_duplicates(
    knowledge: Knowledge, image_ids: Iterable[str]
) -> dict[str, list[NearDuplicate]]:
    """Finds the near duplicates of some pictures among all pictures of their gallery.

    Args:
        knowledge: The gallery; ids that it does not contain have no near duplicates.
        image_ids: The pictures to compare, usually those just enrolled.

    Returns:
        The near duplicates of each id that has any, by falling similarity, at most `MAX_NEAR`.
    """
    wanted = set(image_ids)
    rows = [row for row, p in enumerate(knowledge.snapshot.pictures) if p.image_id in wanted]
    examiner = _Examiner(knowledge)
    duplicates = {}
    for row in rows:
        if near := examiner.near(row, examiner.search(row)):
            picture = knowledge.snapshot.pictures[row]
            duplicates[picture.image_id] = [duplicate for _, duplicate in near[:MAX_NEAR]]
    return duplicates


def diagnose(
    knowledge: Knowledge,
    *,
    max_images: int = MAX_EXAMINED,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Diagnosis:
    """Diagnoses a gallery by leave-one-out: each picture is classified as if it were not enrolled.

    Args:
        knowledge: The gallery.
        max_images: Most pictures to examine; of a larger gallery, a random sample with a fixed
            seed, so that a diagnosis can be repeated.
        progress: Called with the number of pictures examined, from 0 on, and to examine.
    """
    pictures = knowledge.snapshot.pictures
    rows = rows_to_examine(knowledge.snapshot, max_images)
    left_out_rows = set(can_be_left_out(knowledge.snapshot, rows))
    examiner = _Examiner(knowledge)
    examined = _Examined()
    groups = _UnionFind(len(pictures))
    for done, row in enumerate(rows):
        progress(done, len(rows))
        hits = examiner.search(row)
        for other, _ in examiner.near(row, hits):
            groups.union(row, other)
        reading = knowledge.snapshot.reading(row)
        if reading is None:
            continue  # It was purged or has changed on the disk: nothing can be said of its text.
        if (read := legibility(reading)).poor:
            examined.hardly_read.append(HardlyRead(picture=pictures[row], legibility=read))
        if row in left_out_rows:
            candidates = examiner.weigh(row, reading, hits)
            decision = decide(candidates, knowledge.calibration, with_text=True)
            examined.decisions[row] = decision
            examined.looks[row] = examiner.looks(row, hits)
            suspect = examiner.suspect(row, hits, candidates, decision)
            if suspect is not None:
                examined.suspects.append(suspect)
    progress(len(rows), len(rows))
    health = _health(pictures, groups, examined, knowledge.method.labels_sharing_text())
    calibration = knowledge.calibration
    calibration_pictures = sum(label.distinct for label in health if label.distinct > 1)
    return Diagnosis(
        revision=knowledge.snapshot.revision,
        images=len(pictures),
        examined=len(rows),
        suspects=tuple(
            sorted(examined.suspects, key=lambda s: (not s.likely, -s.doubt, s.picture.image_id))
        ),
        duplicates=tuple(
            sorted(
                (tuple(pictures[row] for row in group) for group in groups.groups()),
                key=lambda group: (-len({p.label for p in group}), -len(group), group[0].label),
            )
        ),
        labels=health,
        rejection_bound=rejection_bound(calibration_pictures, calibration.epsilon)
        if calibration.guaranteed
        else 1.0,
        hardly_read=tuple(
            sorted(examined.hardly_read, key=lambda h: (-h.legibility.share, h.picture.image_id))
        ),
    )


class _Examiner:
    """Compares the pictures of one gallery with each other; pictures are given by row."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._method = knowledge.method
        self._snapshot = knowledge.snapshot
        self._texts: Lru[int, str] = Lru(MAX_TEXTS)

    @cached_property
    def _rows_of_label(self) -> Mapping[str, Sequence[int]]:
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, picture in enumerate(self._snapshot.pictures):
            rows[picture.label].append(row)
        return rows

    def search(self, row: int) -> Hits:
        """The nearest neighbours of a picture, itself excluded."""
        return self._method.search(self._snapshot.embeddings[row], without=row)

    def near(self, row: int, hits: Hits) -> list[tuple[int, NearDuplicate]]:
        """Near duplicates of a picture among its hits, with their rows, by falling similarity."""
        looks = zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True)
        alike = [(other, cosine) for other, cosine in looks if cosine >= SAME_LOOK]
        if not alike:
            return []
        text, *texts = self._page_texts([row, *(other for other, _ in alike)])
        duplicates = []
        for (other, cosine), other_text in zip(alike, texts, strict=True):
            textual = fuzz.ratio(text, other_text) / 100 if text and other_text else 0.0
            same_without_text = not text and not other_text and cosine >= SAME_LOOK_WITHOUT_TEXT
            if textual >= SAME_TEXT or same_without_text:
                picture = self._snapshot.pictures[other]
                duplicates.append(
                    (other, NearDuplicate(picture=picture, visual=cosine, textual=textual))
                )
        return sorted(duplicates, key=lambda item: (-item[1].visual - item[1].textual, item[0]))

    def weigh(self, row: int, reading: Reading, hits: Hits) -> tuple[Candidate, ...]:
        """What speaks for each label, as if the picture were a query and not enrolled."""
        query = Query(embedding=self._snapshot.embeddings[row], reading=reading)
        return self._method.weigh(query, hits, without=row)

    def looks(self, row: int, hits: Hits) -> float:
        """The cosine of a picture with the most alike other one of its label, which has one."""
        label = self._snapshot.pictures[row].label
        for other, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True):
            if self._snapshot.pictures[other].label == label:
                return float(cosine)
        others = [other for other in self._rows_of_label[label] if other != row]
        embeddings = self._snapshot.embeddings
        return float(cosines(embeddings[row], embeddings[others]).max())

    def suspect(
        self, row: int, hits: Hits, candidates: Sequence[Candidate], decision: Decision
    ) -> Suspect | None:
        """The picture as a suspected label error; None when its own label scores best."""
        pictures = self._snapshot.pictures
        picture = pictures[row]
        if not candidates or candidates[0].label == picture.label:
            return None
        best = candidates[0]
        own = next((c for c in candidates if c.label == picture.label), None)
        others = len(self._rows_of_label[picture.label]) - 1
        neighbours = hits.rows[: min(NEIGHBOURS, others)].tolist()
        foreign = sum(pictures[other].label != picture.label for other in neighbours)
        return Suspect(
            picture=picture,
            suggested=pictures[best.row],
            suggested_score=best.rank_score,
            own=pictures[own.row] if own else None,
            own_score=own.rank_score if own else 0.0,
            neighbours=len(neighbours),
            foreign=foreign,
            likely=2 * foreign >= len(neighbours) and decision.label == best.label,
        )

    def _page_texts(self, rows: Sequence[int]) -> list[str]:
        """`page_text` of some pictures; those that are not at hand are read together."""
        texts = {row: self._texts.lookup(row) for row in rows}
        missing = [row for row, text in texts.items() if text is None]
        for row, reading in zip(missing, self._snapshot.readings(missing), strict=True):
            texts[row] = self._texts[row] = page_text(reading) if reading else ""
        return [texts[row] or "" for row in rows]


def page_text(reading: Reading) -> str:
    """All letters and digits of a page in one string, without the phone's status bar."""
    return letters_and_digits("".join(line.text for line in lines_below_status_bar(reading)))


class _UnionFind:
    """Disjoint sets of rows (union-find with path halving)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def union(self, a: int, b: int) -> None:
        """Merges the sets of two rows."""
        self._parent[self.find(a)] = self.find(b)

    def find(self, row: int) -> int:
        """The representative of a row's set."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def groups(self) -> list[list[int]]:
        """The sets of two or more rows."""
        members: defaultdict[int, list[int]] = defaultdict(list)
        for row in range(len(self._parent)):
            members[self.find(row)].append(row)
        return [group for group in members.values() if len(group) > 1]


def _health(
    pictures: Sequence[Picture],
    groups: _UnionFind,
    examined: _Examined,
    text_shared_with: Mapping[str, tuple[str, ...]],
) -> tuple[LabelHealth, ...]:
    images: Counter[str] = Counter()
    distinct: defaultdict[str, set[int]] = defaultdict(set)
    for row, picture in enumerate(pictures):
        if not is_reserved(picture.label):
            images[picture.label] += 1
            distinct[picture.label].add(groups.find(row))
    left_out: defaultdict[str, list[int]] = defaultdict(list)
    for row in sorted(examined.looks, key=examined.looks.__getitem__):
        left_out[pictures[row].label].append(row)
    looks = examined.looks
    unlike = float(np.quantile(list(looks.values()), UNLIKE_QUANTILE)) if looks else 0.0
    # Where even the most alike pictures are no more alike than that, none stands out.
    stand_out = max(looks.values(), default=0.0) > unlike
    health = []
    for label, count in images.items():
        rows = left_out[label]
        decisions = {row: examined.decisions[row] for row in rows}
        rejected = [row for row in rows if decisions[row].label == OTHER]
        health.append(
            LabelHealth(
                label=label,
                images=count,
                distinct=len(distinct[label]),
                own=OwnScores.of(list(decisions.values())) if rows else None,
                rejected=tuple(
                    pictures[row] for row in sorted(rejected, key=lambda r: decisions[r].score)
                ),
                least_looks=looks[rows[0]] if rows else 0.0,
                unlike=tuple(pictures[row] for row in rows if stand_out and looks[row] <= unlike),
                text_shared_with=text_shared_with.get(label, ()),
            )
        )
    return tuple(sorted(health, key=lambda h: (h.distinct, h.images, h.label)))
