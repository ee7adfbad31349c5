"""`pagesight gallery suggest-brands`: names to confirm, as a labels.toml that sets none of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pagesight._cli import labels, render, session, wire
from pagesight._curation import LabelSuggestions


@session.teaching
def suggest_brands(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write the labels.toml to this file, which is not there.")
    ] = None,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """Propose brand names for a person to confirm.

    A brand tells the page of one app from the same page of another. The names are
    mined from the gallery's pictures and set nothing: in the file they are comments.
    Take away the # before those that are right, then set them with `set-labels`.

    Example:
      pagesight gallery suggest-brands --out labels.toml
      pagesight gallery set-labels labels.toml
    """
    with (
        session.connected(address, retry_for) as client,
        session.progress(None, "looking for brands", quiet=as_json) as bar,
    ):
        found = client.suggest_brands(gallery=gallery, progress=bar.show)
    if as_json:
        for row in found:
            wire.print_line(
                label=row.known.label,
                brands=row.known.brands,
                suggestions=row.suggestions,
            )
        return
    text = to_review(found)
    if out is None:
        wire.print_text(text)
        return
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        session.fail(f"{out} is there already: it may hold what was confirmed before")
    except OSError as error:
        session.fail(f"cannot write {out}: {error.strerror}")
    named = sum(bool(row.suggestions) for row in found)
    typer.echo(
        f"{out}: names for {named} of {render.count(len(found), 'label')}; uncomment those that "
        f"are right, then: pagesight gallery set-labels {out}"
    )


def to_review(found: Sequence[LabelSuggestions]) -> str:
    """The text of a labels.toml: what is set stays set, what is suggested is commented out."""
    head = (
        "# Suggested brands. Take away the # before those that a page of the label normally\n"
        "# shows, leave the others; then: pagesight gallery set-labels FILE\n\n"
    )
    return head + "\n".join(map(_section, found))


def _section(row: LabelSuggestions) -> str:
    known = row.known
    lines = [f"[{labels.quoted(known.label)}]  # {render.count(known.images, 'picture')}"]
    lines.append("brands = [")
    lines += [f"  {labels.quoted(brand)}," for brand in known.brands]
    lines += [
        f"  # {labels.quoted(suggestion.text)},  # {render.shown(suggestion.reason)}"
        for suggestion in row.suggestions
        if suggestion.text not in known.brands
    ]
    lines.append("]")
    lines.append(f"outputs = [{', '.join(map(labels.quoted, known.outputs))}]")
    return "\n".join(lines) + "\n"
