"""`pagesight gallery …`: what is known, read and changed while the server runs."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from pagesight._cli import changes, labels, render, session, wire
from pagesight._cli.brands import suggest_brands
from pagesight._cli.doctor import doctor
from pagesight._cli.enrol import enrol

app = typer.Typer(
    help="Teach pages, list and correct what is known, go back.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


app.command()(enrol)
app.command()(doctor)
app.command("suggest-brands")(suggest_brands)

IdsArgument = Annotated[
    list[str],
    typer.Argument(metavar="ID", help="Ids in full, as `pagesight gallery list` prints them."),
]


def _checked(ids: list[str]) -> list[str]:
    for image_id in ids:
        if len(image_id) != 64 or not set(image_id) <= set("0123456789abcdef"):
            raise typer.BadParameter(
                f"{image_id!r} is not an id: 64 characters of 0-9 and a-f, "
                "as `pagesight gallery list` prints them",
                param_hint="ID",
            )
    return ids


@app.command()
@session.teaching
def remove(
    ids: IdsArgument,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = 0,
    as_json: session.JsonOption = False,
) -> None:
    """Take pictures out of the gallery, all of them or none.

    Example, all pictures of one label:
      pagesight gallery list --label dxm_old --json | jq -r .image_id |
        xargs pagesight gallery remove
    """
    with session.connected(address) as client:
        result = client.remove(_checked(ids), **changes.options(gallery, author, expected_revision))
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(f"removed {result.removed}; the gallery is at revision {result.revision}")


@app.command()
@session.teaching
def relabel(
    label: Annotated[str, typer.Argument(help="Their new label.")],
    ids: IdsArgument,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = 0,
    as_json: session.JsonOption = False,
) -> None:
    """Give pictures another label, all of them or none.

    Example:
      pagesight gallery relabel zsyh_amount 3fa9c1d2...
    """
    with session.connected(address) as client:
        change = changes.options(gallery, author, expected_revision)
        result = client.relabel(_checked(ids), label, **change)
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(f"relabelled {result.relabelled}; the gallery is at revision {result.revision}")


@app.command("list")
@session.teaching
def list_(
    *,
    label: Annotated[str, typer.Option(help="Only pictures of this label.")] = "",
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """List the pictures of the gallery.

    Shows id, size, and day and revision of the label; with --json also source,
    author and the number of text lines.

    Example:
      pagesight gallery list --label dxm_user_info
    """
    with session.connected(address) as client:
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
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """List the changes of the gallery, newest first.

    Example:
      pagesight gallery history --limit 5
    """
    with session.connected(address) as client:
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
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = 0,
    as_json: session.JsonOption = False,
) -> None:
    """Go back to an earlier revision.

    Makes a new revision with the pictures and labels of an earlier one. Going
    back is a change like any other, and can be gone back on.

    Example:
      pagesight gallery rollback 12
    """
    with session.connected(address) as client:
        result = client.rollback(revision, **changes.options(gallery, author, expected_revision))
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(
            f"restored {result.restored}, removed {result.removed}; "
            f"the gallery is at revision {result.revision}"
        )
        for image_id in result.lost_image_ids:
            typer.echo(f"cannot come back: {image_id}", err=True)


@app.command("get-labels")
@session.teaching
def get_labels(
    *,
    toml: Annotated[bool, typer.Option("--toml", help="Print what set-labels reads.")] = False,
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    as_json: session.JsonOption = False,
) -> None:
    """Show what is known of each label.

    That is the brands that its page normally shows, and the outputs of the reply.

    Example, to edit them:
      pagesight gallery get-labels --toml > labels.toml
    """
    with session.connected(address) as client:
        known = client.get_labels(gallery=gallery)
    if toml:
        typer.echo(labels.write(known.labels), nl=False)
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
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = 0,
    as_json: session.JsonOption = False,
) -> None:
    """Set what is known of the labels that a file names.

    Labels that it does not name stay as they are.

    The file:
      [dyfxj_amount]
      brands  = ["放心借"]            a page of this label normally shows one of these
      outputs = ["dyfxj", "amount"]   business labels of the reply; default: the label
    """
    try:
        known = labels.read(file)
    except labels.LabelsFileError as error:
        session.fail(str(error))
    with session.connected(address) as client:
        result = client.set_labels(known, **changes.options(gallery, author, expected_revision))
    if as_json:
        wire.print_line(result)
    else:
        typer.echo(
            f"set {render.count(len(known), 'label')}; the gallery is at revision {result.revision}"
        )
