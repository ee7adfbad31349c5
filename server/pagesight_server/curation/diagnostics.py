"""What may be wrong with a gallery, for a person to put right; nothing here changes an answer.

    picture ──search──> nearest pictures ─┬─ almost the same, seen and read ──> groups
                                          └─ carry other labels ───────────┐
            ──weigh, left out──┬─> another label fits better ──────────────┴──> suspects
                               └─> below the threshold ──> rejected
            ──confidence of its lines──> hardly read
    label   ──distinct pictures──> what can be said of pages not seen yet
            ──its pictures that none of it resembles──> of what look more are wanted
            ──document frequencies──> has it text of its own?

A picture under the wrong label answers wrongly for every page like it, and raises the
threshold of both labels. Pictures that are almost the same teach nothing new and make the
gallery look surer of itself than it is: calibration takes them for independent.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rapidfuzz import fuzz

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
"""Cosine from which two pictures may be almost the same; docs/gallery-care.md."""

SAME_TEXT = 0.95
"""RapidFuzz ratio of all text from which they are, digits included: the same page of another
person is a picture of its own."""

SAME_LOOK_WITHOUT_TEXT = 0.997
"""Cosine from which they are where neither shows text."""

MAX_NEAR = 5
"""Near duplicates named of one picture."""

NEIGHBOURS = 5
"""Nearest pictures that are asked for their label."""

FEW_PICTURES = 5
"""Distinct pictures below which more should be enrolled: with 5, up to 45 % of a page's
screenshots may still fit worse than the worst of them (`unseen_bound`)."""

UNLIKE_QUANTILE = 0.1
"""Share of the gallery's pictures that look least like the rest of their label, which are named as
the looks of which more are wanted: few enough for a person to go through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """A picture that is almost the same as another."""

    picture: Picture
    visual: float
    """Cosine, -1 to 1."""
    textual: float
    """0 to 1; 0 also when neither shows text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A picture whose label is doubtful."""

    picture: Picture
    suggested: Picture
    """The picture that speaks for another label."""
    suggested_score: float
    own: Picture | None
    """The picture of its own label that speaks for that; None when none is near."""
    own_score: float
    neighbours: int
    """Nearest pictures that were asked: as many as its label has others, at most `NEIGHBOURS`."""
    foreign: int
    """How many of them carry another label."""
    likely: bool
    """Whether it would be answered with the other label and at least half of its neighbours are
    foreign. Otherwise it may just be unlike the other pictures of its label."""

    @property
    def doubt(self) -> float:
        """How much better the other label fits."""
        return self.suggested_score - self.own_score


@dataclass(frozen=True, slots=True, kw_only=True)
class HardlyRead:
    """A picture whose text was found and hardly read."""

    picture: Picture
    legibility: Legibility


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelHealth:
    """How much can be said of one label."""

    label: str
    images: int
    distinct: int
    """Pictures, those that are almost the same counted once."""
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
        """At most this share of its screenshots fits worse than its worst picture."""
        return quantile_bound(self.distinct, 1)

    @property
    def few(self) -> bool:
        """Whether more pictures should be enrolled."""
        return self.distinct < FEW_PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What may be wrong with a gallery."""

    revision: int
    images: int
    examined: int
    suspects: tuple[Suspect, ...]
    """The most doubtful first."""
    duplicates: tuple[tuple[Picture, ...], ...]
    """Groups of two or more that are almost the same, those of several labels first."""
    labels: tuple[LabelHealth, ...]
    """Those with fewest pictures first; examples of unknown pages have none."""
    rejection_bound: float
    """At most this share of known pages is rejected, where traffic looks like the gallery; 1
    where labels have too few pictures for the threshold to keep to its epsilon."""
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
    """The pictures of the gallery that are almost the same as these, the most alike first.

    Args:
        knowledge: What is known; ids that it lacks have no near duplicates.
        image_ids: The pictures to compare, usually those just enrolled.
    """
    wanted = set(image_ids)
    rows = [row for row, p in enumerate(knowledge.snapshot.pictures) if p.image_id in wanted]
    examiner = _Examiner(knowledge)
    found = {}
    for row in rows:
        if near := examiner.near(row, examiner.search(row)):
            picture = knowledge.snapshot.pictures[row]
            found[picture.image_id] = [duplicate for _, duplicate in near[:MAX_NEAR]]
    return found


def diagnose(
    knowledge: Knowledge,
    *,
    max_images: int = MAX_EXAMINED,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Diagnosis:
    """Examines a gallery, each picture as if it were a query and not enrolled.

    Args:
        knowledge: What is known of it.
        max_images: Pictures to examine; drawn at random from a larger gallery.
        progress: Called with how many of how many pictures are examined, from 0 on.
    """
    pictures = knowledge.snapshot.pictures
    rows = rows_to_examine(knowledge.snapshot, max_images)
    left_out_rows = set(can_be_left_out(knowledge.snapshot, rows))
    examiner = _Examiner(knowledge)
    examined = _Examined()
    same = _Groups(len(pictures))
    for done, row in enumerate(rows):
        progress(done, len(rows))
        hits = examiner.search(row)
        for other, _ in examiner.near(row, hits):
            same.join(row, other)
        if (read := legibility(pictures[row].reading)).poor:
            examined.hardly_read.append(HardlyRead(picture=pictures[row], legibility=read))
        if row in left_out_rows:
            candidates = examiner.weigh(row, hits)
            decision = decide(candidates, knowledge.calibration, with_text=True)
            examined.decisions[row] = decision
            examined.looks[row] = examiner.looks(row, hits)
            suspect = examiner.suspect(row, hits, candidates, decision)
            if suspect is not None:
                examined.suspects.append(suspect)
    progress(len(rows), len(rows))
    health = _health(pictures, same, examined, knowledge.method.labels_sharing_text())
    calibration = knowledge.calibration
    left_out = sum(label.distinct for label in health if label.distinct > 1)
    return Diagnosis(
        revision=knowledge.snapshot.revision,
        images=len(pictures),
        examined=len(rows),
        suspects=tuple(
            sorted(examined.suspects, key=lambda s: (not s.likely, -s.doubt, s.picture.image_id))
        ),
        duplicates=tuple(
            sorted(
                (tuple(pictures[row] for row in group) for group in same.groups()),
                key=lambda group: (-len({p.label for p in group}), -len(group), group[0].label),
            )
        ),
        labels=health,
        rejection_bound=rejection_bound(left_out, calibration.epsilon)
        if calibration.guaranteed
        else 1.0,
        hardly_read=tuple(
            sorted(examined.hardly_read, key=lambda h: (-h.legibility.share, h.picture.image_id))
        ),
    )


class _Examiner:
    """Compares pictures of one gallery with each other."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._method = knowledge.method
        self._snapshot = knowledge.snapshot
        self._texts: dict[int, str] = {}
        self._rows_of_label: defaultdict[str, list[int]] = defaultdict(list)
        for row, picture in enumerate(self._snapshot.pictures):
            self._rows_of_label[picture.label].append(row)

    def search(self, row: int) -> Hits:
        """The pictures nearest to one of them."""
        return self._method.search(self._snapshot.embeddings[row], without=row)

    def near(self, row: int, hits: Hits) -> list[tuple[int, NearDuplicate]]:
        """The hits that are almost the same as a picture, with their rows."""
        found = []
        for other, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True):
            if cosine < SAME_LOOK:
                continue
            mine, theirs = self._text(row), self._text(other)
            textual = fuzz.ratio(mine, theirs) / 100 if mine and theirs else 0.0
            without_text = not mine and not theirs and cosine >= SAME_LOOK_WITHOUT_TEXT
            if textual >= SAME_TEXT or without_text:
                picture = self._snapshot.pictures[other]
                found.append(
                    (other, NearDuplicate(picture=picture, visual=cosine, textual=textual))
                )
        return sorted(found, key=lambda item: (-item[1].visual - item[1].textual, item[0]))

    def weigh(self, row: int, hits: Hits) -> tuple[Candidate, ...]:
        """What speaks for each label, as if the picture were a query and not enrolled."""
        reading = self._snapshot.pictures[row].reading
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
        """The picture as a suspect; None when no other label fits it better than its own."""
        pictures = self._snapshot.pictures
        picture = pictures[row]
        if not candidates or candidates[0].label == picture.label:
            return None
        best = candidates[0]
        own = next((c for c in candidates if c.label == picture.label), None)
        others = len(self._rows_of_label[picture.label]) - 1
        asked = hits.rows[: min(NEIGHBOURS, others)].tolist()
        foreign = sum(pictures[other].label != picture.label for other in asked)
        return Suspect(
            picture=picture,
            suggested=pictures[best.row],
            suggested_score=best.rank_score,
            own=pictures[own.row] if own else None,
            own_score=own.rank_score if own else 0.0,
            neighbours=len(asked),
            foreign=foreign,
            likely=2 * foreign >= len(asked) and decision.label == best.label,
        )

    def _text(self, row: int) -> str:
        if row not in self._texts:
            self._texts[row] = page_text(self._snapshot.pictures[row].reading)
        return self._texts[row]


def page_text(reading: Reading) -> str:
    """All letters and digits of a page, without the phone's status bar."""
    return letters_and_digits("".join(line.text for line in lines_below_status_bar(reading)))


class _Groups:
    """Rows that belong together, found pair by pair (union-find)."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def join(self, a: int, b: int) -> None:
        """Notes that two rows belong together."""
        self._parent[self.first(a)] = self.first(b)

    def first(self, row: int) -> int:
        """The row that stands for all of its group."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def groups(self) -> list[list[int]]:
        """The groups of two or more."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for row in range(len(self._parent)):
            found[self.first(row)].append(row)
        return [group for group in found.values() if len(group) > 1]


def _health(
    pictures: Sequence[Picture],
    same: _Groups,
    examined: _Examined,
    text_shared_with: Mapping[str, tuple[str, ...]],
) -> tuple[LabelHealth, ...]:
    images: Counter[str] = Counter()
    distinct: defaultdict[str, set[int]] = defaultdict(set)
    for row, picture in enumerate(pictures):
        if not is_reserved(picture.label):
            images[picture.label] += 1
            distinct[picture.label].add(same.first(row))
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
