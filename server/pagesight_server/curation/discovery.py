"""New pages among rejected screenshots: those that are alike, as clusters with a name for each.

    pictures ──answered as a known page──────────────────────> left out
       └─> others ──as alike as the cut to what is unwanted──> left out
             └─> likeness of all pairs ──average linkage, down to the cut──> clusters, singles
    the gallery's own pictures, labels forgotten ──fewest presses──> the cut

The cut is the gallery's: its own pictures, each label as if it were unknown, are clustered alike,
and the cut is where a person would enrol them with the fewest presses, drawn towards a constant
where pages have few pictures. Look-alike pages move it up (decision 0028).

Time grows with the square of the number of pictures, memory with the number: pairs are compared in
blocks, and only groups of pictures that hang together above the cut are clustered as a whole. Of
10,000 pictures all pairs take a minute or two of a core.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pagesight_server.curation.likeness import Floats, Likeness, Pages, SeenPicture
from pagesight_server.curation.linkage import Join, average_linkage, clusters
from pagesight_server.curation.page_names import shared_lines, suggest_label
from pagesight_server.gallery.snapshot import OTHER, Snapshot, is_reserved
from pagesight_server.recognition.calibration import PICTURES_FOR_HALF
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import decide
from pagesight_server.recognition.knowledge import Knowledge

MIN_PICTURES = 2
"""Pictures of a cluster, unless a caller asks for more."""

DEFAULT_CUT = 0.7
"""The cut that a gallery begins with: with 0.6 presses are a third more over four sets, and
families of pages mix (docs/recognition.md)."""

MIN_PLACED_BY = 20
"""Gallery pictures, of labels with others, from which these place the cut; as `balance.py`."""

MAX_PLACED_BY, PLACED_BY_PER_LABEL = 1_000, 8
"""Gallery pictures that place the cut, in all and of one label: so many are compared in seconds."""

BLOCK = 512
"""Pictures that are compared with all others at a time: of 10,000, blocks take 20 MB."""

MAX_WHOLE = 4_000
"""Pictures that hang together and are clustered as a whole: their likeness takes 64 MB. Of more,
so many as good as drawn by lot are, and each other joins the cluster that it is most like."""

KEY_DIGITS = 16
"""Hexadecimal digits of a cluster's key, as of a finding's."""

NAMED_BY = 50
"""Pictures of a cluster that its texts are taken from, the most typical ones: more show no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Pictures that seem to show one page."""

    image_ids: tuple[str, ...]
    """The most typical first."""
    shared_texts: tuple[str, ...]
    suggested_label: str
    """A label that can be enrolled, that the gallery lacks, and no other cluster has."""
    closest_label: str
    """The known page that most of them come closest to; empty where none is known."""
    likeness: float
    """Mean likeness to the most typical one, 0 to 1."""

    @property
    def key(self) -> str:
        """Names the cluster; the same for the same pictures."""
        return cluster_key(self.image_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovered:
    """Pages that turn up among pictures."""

    clusters: tuple[Cluster, ...]
    """The largest first."""
    single_image_ids: tuple[str, ...]
    """Pictures in no cluster, in their order."""
    left_out: int
    """Pictures that show a known page, or resemble what is unwanted."""
    cut: float
    """Mean likeness from which pictures count as one page."""


def cluster_key(image_ids: Sequence[str]) -> str:
    """Names a cluster by its pictures, in whichever order: `KEY_DIGITS` hexadecimal digits."""
    about = "\n".join(sorted(set(image_ids)))
    return hashlib.sha256(about.encode()).hexdigest()[:KEY_DIGITS]


def discover(
    knowledge: Knowledge,
    pictures: Sequence[SeenPicture],
    unwanted: Sequence[SeenPicture] = (),
    *,
    min_pictures: int = MIN_PICTURES,
    step: Callable[[], None] = lambda: None,
) -> Discovered:
    """Sorts pictures that show no known page by likeness.

    Args:
        knowledge: The gallery. Its examples of unknown pages are unwanted, too.
        pictures: Screenshots; of several with one id the first counts.
        unwanted: Whatever resembles one of these is left out.
        min_pictures: Least number of pictures of a cluster, at least 2.
        step: Called between steps of at most seconds; what it raises ends the work.
    """
    first: dict[str, SeenPicture] = {}
    for picture in pictures:
        first.setdefault(picture.image_id, picture)
    closest: dict[str, str] = {}
    rejected = []
    for picture in first.values():
        step()
        label, closest[picture.image_id] = _answer(knowledge, picture)
        if label == OTHER:
            rejected.append(picture)
    likeness = Likeness(knowledge.method)
    cut = place_cut(knowledge.snapshot, likeness)
    pages = Pages.of(rejected)
    wanted = _unlike(likeness, pages, _unwanted(knowledge.snapshot, unwanted), cut, step)
    left = [rejected[row] for row in wanted]
    pages = pages.take(wanted)
    groups = _clusters(likeness, pages, cut, step)
    big = [group for group in groups if len(group) >= max(MIN_PICTURES, min_pictures)]
    typical = []
    for group in big:
        step()
        typical.append(_most_typical_first(likeness, pages, group))
    typical.sort(key=lambda one: (-len(one[0]), -one[1], left[one[0][0]].image_id))
    taken = set(knowledge.snapshot.sample)
    found = []
    for rows, alike in typical:
        step()
        members = [left[row] for row in rows]
        readings = [member.reading for member in members[:NAMED_BY]]
        lines = shared_lines(readings)
        label = suggest_label(lines, readings, taken)
        taken.add(label)
        nearest = Counter(closest[member.image_id] for member in members)
        found.append(
            Cluster(
                image_ids=tuple(member.image_id for member in members),
                shared_texts=tuple(line.text for line in lines),
                suggested_label=label,
                closest_label=min(nearest, key=lambda name: (-nearest[name], name)),
                likeness=alike,
            )
        )
    clustered = {image_id for cluster in found for image_id in cluster.image_ids}
    return Discovered(
        clusters=tuple(found),
        single_image_ids=tuple(one.image_id for one in left if one.image_id not in clustered),
        left_out=len(first) - len(left),
        cut=cut,
    )


def place_cut(snapshot: Snapshot, likeness: Likeness) -> float:
    """Where the gallery's own pictures, their labels forgotten, are enrolled with fewest presses.

    A cluster costs one press, and two for each picture of another page in it: one to take it out,
    one to enrol it. Where several cuts cost the same, the middle of them is taken. A page of few
    pictures, which are often chosen to differ, says little of how alike screenshots of it are: the
    fewer, the nearer the cut lies to `DEFAULT_CUT`.

    Returns:
        The cut, 0 to 1.
    """
    drawn = {
        label: rows
        for label, rows in snapshot.sample.first(PLACED_BY_PER_LABEL).items()
        if len(rows) > 1 and not is_reserved(label)
    }
    if len(drawn) < 2 or sum(map(len, drawn.values())) < MIN_PLACED_BY:
        return DEFAULT_CUT
    names = list(drawn)
    names = names[:: max(1, -(-sum(map(len, drawn.values())) // MAX_PLACED_BY))]
    rows = [row for label in names for row in drawn[label]]
    labels = [snapshot.pictures[row].label for row in rows]
    pages = Pages.of_gallery(snapshot, rows)
    alike = likeness.between(pages, pages, left_labels=labels)
    joins = average_linkage(np.asarray((alike + alike.T) / 2, np.float32))
    presses = _presses(labels, joins)
    cheapest = np.flatnonzero(presses == presses.min()).tolist()
    first, last = cheapest[0], cheapest[-1]
    highest = joins[first - 1].likeness if first else 1.0
    lowest = joins[last].likeness if last < len(joins) else 0.0
    placed = float(np.clip((highest + lowest) / 2, 0.0, 1.0))
    # As for the threshold: of n pictures a page, n / (n + 3) is the gallery's to say.
    typical = float(np.median([len(drawn[label]) for label in names]))
    own = typical / (typical + PICTURES_FOR_HALF)
    return own * placed + (1 - own) * DEFAULT_CUT


def _presses(labels: Sequence[str], joins: Sequence[Join]) -> NDArray[np.int64]:
    """How many presses enrol labelled pictures after each number of joins, from none on."""

    def cost(counts: Counter[str]) -> int:
        return 1 + 2 * (counts.total() - max(counts.values()))

    group = list(range(len(labels)))
    counts = {row: Counter([label]) for row, label in enumerate(labels)}
    members = {row: [row] for row in group}
    total = len(labels)
    totals = [total]
    for join in joins:
        kept, gone = group[join.row], group[join.other]
        total -= cost(counts[kept]) + cost(counts[gone])
        counts[kept] += counts.pop(gone)
        total += cost(counts[kept])
        for row in members[gone]:
            group[row] = kept
        members[kept] += members.pop(gone)
        totals.append(total)
    return np.asarray(totals, np.int64)


def _answer(knowledge: Knowledge, picture: SeenPicture) -> tuple[str, str]:
    """The answer to a picture, and the label that comes closest."""
    if not knowledge.snapshot.pictures:
        return OTHER, ""
    query = Query(embedding=picture.embedding, reading=picture.reading)
    candidates = knowledge.method.weigh(query, knowledge.method.search(query.embedding))
    decision = decide(candidates, knowledge.calibration, with_text=True)
    return decision.label, decision.closest_label


def _unwanted(snapshot: Snapshot, dismissed: Sequence[SeenPicture]) -> list[Pages]:
    """What pictures must not resemble: what was dismissed, and examples of unknown pages."""
    sample = snapshot.sample
    examples = [row for label in sample if is_reserved(label) for row in sample[label]]
    unwanted = []
    if dismissed:
        unwanted.append(Pages.of(dismissed))
    if examples:
        unwanted.append(Pages.of_gallery(snapshot, examples))
    return unwanted


def _unlike(
    likeness: Likeness,
    pages: Pages,
    unwanted: Sequence[Pages],
    cut: float,
    step: Callable[[], None],
) -> list[int]:
    """The rows of the pictures that resemble none of what is unwanted."""
    alike = np.zeros(len(pages), bool)
    for one in unwanted:
        for begin in range(0, len(pages), BLOCK):
            rows = np.arange(begin, min(begin + BLOCK, len(pages)))
            for start in range(0, len(one), BLOCK):
                step()
                others = one.take(np.arange(start, min(start + BLOCK, len(one))))
                near = likeness.between(pages.take(rows), others)
                alike[rows] |= (near >= cut).any(axis=1)
    return np.flatnonzero(~alike).tolist()


def _clusters(
    likeness: Likeness, pages: Pages, cut: float, step: Callable[[], None]
) -> list[list[int]]:
    """The rows of each cluster; clusters of one among them."""
    found = []
    for group in _hanging_together(likeness, pages, cut, step):
        whole = group[:: max(1, -(-len(group) // MAX_WHOLE))]
        step()
        alike = _within(likeness, pages.take(whole), step)
        made = clusters(len(whole), average_linkage(alike, cut))
        parts = [[whole[row] for row in rows] for rows in made]
        chosen = set(whole)
        rest = [row for row in group if row not in chosen]
        for row, part in zip(rest, _most_alike(likeness, pages, rest, parts, step), strict=True):
            parts[part].append(row)
        found += [sorted(part) for part in parts]
    return found


def _hanging_together(
    likeness: Likeness, pages: Pages, cut: float, step: Callable[[], None]
) -> list[list[int]]:
    """Connected components of the pairs that are as alike as the cut.

    Clusters with a mean likeness of at least the cut have a pair that is as alike, so none reaches
    beyond its component.
    """
    component = np.arange(len(pages))
    for begin in range(0, len(pages), BLOCK):
        step()
        rows = np.arange(begin, min(begin + BLOCK, len(pages)))
        block = pages.take(rows)
        for start in range(begin, len(pages), BLOCK):
            step()
            others = np.arange(start, min(start + BLOCK, len(pages)))
            near = likeness.between(block, pages.take(others)) >= cut
            for row, hits in zip(rows.tolist(), near, strict=True):
                names = np.unique(component[others[hits]])
                if (names != component[row]).any():
                    joined = np.append(names, component[row])
                    component[np.isin(component, joined)] = joined.min()
    return [np.flatnonzero(component == name).tolist() for name in np.unique(component).tolist()]


def _within(likeness: Likeness, pages: Pages, step: Callable[[], None]) -> Floats:
    """The likeness of all pairs, shape (pictures, pictures)."""
    alike = np.empty((len(pages), len(pages)), np.float32)
    for begin in range(0, len(pages), BLOCK):
        step()
        rows = np.arange(begin, min(begin + BLOCK, len(pages)))
        alike[rows] = likeness.between(pages.take(rows), pages)
    return np.asarray((alike + alike.T) / 2, np.float32)


def _most_alike(
    likeness: Likeness,
    pages: Pages,
    rows: Sequence[int],
    parts: Sequence[Sequence[int]],
    step: Callable[[], None],
) -> list[int]:
    """Returns the cluster that each row is most like, on average."""
    found: list[int] = []
    for begin in range(0, len(rows), BLOCK):
        block = pages.take(rows[begin : begin + BLOCK])
        means = []
        for part in parts:
            step()
            means.append(likeness.between(block, pages.take(part)).mean(axis=1))
        found += np.argmax(np.stack(means), axis=0).tolist()
    return found


def _most_typical_first(
    likeness: Likeness, pages: Pages, rows: Sequence[int]
) -> tuple[list[int], float]:
    """A cluster with its medoid first, then by likeness to it; and the mean of that."""
    sample = rows[:: max(1, -(-len(rows) // BLOCK))]
    whole = likeness.between(pages.take(rows), pages.take(sample))
    medoid = int(np.argmax(whole.mean(axis=1)))
    alike = likeness.between(pages.take([rows[medoid]]), pages.take(rows))[0]
    alike[medoid] = np.inf
    order = np.argsort(-alike, kind="stable").tolist()
    others = np.delete(alike, medoid)
    return [rows[i] for i in order], float(np.clip(others.mean(), 0.0, 1.0))
