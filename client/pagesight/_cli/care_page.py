"""What is doubtful in a gallery, as one HTML page with the pictures side by side.

    suspects     its own label's picture | the picture | the other label's picture
    duplicates   all pictures of a group
    rejected     labels whose own pictures would be rejected
    hardly read  pictures whose script OCR may not know
    looks        pictures that no other of their label resembles
    labels       how many pictures, what they score, and what can be said of pages not seen yet

The page needs nothing else: pictures and styles are inside, there are no scripts, and
nothing is fetched. All text is escaped; it comes from folder names and people.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from pagesight._cli import render, render_diagnosis
from pagesight._cli.findings import (
    Findings,
    relabel_command,
    remove_command,
    settle_command,
    who_settled,
)
from pagesight._curation import (
    Diagnosis,
    GalleryFinding,
    ImageLabel,
    LabelHealth,
    Suspect,
)

MAX_SUSPECTS, MAX_GROUPS, MAX_OF_GROUP, MAX_PICTURES = 60, 40, 8, 24
"""Shown at most: a person works through the first and asks again."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #5b6570; --ground: #fff;
  --card: #f5f6f8; --line: #d8dce1; --bad: #b3261e; --good: #1a6b3c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --dim: #9aa4af; --ground: #14171a;
  --card: #1e2327; --line: #343b42; --bad: #ff8a80; --good: #7ad69b } }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 68rem; color: var(--ink);
  background: var(--ground); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
p { margin: .25rem 0; max-width: 46rem } .dim { color: var(--dim) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1rem; margin: 1rem 0 }
.card h3 { font-size: 1rem; margin: 0 0 .25rem; overflow-wrap: anywhere }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin: 1rem 0 }
.cards .card { margin: 0; max-width: 100%; box-sizing: border-box }
.row { display: flex; flex-wrap: wrap; gap: 1rem; margin: .75rem 0 0 }
figure { margin: 0; width: 190px }
figcaption { margin-top: .4rem; font-size: .85rem; overflow-wrap: anywhere }
figcaption b { display: block }
figure img, .none { width: 100%; height: 330px; object-fit: cover; object-position: top;
  border: 1px solid var(--line); border-radius: 6px; box-sizing: border-box; display: block }
.this img { outline: 3px solid var(--bad); outline-offset: 1px }
.none { display: flex; align-items: center; justify-content: center; color: var(--dim) }
.bad { color: var(--bad) } .good { color: var(--good) }
.answers { margin-top: .75rem }
code { font: 12px/1.6 ui-monospace, monospace; overflow-wrap: anywhere; display: block;
  margin: .15rem 0 .5rem; padding: .4rem .6rem; border: 1px solid var(--line); border-radius: 6px }
code.inline { display: inline; padding: 0 .3rem; margin: 0 }
table { border-collapse: collapse } td, th { padding: .2rem 1.2rem .2rem 0; text-align: right;
  border-bottom: 1px solid var(--line) } td:first-child, th:first-child { text-align: left;
  overflow-wrap: anywhere } th { font-weight: 600; vertical-align: bottom; white-space: nowrap }
.wide { overflow-x: auto } .wide td:first-child { min-width: 11rem }
td.note { text-align: left; min-width: 16rem }
@media (max-width: 640px) { .row { gap: .5rem } figure { width: calc((100% - 1rem) / 3) }
  figure img, .none { height: 200px } }
"""

_BAD = ' class="bad"'


def pictures(found: Diagnosis) -> list[str]:
    """The ids of the pictures that the page shows, each once."""
    ids: list[str] = []
    for suspect in found.suspects[:MAX_SUSPECTS]:
        ids += [suspect.image_id, suspect.suggested_image_id, suspect.own_image_id]
    for group in found.duplicates[:MAX_GROUPS]:
        ids += [image.image_id for image in group[:MAX_OF_GROUP]]
    for label in render_diagnosis.rejected_labels(found)[:MAX_PICTURES]:
        ids += label.rejected_image_ids[:MAX_OF_GROUP]
    ids += [image.image_id for image in found.hardly_read[:MAX_PICTURES]]
    for label in render_diagnosis.looks_wanted(found)[:MAX_PICTURES]:
        ids += label.unlike_image_ids[:MAX_OF_GROUP]
    return [image_id for image_id in dict.fromkeys(ids) if image_id]


def page(found: Diagnosis, thumbnails: Mapping[str, bytes], *, gallery: str) -> str:
    """Returns the whole page, as HTML.

    Args:
        found: What the server found.
        thumbnails: Encoded pictures by id; those that are missing are told as missing.
        gallery: Named in the heading and in the commands.
    """
    findings = Findings.of(found)
    few = sum(label.few for label in found.labels)
    parts = [
        f"<h1>Gallery {escape(gallery)}, revision {found.revision}</h1>",
        f'<p class="dim">{escape(render_diagnosis.overview(found))}, '
        f"{render.count(few, 'label')} with few pictures, "
        f"{render.count(len(found.hardly_read), 'picture')} hardly read.</p>",
        "<h2>Labels to look at</h2>",
        "<p>Each picture as if it were a query and not enrolled: another label fits it better "
        "than its own. One in doubt would be answered with that label; an odd one is perhaps only "
        "unlike the other pictures of its label. Look at the three before either command: many a "
        "label here is right, and is not asked about again once that is said.</p>",
        *(_suspect(one, thumbnails, findings, gallery) for one in found.suspects[:MAX_SUSPECTS]),
        _left(len(found.suspects), MAX_SUSPECTS, "none"),
        "<h2>Almost the same</h2>",
        "<p>They teach nothing new and make the gallery look surer of itself than it is: one of "
        "each group is enough.</p>",
        *(_group(group, thumbnails, findings, gallery) for group in found.duplicates[:MAX_GROUPS]),
        _left(len(found.duplicates), MAX_GROUPS, "none"),
        "<h2>Own pictures that would be rejected</h2>",
        *_rejected(found, thumbnails, findings, gallery),
        "<h2>Hardly read</h2>",
        "<p>Text was found in them and read with little confidence: the OCR bundle may not know "
        "the script. What it reads of such pages says little; their looks must tell them.</p>",
        _hardly_read(found, thumbnails, findings),
        "<h2>Looks of which more are wanted</h2>",
        "<p>No other picture of the label resembles these: its screenshots that look like them "
        "are the likeliest to be rejected. Enrol more of them, or take a wrong one out.</p>",
        _cards(
            _looks(label, thumbnails, findings, gallery)
            for label in render_diagnosis.looks_wanted(found)[:MAX_PICTURES]
        ),
        _left(len(render_diagnosis.looks_wanted(found)), MAX_PICTURES, "none"),
        "<h2>How much each label's pictures say</h2>",
        f"<p>{_with_commands(render_diagnosis.rejection(found))}</p>",
        _labels(found.labels, findings),
    ]
    title = escape(f"pagesight gallery doctor: {gallery}")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _suspect(
    one: Suspect, thumbnails: Mapping[str, bytes], findings: Findings, gallery: str
) -> str:
    sure = '<span class="bad">in doubt</span>' if one.likely else "odd"
    return (
        f'<div class="card"><h3>Is it rightly {escape(one.label)}, or '
        f"{escape(one.suggested_label)}? {sure}</h3>"
        f'<p class="dim">fits {escape(one.suggested_label)} {one.suggested_score:.3f}, its own '
        f"label {one.own_score:.3f}; {one.foreign_neighbours} of {one.neighbours} nearest "
        'pictures carry another label</p><div class="row">'
        + _figure(one.own_image_id, one.label, "closest of its own label", thumbnails)
        + _figure(one.image_id, one.label, "the picture in question", thumbnails, "this")
        + _figure(one.suggested_image_id, one.suggested_label, "closest of the other", thumbnails)
        + "</div>"
        + _answers(
            "If it is wrong:",
            relabel_command(one, gallery),
            "If it is right:",
            findings.suspect(one),
            gallery,
        )
        + "</div>"
    )


def _group(
    group: tuple[ImageLabel, ...],
    thumbnails: Mapping[str, bytes],
    findings: Findings,
    gallery: str,
) -> str:
    labels = list(dict.fromkeys(image.label for image in group))
    mixed = ' <span class="bad">under several labels</span>' if len(labels) > 1 else ""
    shown = "".join(
        _figure(image.image_id, image.label, image.image_id[:12], thumbnails)
        for image in group[:MAX_OF_GROUP]
    )
    one_is_enough = remove_command(group, gallery) if len(labels) == 1 else ""
    return (
        f'<div class="card"><h3>{escape(", ".join(labels))}: are these {len(group)} all wanted?'
        f"{mixed}</h3>"
        f'<div class="row">{shown}</div>{_left(len(group), MAX_OF_GROUP, "")}'
        + _answers(
            "If one is enough:", one_is_enough, "If all are right:", findings.group(group), gallery
        )
        + "</div>"
    )


def _answers(
    if_wrong: str, act: str, if_right: str, finding: GalleryFinding | None, gallery: str
) -> str:
    """The two commands that answer a question; of a settled one, who answered it."""
    if said := who_settled(finding):
        return f'<p class="good">{escape(said)}</p>'
    parts = [f"<p>{if_wrong}</p><code>{escape(act)}</code>"] if act else []
    if finding is not None:
        parts.append(f"<p>{if_right}</p><code>{escape(settle_command(finding, gallery))}</code>")
    return f'<div class="answers">{"".join(parts)}</div>' if parts else ""


def _rejected(
    found: Diagnosis, thumbnails: Mapping[str, bytes], findings: Findings, gallery: str
) -> list[str]:
    if not found.left_out_images:
        return ["<p>No picture could be left out: each is the only one of its label.</p>"]
    many = render.too_many(found.rejected_images / found.left_out_images)
    labels = render_diagnosis.rejected_labels(found)
    return [
        f"<p{_BAD if many else ''}>{_with_commands(render_diagnosis.own_rejected(found))}.</p>",
        _cards(
            _card(
                label.label,
                f"{len(label.rejected_image_ids)} of {label.left_out_images} rejected, mean score "
                f"{label.mean_score:.3f}, least {label.least_score:.3f}",
                label.rejected_image_ids,
                thumbnails,
                _settling(findings.label("rejected_pictures", label), gallery),
            )
            for label in labels[:MAX_PICTURES]
        ),
        _left(len(labels), MAX_PICTURES, ""),
    ]


def _hardly_read(found: Diagnosis, thumbnails: Mapping[str, bytes], findings: Findings) -> str:
    figures = "".join(
        _figure(
            image.image_id,
            image.label,
            f"{image.hardly_read_lines} of {image.text_lines} lines, {image.image_id[:12]}"
            + _key(findings.hardly_read(image)),
            thumbnails,
        )
        for image in found.hardly_read[:MAX_PICTURES]
    )
    return f'<div class="row">{figures}</div>' + _left(len(found.hardly_read), MAX_PICTURES, "none")


def _looks(
    label: LabelHealth, thumbnails: Mapping[str, bytes], findings: Findings, gallery: str
) -> str:
    note = f"least alike: cosine {label.least_looks:.3f} with any other of {label.images} pictures"
    settling = _settling(findings.label("unlike_pictures", label), gallery)
    return _card(label.label, note, label.unlike_image_ids, thumbnails, settling)


def _with_commands(sentence: str) -> str:
    """A sentence of the terminal's, with the commands that it has in backticks as code."""
    parts = escape(sentence).split("`")
    return "".join(
        f'<code class="inline">{part}</code>' if at % 2 else part for at, part in enumerate(parts)
    )


def _cards(cards: Iterable[str]) -> str:
    return f'<div class="cards">{"".join(cards)}</div>'


def _card(
    label: str,
    note: str,
    image_ids: Sequence[str],
    thumbnails: Mapping[str, bytes],
    settling: str,
) -> str:
    figures = "".join(
        _figure(image_id, label, image_id[:12], thumbnails) for image_id in image_ids[:MAX_OF_GROUP]
    )
    return (
        f'<div class="card"><h3>{escape(label)}</h3><p class="dim">{escape(note)}</p>'
        f'<div class="row">{figures}</div>{_left(len(image_ids), MAX_OF_GROUP, "")}{settling}</div>'
    )


def _settling(finding: GalleryFinding | None, gallery: str) -> str:
    """The command that says that a label is well as it is."""
    return _answers("", "", "If it is well as it is:", finding, gallery)


def _key(finding: GalleryFinding | None) -> str:
    """The key of a finding, or who settled it, behind other words."""
    return "" if finding is None else f"; {who_settled(finding) or f'key {finding.key}'}"


def _figure(
    image_id: str, label: str, what: str, thumbnails: Mapping[str, bytes], kind: str = ""
) -> str:
    data = thumbnails.get(image_id)
    if data is None:
        inside = f'<div class="none">{"not kept" if image_id else "none is near"}</div>'
    else:
        address = f"data:{_type(data)};base64,{base64.b64encode(data).decode('ascii')}"
        inside = f'<img src="{address}" alt="{escape(what, quote=True)}">'
    return (
        f'<figure class="{kind}">{inside}<figcaption><b>{escape(label)}</b>'
        f'<span class="dim">{escape(what)}</span></figcaption></figure>'
    )


def _type(data: bytes) -> str:
    if data.startswith(b"\x89PNG"):
        return "image/png"
    return "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"


def _labels(labels: tuple[LabelHealth, ...], findings: Findings) -> str:
    rows = "".join(
        f"<tr><td>{escape(label.label)}<td>{label.images}<td>{label.distinct_images}"
        f"<td>{label.unseen_bound:.0%}{_own(label)}"
        f'<td class="note">{_notes(label, findings)}'
        for label in labels
    )
    return (
        '<div class="wide"><table><tr><th>label<th>pictures<th>distinct<th>may fit worse than<br>'
        "its worst picture<th>own pictures<br>rejected<th>mean<br>score<th>least<th>least alike<br>"
        f"looks<th></tr>{rows}</table></div>"
    )


def _own(label: LabelHealth) -> str:
    if not label.left_out_images:
        return "<td>–<td>–<td>–<td>–"
    share = f"{len(label.rejected_image_ids)} of {label.left_out_images}"
    bad = _BAD if label.rejected_image_ids else ""
    return (
        f"<td{bad}>{share}<td>{label.mean_score:.3f}<td>{label.least_score:.3f}"
        f"<td>{label.least_looks:.3f}"
    )


def _notes(label: LabelHealth, findings: Findings) -> str:
    notes = []
    if label.few:
        key = _key(findings.label("few_pictures", label))
        notes.append(f'<span{_BAD}>enrol more</span><span class="dim">{escape(key)}</span>')
    if label.text_shared_with:
        key = _key(findings.label("no_own_text", label))
        told = escape(render_diagnosis.no_own_text(label))
        notes.append(f'{told}<span class="dim">{escape(key)}</span>')
    return "<br>".join(notes)


def _left(found: int, shown: int, nothing: str) -> str:
    if found > shown:
        return f'<p class="dim">and {found - shown} more</p>'
    return "" if found or not nothing else f'<p class="good">{nothing}</p>'
