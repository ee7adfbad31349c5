"""How many presses enrol pages that a gallery lacks, from what it rejects: discovery on many sets.

    set ──a third of the labels held back──> gallery of the rest, traffic with the held-back pages
    traffic ──discover──> clusters ──a person──> enrolled, dismissed ──again──> until all are there

make bench-discovery SETS="NAME=DIR DIR ..." ARGS="--drawn 201:10:4:12 --cuts placed 0.6 0.7 0.8"

A DIR holds `gallery/` and `test/` as `evaluate` takes them. Everything goes to
bench/discovery.json; features are those of `make bench-recognition`, in bench/features.

The person goes through the clusters from the largest. One with pictures of a page to enrol costs a
press, and one for each picture of another page, which is taken out; one of unrelated pictures costs
a press to dismiss. Then it is discovered again, until a round enrols no new page; a page that is
still missing costs a press for one picture that is picked out by hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from unittest import mock

import numpy as np

from pagesight_server.common.errors import PagesightError
from pagesight_server.config import read_config
from pagesight_server.curation import discovery
from pagesight_server.curation.discovery import MIN_PICTURES, Discovered, discover
from pagesight_server.curation.likeness import SeenPicture
from pagesight_server.gallery.snapshot import is_reserved
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.preview import Addition, as_enrolled
from tests.bench.bench_recognition import named_folder
from tests.bench.measure import machine
from tests.bench.recognition.sets import Drawing, ScreenSet, open_reader

OUT = Path("bench")
PLACED = "placed"
MAX_ROUNDS = 5
TYPICAL = 5
"""Pictures of a dismissed cluster that are remembered, as a client sends them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one simulation came to."""

    set: str
    seed: int
    cut_by: str
    """`placed` by the gallery, or a constant."""
    cut: float
    pages: int
    """Pages held back."""
    in_reach: int
    """Of these, how many have at least two rejected pictures; of the others no cluster can come in
    the first round, as the gallery takes their pictures for pages that it knows."""
    pictures: int
    """Pictures of them."""
    rejected: int
    """Of these, how many the gallery rejects, so that they can be discovered."""
    unrelated: int
    """Other pictures that it rejects."""
    clusters: int
    """Clusters of the first round."""
    purity: float
    """Of the pictures in the first round's clusters that hold a held-back page, the share that is
    of the commonest page of its cluster."""
    found: float
    """Share of the rejected pictures of held-back pages that stand in a cluster of their page in
    the first round."""
    enrolled: int
    """Pages that were enrolled from clusters, in all rounds."""
    presses: int
    """All presses until every held-back page is enrolled."""
    dismissals: int
    """Of these, for clusters of unrelated pictures."""
    rounds: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints what was measured and keeps it in a file; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="bench_discovery", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("sets", nargs="*", type=named_folder, metavar="[NAME=]DIR")
    parser.add_argument(
        "--drawn", nargs="+", default=[], type=Drawing.parse, metavar="SEED:GALLERY:TEST:OTHER"
    )
    parser.add_argument("--seeds", type=int, default=3, help="which labels are held back")
    parser.add_argument(
        "--cuts", nargs="+", default=[PLACED], help="placed by the gallery, or constants"
    )
    parser.add_argument(
        "--rounds", type=int, default=MAX_ROUNDS, help="how often it is discovered at most"
    )
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR")
    parser.add_argument("--json", type=Path, default=OUT / "discovery.json", metavar="FILE")
    options = parser.parse_args(arguments)
    if not options.sets and not options.drawn:
        parser.error("say which sets: make bench-discovery SETS='DIR ...', or --drawn 1:10:4:12")
    (OUT / "features").mkdir(parents=True, exist_ok=True)
    try:
        sets = asyncio.run(_read(options))
    except PagesightError as error:
        print(f"bench-discovery: {error}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    for seed in range(options.seeds):
        for one in sets:
            gallery, traffic, held = hold_back(one, seed)
            for cut in options.cuts:
                print(f"{one.name}: seed {seed}, cut {cut}", file=sys.stderr, flush=True)
                rows.append(simulate(one.name, seed, gallery, traffic, held, cut, options.rounds))
                options.json.parent.mkdir(parents=True, exist_ok=True)
                saved = {**machine(), "rows": [asdict(row) for row in rows]}
                options.json.write_text(json.dumps(saved, ensure_ascii=False, indent=1), "utf-8")
    print(table(rows))
    return 0


async def _read(options: argparse.Namespace) -> list[ScreenSet]:
    folders = [*options.sets, *((one.name, one.draw(OUT / "drawn")) for one in options.drawn)]
    config = read_config(None, {"bundles": options.bundles})
    async with open_reader(config, OUT / "features") as reader:
        return [await reader.read(name, folder) for name, folder in folders]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A picture of the traffic, and what it shows."""

    label: str
    picture: SeenPicture


def hold_back(screens: ScreenSet, seed: int) -> tuple[Knowledge, list[Shown], frozenset[str]]:
    """A gallery without a third of its labels, the traffic with them, and which they are."""
    snapshot = screens.snapshot
    labels = snapshot.labels
    held = frozenset(random.Random(seed).sample(labels, max(1, len(labels) // 3)))
    rows = [row for row, one in enumerate(snapshot.pictures) if one.label not in held]
    rest = replace(
        snapshot,
        pictures=tuple(snapshot.pictures[row] for row in rows),
        embeddings=snapshot.embeddings[np.asarray(rows, np.int64)],
    )
    traffic: dict[str, Shown] = {}
    for row, one in enumerate(snapshot.pictures):
        if one.label in held and one.reading is not None:
            seen = SeenPicture(
                image_id=one.image_id, embedding=snapshot.embeddings[row], reading=one.reading
            )
            traffic[one.image_id] = Shown(label=one.label, picture=seen)
    there = {one.image_id for one in rest.pictures}
    for test in screens.tests:
        if test.image_id not in there and test.query.reading is not None:
            seen = SeenPicture(
                image_id=test.image_id,
                embedding=test.query.embedding,
                reading=test.query.reading,
            )
            traffic.setdefault(test.image_id, Shown(label=test.truth, picture=seen))
    mixed = list(traffic.values())
    random.Random(seed).shuffle(mixed)
    return Knowledge.of(rest), mixed, held


def simulate(
    name: str,
    seed: int,
    knowledge: Knowledge,
    traffic: Sequence[Shown],
    held: frozenset[str],
    cut: str = PLACED,
    most_rounds: int = MAX_ROUNDS,
) -> Row:
    """A person who enrols the held-back pages from what is discovered.

    Args:
        name: Of the set.
        seed: Which labels were held back.
        knowledge: The gallery without them.
        traffic: What is looked through.
        held: The labels held back.
        cut: `placed`, or a constant in its place.
        most_rounds: How often it is discovered at most.
    """
    label_of = {one.picture.image_id: one.label for one in traffic}
    pictures = {one.picture.image_id: one.picture for one in traffic}
    enrolled: set[str] = set()
    dismissed: list[SeenPicture] = []
    presses = dismissals = rounds = 0
    first: Discovered | None = None
    while rounds < most_rounds:
        rounds += 1
        with cut_at(cut):
            found = discover(knowledge, [*pictures.values()], dismissed)
        first = first or found
        additions: list[Addition] = []
        missing_before = len(held - enrolled)
        for cluster in found.clusters:
            shown = Counter(label_of[image_id] for image_id in cluster.image_ids)
            pages = {label: n for label, n in shown.items() if not is_reserved(label)}
            presses += 1
            if not pages:
                dismissals += 1
                dismissed += [pictures[image_id] for image_id in cluster.image_ids[:TYPICAL]]
                continue
            label = max(pages, key=lambda one: (pages[one], one))
            presses += len(cluster.image_ids) - pages[label]
            enrolled |= {label} & held
            additions += [
                _addition(pictures.pop(image_id), label)
                for image_id in cluster.image_ids
                if label_of[image_id] == label
            ]
        if held <= enrolled or len(held - enrolled) == missing_before or rounds == most_rounds:
            break
        knowledge = Knowledge.of(as_enrolled(knowledge.snapshot, additions), before=knowledge)
    assert first is not None
    from_clusters = len(enrolled)
    presses += len(held - enrolled)
    return _row(
        first,
        label_of,
        held,
        set=name,
        seed=seed,
        cut_by=cut,
        cut=first.cut,
        enrolled=from_clusters,
        presses=presses,
        dismissals=dismissals,
        rounds=rounds,
    )


def _row(
    first: Discovered, label_of: dict[str, str], held: frozenset[str], **more: str | float
) -> Row:
    """The figures of the first round, with what the rounds came to."""
    clustered = [cluster.image_ids for cluster in first.clusters]
    rejected = [*first.single_image_ids, *(i for ids in clustered for i in ids)]
    inside = right = stands = 0
    for ids in clustered:
        shown = Counter(label_of[image_id] for image_id in ids)
        label, count = shown.most_common(1)[0]
        if held & shown.keys():
            inside += len(ids)
            right += count
        if label in held:
            stands += count
    by_page = Counter(label_of[image_id] for image_id in rejected)
    of_held = sum(label_of[image_id] in held for image_id in rejected)
    values = {
        "pages": len(held),
        "in_reach": sum(by_page[label] >= MIN_PICTURES for label in held),
        "pictures": sum(label in held for label in label_of.values()),
        "rejected": of_held,
        "unrelated": len(rejected) - of_held,
        "clusters": len(clustered),
        "purity": right / max(1, inside),
        "found": stands / max(1, of_held),
        **more,
    }
    return Row(**values)  # type: ignore[arg-type]


def _addition(picture: SeenPicture, label: str) -> Addition:
    return Addition(
        image_id=picture.image_id,
        label=label,
        source="",
        embedding=picture.embedding,
        reading=picture.reading,
    )


@contextmanager
def cut_at(cut: str) -> Iterator[None]:
    """Discovers at a constant cut while the block runs, unless it is `placed`."""
    if cut == PLACED:
        yield
        return
    with mock.patch.object(discovery, "place_cut", return_value=float(cut)):
        yield


def table(rows: Sequence[Row]) -> str:
    """One line a set and cut, means over the seeds, as Markdown."""
    lines = [
        "| set | cut | pages held back, in reach, enrolled from clusters "
        "| pictures rejected of these, of others | clusters | purity | found "
        "| presses (dismissals) | rounds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cut_by in dict.fromkeys((row.set, row.cut_by) for row in rows):
        of = [row for row in rows if (row.set, row.cut_by) == (name, cut_by)]

        def mean(field: str, of: Sequence[Row] = of) -> float:
            return fmean(getattr(row, field) for row in of)

        cuts = f"{min(row.cut for row in of):.2f} to {max(row.cut for row in of):.2f}"
        lines.append(
            f"| {name} | {cuts if cut_by == PLACED else cut_by} "
            f"| {mean('pages'):.0f}, {mean('in_reach'):.1f}, {mean('enrolled'):.1f} "
            f"| {mean('rejected'):.0f} of {mean('pictures'):.0f}, {mean('unrelated'):.0f} "
            f"| {mean('clusters'):.1f} | {mean('purity'):.3f} | {mean('found'):.3f} "
            f"| {mean('presses'):.1f} ({mean('dismissals'):.1f}) | {mean('rounds'):.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
