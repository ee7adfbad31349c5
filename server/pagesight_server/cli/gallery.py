"""The `pagesight-server gallery` commands: what an operator does with a store, beside serving it.

check    backup    restore    purge    reindex

All but `restore` onto a damaged file may run while servers serve the store.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pagesight_server import wiring
from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    StoreOption,
    err,
    out,
    progress,
    settings_of,
    user,
)
from pagesight_server.common.errors import SetupError
from pagesight_server.config import Config
from pagesight_server.gallery import backup as backups
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.workflows.knowledge import load_knowledge
from pagesight_server.workflows.reindexing import ReindexReport, reindex_gallery

app = typer.Typer(
    help="Check, back up, restore, purge and reindex a store, also while it is served.",
    no_args_is_help=True,
)


def _tell(as_json: bool, body: dict[str, object], line: str) -> None:
    if as_json:
        typer.echo(json.dumps(body, ensure_ascii=False))
    else:
        out.print(escape(line), soft_wrap=True)


@app.command()
def check(
    store: StoreOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Verify pages, references, hashes, embeddings, texts and history. Exit code 1 with findings.

    Reads the whole store.

    Example: pagesight-server gallery check --store gallery.db
    """
    path = settings_of(config, store=store, bundles=None).store
    with wiring.opened(path, must_exist=True) as opened:
        findings = backups.check(opened)
        revisions = opened.revisions()
    if as_json:
        typer.echo(json.dumps({"galleries": revisions, "findings": findings}, ensure_ascii=False))
    else:
        for finding in findings:
            err.print(escape(finding), soft_wrap=True)
        if not findings:
            told = ", ".join(f"{name} at revision {at}" for name, at in revisions.items())
            out.print(escape(f"{path} is sound: {told or 'no gallery yet'}"), soft_wrap=True)
    if findings:
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="With --keep: a folder.")],
    store: StoreOption = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="FILE is a folder; keep so many backups in it, managed."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a store into one file while it is served, and check the copy.

    Managed backups (--keep) are known to the store: the oldest go, and `purge` reaches them.
    Whoever copies a backup elsewhere must purge there as well.

    Example: pagesight-server gallery backup backups/ --keep 7 --store gallery.db
    """
    path = settings_of(config, store=store, bundles=None).store
    with wiring.opened(path, must_exist=True) as opened:
        if keep is None:
            backups.backup(opened, file)
        else:
            file = backups.backup_into(opened, file, keep=keep)
    body: dict[str, object] = {"file": str(file), "bytes": file.stat().st_size}
    _tell(as_json, body, f"backed up {path} to {file}, {file.stat().st_size:,} bytes, checked")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a store that exists.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of a store: checked before, whole or not at all.

    Pictures that the store has purged since stay purged. Every gallery gets a revision
    above all that were seen, so running servers follow.

    Example: pagesight-server gallery restore backups/monday.db --store gallery.db --force
    """
    path = settings_of(config, store=store, bundles=None).store
    again = backups.restore(file, path, author=user(), force=force)
    line = f"restored {path} from {file}"
    if again:
        line += f"; {len(again)} pictures that were purged since stay purged"
    _tell(as_json, {"store": str(path), "purged_again": again}, line)


@app.command()
def purge(
    image_ids: Annotated[
        list[str] | None, typer.Argument(metavar="IMAGE_ID...", help="As `gallery images` shows.")
    ] = None,
    store: StoreOption = None,
    expired: Annotated[
        bool,
        typer.Option("--expired", help="Forget what was removed gallery.keep_removed_days ago."),
    ] = False,
    forget_missing: Annotated[
        bool, typer.Option("--forget-missing", help="Managed backups that are gone were deleted.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete pictures for ever, from every gallery, revision and managed backup.

    The history keeps revision, time, who and content hash. The file is rewritten, which
    takes room for a second copy. A purged picture can never be enrolled in this store again.

    With --expired: forget bytes, embedding and text of pictures that were removed long ago, and
    of those that were never enrolled. Their place in the history stays.

    Example: pagesight-server gallery purge 5f0c... --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=None)
    if bool(image_ids) == expired:
        raise SetupError("name the pictures to purge, or say --expired")
    with wiring.opened(settings.store, must_exist=True) as opened:
        if image_ids:
            revisions, files = backups.purge(
                opened, image_ids, author=user(), forget_missing=forget_missing
            )
            body: dict[str, object] = {"revisions": revisions, "backups": list(map(str, files))}
            where = ", ".join(f"{name} is at revision {at}" for name, at in revisions.items())
            line = f"purged {len(set(image_ids))} pictures, also from {len(files)} backups"
            _tell(as_json, body, f"{line}; {where}" if where else line)
            return
        days = settings.gallery.keep_removed_days
        done = opened.expire(days)
    told = f"removed more than {days} days ago" if days else "removed (gallery.keep_removed_days=0)"
    _tell(
        as_json,
        {"removed": done.removed, "unused": done.unused},
        f"forgot {done.removed} pictures {told} and {done.unused} that were never enrolled",
    )


@app.command()
def reindex(
    bundles: BundlesOption = None,
    store: StoreOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Compute everything, but do not switch yet.")
    ] = False,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Leave pictures without originals behind.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a gallery to other bundles: see and read every kept original, then switch at once.

    Servers go on with the old bundles meanwhile; a run that was stopped goes on where it
    was. After the switch a server of the old bundles answers FAILED_PRECONDITION until it is
    started with the new ones: docs/operations.md says how to do that without a gap.

    Example: pagesight-server gallery reindex --bundles new-bundles --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=bundles)
    report = asyncio.run(
        _reindex(settings, gallery, prepare=prepare, drop_missing=drop_missing, quiet=as_json)
    )
    if as_json:
        missing = [{"image_id": i, "reason": reason} for i, reason in report.missing]
        body = {"revision": report.revision, "computed": report.computed}
        typer.echo(json.dumps(body | {"switched": report.switched, "missing": missing}))
    else:
        for image_id, reason in report.missing:
            err.print(f"[yellow]cannot move[/] {image_id}: {escape(reason)}", soft_wrap=True)
        state = "is ready to switch" if prepare else f"is at revision {report.revision}"
        out.print(f"gallery {escape(gallery)} {state}: {report.computed} pictures computed")
    if report.missing and not prepare and not report.switched:
        raise SetupError(
            f"gallery {gallery!r} was not switched: {len(report.missing)} pictures cannot move. "
            "Enrol them again from their files, or leave them behind with --drop-missing"
        )


async def _reindex(
    config: Config, gallery: str, *, prepare: bool, drop_missing: bool, quiet: bool
) -> ReindexReport:
    with wiring.opened(config.store, must_exist=True) as store, progress("reindexing") as bar:
        async with wiring.models(config) as models:
            task = bar.add_task("", total=None, visible=not quiet)
            report = await reindex_gallery(
                store,
                gallery,
                models.bundles,
                models.pipeline(models.registry(store).get).extract_features,
                author=user(),
                concurrency=models.readers,
                switch=not prepare,
                drop_missing=drop_missing,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
            if report.switched:
                # Leaves the calibration of this revision in the store.
                load_knowledge(
                    store, gallery, config.recognition.method, config.recognition.epsilon
                )
            return report
