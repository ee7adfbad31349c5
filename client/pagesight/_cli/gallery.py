"""`pagesight gallery …`: what is known, read and changed while the server runs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from pagesight._changes import SetLabelsResult
from pagesight._cli import changes, ids, labels, render, session, wire
from pagesight._cli.brands import suggest_brands
from pagesight._cli.doctor import doctor
from pagesight._cli.enrol import enrol
from pagesight._client import Client
from pagesight._errors import AbortedError

ATTEMPTS = 5
"""How often labels are read and set, where somebody changes the gallery in between."""

app = typer.Typer(
    help="List galleries, teach pages, correct what is known, go back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


app.command()(enrol)
app.command()(doctor)
app.command("suggest-brands")(suggest_brands)


@app.command()
@session.teaching
def remove(
    image_ids: ids.IdsArgument,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Take pictures out of the gallery, all of them or none.

    Example, all pictures of one label:
      pagesight gallery images --label dxm_old --json | jq -r .image_id |
        xargs pagesight gallery remove
    """
    beginnings = ids.checked(image_ids)
    with session.connected(address, retry_for) as client:
        full = ids.in_full(client, beginnings, gallery=gallery)
        result = client.remove(full, **changes.options(gallery, author, expected_revision))
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(f"removed {result.removed}; the gallery is at revision {result.revision}")


@app.command()
@session.teaching
def relabel(
    label: Annotated[str, typer.Argument(help="Their new label.")],
    image_ids: ids.IdsArgument,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Give pictures another label, all of them or none.

    Example:
      pagesight gallery relabel zsyh_amount 3fa9c1d24b07
    """
    beginnings = ids.checked(image_ids)
    with session.connected(address, retry_for) as client:
        change = changes.options(gallery, author, expected_revision)
        full = ids.in_full(client, beginnings, gallery=gallery)
        result = client.relabel(full, label, **change)
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(f"relabelled {result.relabelled}; the gallery is at revision {result.revision}")


@app.command("list")
@session.teaching
def list_(
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """List the galleries: how many pictures and labels, and where `other` begins.

    Example:
      pagesight gallery list
    """
    with session.connected(address, retry_for) as client:
        found = client.list_galleries()
        if as_json:
            for one in found:
                wire.print_line(one)
        else:
            session.output().print(render.galleries(found))


@app.command()
@session.teaching
def show(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The gallery.")] = "default",
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Show one gallery: its size, the bundles that made it, and its calibration.

    Example:
      pagesight gallery show default
    """
    with session.connected(address, retry_for) as client:
        found = client.get_gallery(gallery=name)
    if as_json:
        wire.print_line(found)
    else:
        session.output().print(render.gallery(found))


@app.command()
@session.teaching
def delete(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The gallery.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Delete a gallery. Asks first, unless --yes is given.

    Nothing of it is found any more, until pictures are enrolled under its name. Its history
    stays: whoever deleted it by mistake enrols one picture and then rolls back.

    Example:
      pagesight gallery delete trial --yes
    """
    with session.connected(address, retry_for) as client:
        if not yes:
            found = client.get_gallery(gallery=name)
            what = (
                f"{render.count(found.images, 'picture')} of {render.count(found.labels, 'label')}"
            )
            if not typer.confirm(f"delete gallery {render.shown(name)} with {what}?", err=True):
                session.fail("nothing was deleted")
            if expected_revision is None:  # What is deleted is what was asked about.
                expected_revision = found.revision
        result = client.delete_gallery(
            name, author=author or changes.account(), expected_revision=expected_revision
        )
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(
            f"deleted {name} with {render.count(result.removed, 'picture')}, "
            f"at revision {result.revision}"
        )


@app.command()
@session.teaching
def images(
    *,
    label: Annotated[str, typer.Option(help="Only pictures of this label.")] = "",
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """List the pictures of the gallery.

    Shows id, size, and day and revision of the label; with --json also source,
    author and the number of text lines.

    Example:
      pagesight gallery images --label dxm_user_info
    """
    with session.connected(address, retry_for) as client:
        found = client.list_images(gallery=gallery, label=label)
        if as_json:
            for image in found:
                wire.print_line(image)
            return
        console = session.output()
        for line in render.images(found):
            console.print(line, soft_wrap=True)


@app.command()
@session.teaching
def history(
    *,
    limit: Annotated[int, typer.Option(min=0, help="How many changes; 0 for all.")] = 20,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """List the changes of the gallery, newest first.

    Example:
      pagesight gallery history --limit 5
    """
    with session.connected(address, retry_for) as client:
        found = islice(client.history(gallery=gallery), limit or None)
        if as_json:
            for made in found:
                wire.print_line(made)
        else:
            session.output().print(render.revisions(found))


@app.command()
@session.teaching
def rollback(
    revision: Annotated[int, typer.Argument(min=0, help="0 is the empty gallery.")],
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Go back to an earlier revision.

    Makes a new revision with the pictures and labels of an earlier one. Going
    back is a change like any other, and can be gone back on.

    Example:
      pagesight gallery rollback 12
    """
    with session.connected(address, retry_for) as client:
        result = client.rollback(revision, **changes.options(gallery, author, expected_revision))
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(
            f"restored {result.restored}, removed {result.removed}; "
            f"the gallery is at revision {result.revision}"
        )
        for image_id in result.lost_image_ids:
            session.tell(f"cannot come back: {image_id}")


@app.command("get-labels")
@session.teaching
def get_labels(
    *,
    toml: Annotated[bool, typer.Option("--toml", help="Print what set-labels reads.")] = False,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """Show what is known of each label.

    That is the brands that its page normally shows, and the outputs of the reply.

    Example, to edit them:
      pagesight gallery get-labels --toml > labels.toml
    """
    with session.connected(address, retry_for) as client:
        known = client.get_labels(gallery=gallery)
    if toml:
        wire.print_text(labels.write(known.labels))
    elif as_json:
        for row in known.labels:
            wire.print_line(row)
    else:
        session.output().print(render.labels(known.labels))


@app.command("set-labels")
@session.teaching
def set_labels(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml")],
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Set what is known of the labels that a file names.

    Labels that it does not name stay as they are, and so does what it leaves out of a
    label: `brands = []` clears the brands, no `brands` leaves them alone.

    The file:
      [dyfxj_amount]
      brands  = ["放心借"]            a page of this label normally shows one of these
      outputs = ["dyfxj", "amount"]   business labels of the reply; default: the label
    """
    try:
        sections = labels.read(file)
    except labels.LabelsFileError as error:
        session.fail(str(error))
    with session.connected(address, retry_for) as client:
        result = _set_labels(client, sections, gallery, author, expected_revision)
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(
            f"set {render.count(len(sections), 'label')}; "
            f"the gallery is at revision {result.revision}"
        )


def _set_labels(
    client: Client,
    sections: list[labels.Section],
    gallery: str,
    author: str,
    expected_revision: int | None,
) -> SetLabelsResult:
    """Sets both fields of each label: what the file leaves out, to what is known.

    A call has one mask for all its labels, and a file may say something else of each. Nothing
    that somebody sets meanwhile is overwritten: then it is read again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        known = client.get_labels(gallery=gallery)
        at = known.revision if expected_revision is None else expected_revision
        try:
            return client.set_labels(
                labels.over(sections, known.labels),
                fields=("brands", "outputs"),
                **changes.options(gallery, author, at),
            )
        except AbortedError:
            if expected_revision is not None or attempt == ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")
