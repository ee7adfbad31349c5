"""`pagesight gallery doctor`: what a person should look at, and what is well as it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from pagesight._cli import (
    care_page,
    changes,
    findings,
    render,
    render_diagnosis,
    session,
    wire,
)
from pagesight._client import Client
from pagesight._curation import Diagnosis
from pagesight._errors import NotFoundError

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
    settle: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Say of a finding that all is well: it is listed no more, to anybody, until the "
            "pictures it is about change. May be given several times.",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="With --settle: why, for whoever asks later.")] = "",
    unsettle: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Take that back.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="List what is settled, too.")] = False,
    max_images: Annotated[
        int, typer.Option(min=0, help="Pictures to examine.", show_default="2000, the most")
    ] = 0,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    as_json: session.JsonOption = False,
) -> None:
    """Find what may be wrong with the gallery.

    Pictures that fit another label better than their own, that are almost the same,
    that would be rejected if they were queries or that could hardly be read; labels
    with too few pictures, and of what look more are wanted; labels that no text
    tells from others. Each is a question: look at the pictures first. Nothing is
    changed: correct labels with `relabel`, take pictures out with `remove`, and
    `--settle` what is right as it is.

    --json has all, what is settled too.

    Example:
      pagesight gallery doctor --html doctor.html
      pagesight gallery doctor --settle 3fa9c1d24b0785e6 --note "the new look"
    """
    keys, no_longer = _checked(settle or [], "--settle"), _checked(unsettle or [], "--unsettle")
    if (keys or no_longer) and html is not None:
        raise typer.BadParameter("give it without --settle and --unsettle", param_hint="--html")
    if note and not keys:
        raise typer.BadParameter("is for --settle", param_hint="--note")
    with session.connected(address, retry_for) as client:
        if no_longer:
            _unsettle(client, no_longer, gallery, as_json=as_json)
        if no_longer and not keys:
            return
        with session.progress(None, "examining", quiet=as_json) as bar:
            found = client.diagnose(gallery=gallery, max_images=max_images, progress=bar.show)
        if keys:
            _settle(client, found, keys, gallery, author, note, as_json=as_json)
            return
        to_show = found if show_all else findings.unsettled(found)
        if html is not None:
            _write(html, to_show, client, gallery, quiet=as_json)
    if as_json:
        wire.print_line(found)
        return
    console = session.output()
    for part in render_diagnosis.diagnosis(to_show, MAX_SHOWN, gallery=gallery):
        console.print(part, crop=False)
    before = findings.settled(found)
    if before and not show_all:
        console.print(f"{render.count(before, 'finding')} settled before; --all shows them")
    if html is not None:
        console.print(f"pictures side by side: {render.shown(html)}", soft_wrap=True)


def _checked(keys: Sequence[str], option: str) -> list[str]:
    """Returns keys in lower case, each once."""
    lower = list(dict.fromkeys(key.lower() for key in keys))
    for key in lower:
        if len(key) != findings.KEY_DIGITS or not set(key) <= set("0123456789abcdef"):
            raise typer.BadParameter(
                f"{key!r} is not a key: {findings.KEY_DIGITS} characters of 0-9 and a-f, as "
                "`pagesight gallery doctor` prints them",
                param_hint=option,
            )
    return lower


def _settle(
    client: Client,
    found: Diagnosis,
    keys: Sequence[str],
    gallery: str,
    author: str,
    note: str,
    *,
    as_json: bool,
) -> None:
    by_key = {finding.key: finding for finding in found.findings}
    if missing := [key for key in keys if key not in by_key]:
        session.fail(
            f"nothing was settled: no finding has the key {missing[0]}; what it was about may have "
            "changed: `pagesight gallery doctor` lists the findings"
        )
    result = client.settle_findings(
        [by_key[key] for key in keys],
        gallery=gallery,
        author=author or changes.account(),
        note=note,
    )
    if as_json:
        wire.print_line(result)
        return
    for key in result.keys:
        typer.echo(f"settled {render.shown(key)}: {render.shown(findings.well(by_key[key]))}")


def _unsettle(client: Client, keys: Sequence[str], gallery: str, *, as_json: bool) -> None:
    result = client.unsettle_findings(keys, gallery=gallery)
    if as_json:
        wire.print_line(result)
    else:
        for key in result.keys:
            typer.echo(f"settled no longer: {render.shown(key)}")
    if missing := [key for key in keys if key not in result.keys]:
        session.fail(f"was not settled: {', '.join(missing)}")


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
