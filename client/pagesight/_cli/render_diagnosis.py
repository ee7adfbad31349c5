"""How a diagnosis of a gallery looks to people: what to look at first, then how much is known.

    suspects > near duplicates > rejected > hardly read > no text of their own
             > few pictures > looks wanted > what may be rejected

The sentences are those of the page too (`care_page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from pagesight._cli.render import ADVICE, count, plain_table, shown, too_many
from pagesight._curation import (
    Diagnosis,
    HardlyReadImage,
    LabelHealth,
)

MAX_IDS = 3
"""Pictures or labels that are named in one cell."""


def diagnosis(found: Diagnosis, limit: int) -> Iterator[RenderableType]:
    """Yields what may be wrong with a gallery, the first `limit` of each kind."""
    likely = sum(suspect.likely for suspect in found.suspects)
    yield Text(
        f"revision {found.revision}, {found.examined} of {count(found.images, 'picture')} "
        f"examined: {likely} likely wrong labels, {len(found.suspects) - likely} odd ones, "
        f"{count(len(found.duplicates), 'group')} of near duplicates"
    )
    if found.suspects:
        table = plain_table(
            "picture", "label, and the one that fits better", "by", "neighbours", ""
        )
        table.columns[0].no_wrap = True
        for one in found.suspects[:limit]:
            table.add_row(
                Text(shown(one.image_id)[:12]),
                Text(f"{shown(one.label)}\n{shown(one.suggested_label)}"),
                f"{one.suggested_score - one.own_score:.3f}",
                f"{one.foreign_neighbours} of {one.neighbours} foreign",
                Text("likely wrong", "red") if one.likely else Text("odd", "dim"),
            )
        yield table
    for group in found.duplicates[:limit]:
        names = dict.fromkeys(image.label for image in group)
        yield Text.assemble(
            "almost the same: ",
            ", ".join(f"{shown(image.label)} {image.image_id[:12]}" for image in group[:4]),
            ("  under several labels", "red") if len(names) > 1 else "",
        )
    yield from _rejected(found, limit)
    for read in found.hardly_read[:limit]:
        yield Text.assemble(
            "hardly read: ",
            f"{shown(read.label)} {shown(read.image_id)[:12]}, {hardly_read(read)}",
        )
    without_text = [label for label in found.labels if label.text_shared_with]
    for label in without_text[:limit]:
        yield Text(f"{shown(label.label)} {no_own_text(label)}")
    few = [label for label in found.labels if label.few]
    if few:
        table = plain_table("label", "distinct pictures", "may fit worse than its worst picture")
        for label in few[:limit]:
            table.add_row(
                Text(shown(label.label)),
                f"{label.distinct_images} of {label.images}",
                f"up to {label.unseen_bound:.0%} of its screenshots",
            )
        yield Text(f"{count(len(few), 'label')} with few pictures: enrol more", "yellow")
        yield table
    unlike = looks_wanted(found)
    if unlike:
        table = plain_table("label", "pictures that no other of it resembles", "cosine")
        for label in unlike[:limit]:
            table.add_row(
                Text(shown(label.label)),
                Text(first_ids(label.unlike_image_ids)),
                f"{label.least_looks:.3f}",
            )
        yield Text("more pictures that look like these help most", "yellow")
        yield table
    yield Text(rejection(found))
    kinds: tuple[Sequence[object], ...] = (
        found.suspects,
        found.duplicates,
        few,
        unlike,
        rejected_labels(found),
        found.hardly_read,
        without_text,
    )
    if max(map(len, kinds)) > limit:
        yield Text("there is more: --json and --html have it", "dim")


def _rejected(found: Diagnosis, limit: int) -> Iterator[RenderableType]:
    """Yields how many of the gallery's own pictures would be rejected, and of which labels."""
    if not found.left_out_images:
        return
    many = too_many(found.rejected_images / found.left_out_images)
    yield Text(own_rejected(found), "yellow" if many else "")
    labels = rejected_labels(found)
    if labels:
        table = plain_table("label", "own pictures rejected", "", "mean score", "least")
        for label in labels[:limit]:
            table.add_row(
                Text(shown(label.label)),
                f"{len(label.rejected_image_ids)} of {label.left_out_images}",
                Text(first_ids(label.rejected_image_ids)),
                f"{label.mean_score:.3f}",
                f"{label.least_score:.3f}",
            )
        yield table


def own_rejected(found: Diagnosis) -> str:
    """Says how many of the gallery's own pictures would be rejected, and what to do if many."""
    share = found.rejected_images / max(1, found.left_out_images)
    told = (
        f"{found.rejected_images} of {count(found.left_out_images, 'picture')}, each left out in "
        f"turn, would be rejected ({share:.0%})"
    )
    return f"{told}; {ADVICE}" if too_many(share) else told


def rejected_labels(found: Diagnosis) -> list[LabelHealth]:
    """Labels of which own pictures would be rejected, those with most of them first."""
    labels = [label for label in found.labels if label.rejected_image_ids]
    return sorted(labels, key=lambda label: (-len(label.rejected_image_ids), label.label))


def looks_wanted(found: Diagnosis) -> list[LabelHealth]:
    """Labels with a picture that no other of them resembles, the least alike first."""
    labels = [label for label in found.labels if label.unlike_image_ids]
    return sorted(labels, key=lambda label: (label.least_looks, label.label))


def first_ids(image_ids: Sequence[str]) -> str:
    """Names the first of some pictures."""
    names = [shown(image_id)[:12] for image_id in image_ids[:MAX_IDS]]
    left = len(image_ids) - len(names)
    return ", ".join(names) + (f" and {left} more" if left else "")


def hardly_read(image: HardlyReadImage) -> str:
    """Says how much of a picture was hardly read."""
    return (
        f"{image.hardly_read_lines} of {image.text_lines} lines were hardly read: the OCR bundle "
        "may not know the script"
    )


def no_own_text(label: LabelHealth) -> str:
    """Says with which labels a label shares all of its text."""
    names = [shown(name) for name in label.text_shared_with[:MAX_IDS]]
    left = len(label.text_shared_with) - len(names)
    return (
        "has no text of its own: all that it always shows also stands on "
        f"{', '.join(names)}{f' and {left} more' if left else ''}"
    )


def rejection(found: Diagnosis) -> str:
    """Says how many known pages may be rejected."""
    if found.rejection_bound >= 1:
        return (
            "How many known pages are rejected cannot be told from so few pictures of each: "
            "measure it with `pagesight-server evaluate`."
        )
    return (
        f"Of all known pages at most {found.rejection_bound:.0%} are rejected (95 % confidence), "
        "where traffic looks like the gallery."
    )
