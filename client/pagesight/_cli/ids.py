"""Ids of pictures as people type them: in full, or their first characters where that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pagesight._cli import session
from pagesight._client import Client

FULL = 64
"""Hexadecimal digits of a SHA-256."""

SHORT = 12
"""Digits that `pagesight gallery doctor` prints. Among a million pictures two share their first
twelve once in 500 galleries; fewer digits are too easily another picture's."""

IdsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="ID",
        help=f"Ids as the commands print them; the first {SHORT} characters or more are enough "
        "where no other picture begins with them.",
    ),
]


def checked(ids: Sequence[str]) -> list[str]:
    """Returns what may be ids, in lower case.

    Raises:
        typer.BadParameter: One of them can be none.
    """
    lower = [image_id.lower() for image_id in ids]
    for given, image_id in zip(ids, lower, strict=True):
        if not SHORT <= len(image_id) <= FULL or not set(image_id) <= set("0123456789abcdef"):
            raise typer.BadParameter(
                f"{given!r} is not an id: {SHORT} to {FULL} characters of 0-9 and a-f, "
                "as `pagesight gallery images` prints them",
                param_hint="ID",
            )
    return lower


def in_full(client: Client, ids: Sequence[str], *, gallery: str) -> list[str]:
    """Returns the ids in full, looking for those that are not among a gallery's pictures.

    Ends the command where an id stands for no picture or for several.
    """
    short = {image_id for image_id in ids if len(image_id) < FULL}
    if not short:
        return list(ids)
    matches: dict[str, list[str]] = {image_id: [] for image_id in short}
    lengths = sorted({len(image_id) for image_id in short})
    for image in client.list_images(gallery=gallery, page_size=1_000):
        for length in lengths:
            if (beginning := image.image_id[:length]) in matches:
                matches[beginning].append(image.image_id)
    for image_id, found in matches.items():
        if not found:
            session.fail(f"the gallery has no picture whose id begins with {image_id}")
        if len(found) > 1:
            session.fail(f"{image_id} is short for several pictures: {', '.join(found[:5])}")
    return [matches[image_id][0] if image_id in short else image_id for image_id in ids]
