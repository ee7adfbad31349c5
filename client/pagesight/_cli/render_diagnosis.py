"""How a diagnosis of a gallery looks to people: what to look at first, then how much is known.

    suspects > near duplicates > rejected > hardly read > no text of their own
             > few pictures > looks wanted > what may be rejected

A label is asked about and not accused: first what to look at, then the command for either answer.
The sentences are those of the page too (`care_page.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from pagesight._cli.findings import (
    Findings,
    gallery_option,
    relabel_command,
    remove_command,
    settle_command,
    who_settled,
)
from pagesight._cli.render import ADVICE, count, plain_table, shown, too_many
from pagesight._curation import (
    Diagnosis,
    GalleryFinding,
    HardlyReadImage,
    ImageLabel,
    LabelHealth,
    Suspect,
)

MAX_IDS = 3
"""Pictures or labels that are named in one cell."""


def diagnosis(found: Diagnosis, limit: int, *, gallery: str) -> Iterator[RenderableType]:
    """Yields what may be wrong with a gallery, the first `limit` of each kind.

    Args:
        found: What the server found, without what is not to be shown.
        limit: Most of each kind.
        gallery: Named in the commands.
    """
    findings = Findings.of(found)
    yield Text(f"revision {found.revision}, {overview(found)}")
    if found.suspects or found.duplicates:
        page = f"pagesight gallery doctor{gallery_option(gallery)} --html doctor.html"
        yield Text(f"look first: `{page}` shows the pictures side by side")
    for one in found.suspects[:limit]:
        yield _question(*about_suspect(one))
        yield _answers(
            ("if it is wrong", relabel_command(one, gallery)),
            ("if it is right", findings.suspect(one)),
            gallery=gallery,
        )
    for group in found.duplicates[:limit]:
        yield _question(*about_group(group))
        one_label = len({image.label for image in group}) == 1
        yield _answers(
            ("if one is enough", remove_command(group, gallery))
            if one_label
            else (
                "if a label is wrong",
                f"pagesight gallery relabel{gallery_option(gallery)} LABEL ID",
            ),
            ("if all are right", findings.group(group)),
            gallery=gallery,
        )
    yield from _rejected(found, findings, limit)
    for read in found.hardly_read[:limit]:
        yield Text.assemble(
            f"hardly read: {shown(read.label)} {shown(read.image_id)[:12]}, {hardly_read(read)}",
            _key(findings.hardly_read(read), "  "),
        )
    without_text = [label for label in found.labels if label.text_shared_with]
    for label in without_text[:limit]:
        yield Text.assemble(
            f"{shown(label.label)} {no_own_text(label)}",
            _key(findings.label("no_own_text", label), "  "),
        )
    few = [label for label in found.labels if label.few]
    if few:
        table = plain_table(
            "label, key", "distinct pictures", "may fit worse than its worst picture"
        )
        for label in few[:limit]:
            table.add_row(
                _label(label, findings.label("few_pictures", label)),
                f"{label.distinct_images} of {label.images}",
                f"up to {label.unseen_bound:.0%} of its screenshots",
            )
        yield Text(f"{count(len(few), 'label')} with few pictures: enrol more", "yellow")
        yield table
    unlike = looks_wanted(found)
    if unlike:
        table = plain_table("label, key", "pictures that no other of it resembles", "cosine")
        for label in unlike[:limit]:
            table.add_row(
                _label(label, findings.label("unlike_pictures", label)),
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
    if any(kinds) and found.findings:
        command = f"pagesight gallery doctor{gallery_option(gallery)} --settle KEY --note WHY"
        yield Text(f"what is well as it is needs saying once: `{command}`")
    if max(map(len, kinds)) > limit:
        yield Text("there is more: --json and --html have it", "dim")


def overview(found: Diagnosis) -> str:
    """Says how much was examined and how many labels and groups are asked about."""
    likely = sum(suspect.likely for suspect in found.suspects)
    return (
        f"{found.examined} of {count(found.images, 'picture')} examined: "
        f"{count(likely, 'label')} in doubt, "
        f"{count(len(found.suspects) - likely, 'odd picture')}, "
        f"{count(len(found.duplicates), 'group')} of near duplicates"
    )


def about_suspect(one: Suspect) -> tuple[str, str]:
    """Asks whether a label is right, and says what speaks against it."""
    question = f"is {shown(one.image_id)[:12]} rightly {shown(one.label)}?"
    margin = one.suggested_score - one.own_score
    evidence = (
        f"Without it {shown(one.suggested_label)} fits better, by {margin:.3f}; "
        f"{one.foreign_neighbours} of its {count(one.neighbours, 'nearest picture')} carry "
        "another label"
    )
    if not one.likely:
        evidence += ": perhaps it is only unlike the others of its label"
    return question, evidence


def about_group(group: Sequence[ImageLabel]) -> tuple[str, str]:
    """Asks whether pictures that are almost the same are all wanted, and names the first."""
    names = ", ".join(f"{shown(image.label)} {shown(image.image_id)[:12]}" for image in group[:4])
    left = f" and {len(group) - 4} more" if len(group) > 4 else ""
    several = len({image.label for image in group}) > 1
    evidence = f"Almost the same{' under several labels' if several else ''}: {names}{left}"
    return f"are these {len(group)} all wanted?", evidence


def _question(question: str, evidence: str) -> Text:
    return Text.assemble((question, "bold"), f" {evidence}")


def _answers(
    acts: tuple[str, str], settles: tuple[str, GalleryFinding | None], *, gallery: str
) -> Group:
    """The two commands that answer a question; of a settled one, who answered it."""
    finding = settles[1]
    width = max(len(acts[0]), len(settles[0]))
    if said := who_settled(finding):
        return Group(Text(f"  {shown(said)} ({shown(finding.key) if finding else ''})", "dim"))
    answers = [acts] if finding is None else [acts, (settles[0], settle_command(finding, gallery))]
    # To be copied, so in one line each, however narrow the terminal.
    return Group(
        *(
            Text(f"  {when:{width}}  {shown(command)}", no_wrap=True, overflow="ignore")
            for when, command in answers
        )
    )


def _key(finding: GalleryFinding | None, before: str) -> Text:
    """The key of a finding, and who settled it."""
    if finding is None:
        return Text()
    said = who_settled(finding)
    return Text(f"{before}{shown(finding.key)}{f' {shown(said)}' if said else ''}", "dim")


def _label(label: LabelHealth, finding: GalleryFinding | None) -> Text:
    return Text.assemble(shown(label.label), _key(finding, "\n"))


def _rejected(found: Diagnosis, findings: Findings, limit: int) -> Iterator[RenderableType]:
    """Yields how many of the gallery's own pictures would be rejected, and of which labels."""
    if not found.left_out_images:
        return
    many = too_many(found.rejected_images / found.left_out_images)
    yield Text(own_rejected(found), "yellow" if many else "")
    labels = rejected_labels(found)
    if labels:
        table = plain_table("label, key", "own pictures rejected", "", "mean score", "least")
        for label in labels[:limit]:
            table.add_row(
                _label(label, findings.label("rejected_pictures", label)),
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
