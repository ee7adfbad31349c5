"""`pagesight gallery doctor`: what a person should look at, as text, JSON or a page of pictures."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pagesight._cli import care_page, render_diagnosis, session, wire
from pagesight._client import Client
from pagesight._errors import NotFoundError
from pagesight._results import Diagnosis

THUMBNAIL_PX = 480
"""Longest side of the pictures of a page: text is still to be made out."""

MAX_SHOWN = 15
"""Suspects, groups and labels that are printed; --json and --html have all."""


@session.teaching
def doctor(
    *,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that shows the pictures side by side.")
    ] = None,
    max_images: Annotated[
        int, typer.Option(min=0, help="Pictures to examine.", show_default="2000, the most")
    ] = 0,
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """Find what may be wrong with the gallery.

    Pictures that fit another label better than their own, that are almost the same,
    that would be rejected if they were queries or that could hardly be read; labels
    with too few pictures, and of what look more are wanted; labels that no text
    tells from others. Nothing is changed: correct labels with `relabel`, take
    pictures out with `remove`.

    Example:
      pagesight gallery doctor --html doctor.html
    """
    with session.connected(address, retry_for) as client:
        with session.progress(None, "examining", quiet=as_json) as bar:
            found = client.diagnose(gallery=gallery, max_images=max_images, progress=bar.show)
        if html is not None:
            _write(html, found, client, gallery, quiet=as_json)
    if as_json:
        wire.print_line(found)
        return
    console = session.output()
    for part in render_diagnosis.diagnosis(found, MAX_SHOWN):
        console.print(part, soft_wrap=True)
    if html is not None:
        console.print(f"pictures side by side: {html}", soft_wrap=True)


def _write(path: Path, found: Diagnosis, client: Client, gallery: str, *, quiet: bool) -> None:
    wanted = care_page.pictures(found)
    thumbnails: dict[str, bytes] = {}
    with session.progress(len(wanted), "fetching pictures", quiet=quiet) as bar:
        for image_id in wanted:
            # Not kept, or removed since: the page says so in its place.
            with suppress(NotFoundError):
                thumbnails[image_id] = client.get_image(
                    image_id, gallery=gallery, max_side_px=THUMBNAIL_PX
                )
            bar.step()
    try:
        # It shows screenshots: a new file is its owner's alone.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(care_page.page(found, thumbnails, gallery=gallery))
    except OSError as error:
        session.fail(f"cannot write {path}: {error.strerror}")
    if wanted and not thumbnails:
        session.warn("the server keeps no pictures, so the page shows none")
