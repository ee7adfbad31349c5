"""What is said of one set: every method's figures, splits of the known pages, and the one rule.

ScreenSet ──methods──> answers ──figures──> rows ─┐
                          ├──by version, language─┼─> SetResult ──> JSON, tables
                          └──ours : published─────┘
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pagesight_server.evaluation import Prediction, measure
from tests.bench.recognition.figures import Figures, figures, rejection_for
from tests.bench.recognition.methods import OURS, PUBLISHED, MethodAnswers, answers
from tests.bench.recognition.sets import ScreenSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one set."""

    method: str
    figures: Figures
    cpu_ms: float
    """CPU milliseconds a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Known screenshots of one kind, by one method."""

    method: str
    kind: str
    """What `PROVENANCE.tsv` says of them, as `version newer`."""
    known: int
    micro_f1: float | None
    false_rejection: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The rule that no set may break: ours is no worse than the published method.

    False rejection is compared at equal rejection: where the published method's own threshold
    rejects n unknown screenshots, ours is given the threshold that rejects as many.
    """

    micro_f1: float
    published_micro_f1: float
    rejected: int
    """Unknown screenshots that the published method rejects."""
    false_rejection: float
    """Ours, by the least threshold that rejects as many."""
    published_false_rejection: float

    @property
    def kept(self) -> bool:
        """Whether ours is no worse in either."""
        return (
            self.micro_f1 >= self.published_micro_f1
            and self.false_rejection <= self.published_false_rejection
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetResult:
    """All that is said of one set."""

    name: str
    labels: int
    pictures: int
    """In the gallery."""
    unreadable: int
    rows: tuple[Row, ...]
    splits: tuple[Split, ...]
    rule: Rule | None
    """None where the set has no known or no unknown test screenshots."""

    def row(self, method: str) -> Row | None:
        """The row of a method, if it was measured."""
        return next((row for row in self.rows if row.method == method), None)

    def to_json(self) -> dict[str, object]:
        """The set's part of `recognition.json`."""
        return asdict(self)


def judge(screen_set: ScreenSet, *, epsilon: float) -> SetResult:
    """Runs every method on a set and says what came of it.

    Args:
        screen_set: The set.
        epsilon: Share of known pages that may be rejected.
    """
    by_method = answers(screen_set, epsilon=epsilon)
    compared = {a.method: a for a in by_method if a.method in (OURS, PUBLISHED)}
    return SetResult(
        name=screen_set.name,
        labels=len(screen_set.snapshot.labels),
        pictures=len(screen_set.snapshot.pictures),
        unreadable=len(screen_set.unreadable),
        rows=tuple(
            Row(method=a.method, figures=figures(a.predictions), cpu_ms=a.cpu_ms) for a in by_method
        ),
        splits=tuple(split for a in compared.values() for split in splits(screen_set, a)),
        rule=rule(compared[OURS].predictions, compared[PUBLISHED].predictions),
    )


def splits(screen_set: ScreenSet, method: MethodAnswers) -> list[Split]:
    """A method's figures over the known screenshots of each version and language."""
    kinds: defaultdict[str, list[Prediction]] = defaultdict(list)
    for test, prediction in zip(screen_set.tests, method.predictions, strict=True):
        for column, value in test.split:
            kinds[f"{column} {value}"].append(prediction)
    made = []
    for kind in sorted(kinds):
        metrics = measure(kinds[kind])
        made.append(
            Split(
                method=method.method,
                kind=kind,
                known=metrics.n,
                micro_f1=metrics.micro_f1,
                false_rejection=metrics.open_set.false_rejection_rate,
            )
        )
    return made


def rule(ours: Sequence[Prediction], published: Sequence[Prediction]) -> Rule | None:
    """Holds ours against the published method on the same screenshots.

    Args:
        ours: What ours makes of each.
        published: What the published method makes of each.
    """
    mine, theirs = measure(ours), measure(published)
    their_rejection = theirs.open_set.false_rejection_rate
    if mine.micro_f1 is None or theirs.micro_f1 is None or their_rejection is None:
        return None
    if not theirs.open_set.kinds:
        return None
    rejected = sum(kind.rejected for kind in theirs.open_set.kinds.values())
    return Rule(
        micro_f1=mine.micro_f1,
        published_micro_f1=theirs.micro_f1,
        rejected=rejected,
        false_rejection=rejection_for(
            rejected,
            [p.score for p in ours if p.known],
            [p.score for p in ours if not p.known],
        ),
        published_false_rejection=their_rejection,
    )
