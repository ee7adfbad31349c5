"""The `pagesight-server gallery` commands: maintenance of a store.

    check    backup    restore    purge    reindex

All but `restore` onto a damaged file may run while servers use the store.
"""

from __future__ import annotations

import asyncio
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
    print_json,
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
    help="Check, back up, restore, purge and reindex a store, also while servers use it.",
    no_args_is_help=True,
)


def _print_result(as_json: bool, body: dict[str, object], line: str) -> None:
    """Prints the JSON body, or the line for people."""
    if as_json:
        print_json(body)
    else:
        out.print(escape(line), soft_wrap=True)


@app.command()
def check(
    store: StoreOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Verify pages, references, hashes, embeddings, texts and history of a store.

    Reads the whole store. Exit code 1 when anything is wrong.

    Example: pagesight-server gallery check --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=None)
    with wiring.opened(settings, must_exist=True) as opened:
        findings = backups.check(opened)
        revisions = opened.revisions()
    if as_json:
        print_json({"galleries": revisions, "findings": findings})
    else:
        for finding in findings:
            err.print(escape(finding), soft_wrap=True)
        if not findings:
            galleries = ", ".join(f"{name} at revision {at}" for name, at in revisions.items())
            out.print(
                escape(f"{settings.store} is sound: {galleries or 'no gallery yet'}"),
                soft_wrap=True,
            )
    if findings:
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The copy; with --keep, a folder of copies.")
    ],
    store: StoreOption = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Manage a folder of backups: keep this many, the newest."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a store into one file while servers use it, and check the copy.

    The store keeps track of managed backups (--keep): the oldest are deleted, and `purge`
    rewrites the others. Copies that you make elsewhere you must purge yourself.

    Example: pagesight-server gallery backup backups/ --keep 7 --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=None)
    path = settings.store
    with wiring.opened(settings, must_exist=True) as opened:
        if keep is None:
            backups.backup(opened, file)
        else:
            file = backups.backup_into(opened, file, keep=keep)
    body: dict[str, object] = {"file": str(file), "bytes": file.stat().st_size}
    _print_result(
        as_json, body, f"backed up {path} to {file}, {file.stat().st_size:,} bytes, checked"
    )


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    store: StoreOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing store.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Replace a store by a backup, after checking it; atomic.

    Pictures that were purged after the backup stay purged. Every gallery gets a revision higher
    than any before, so that running servers load it.

    Example: pagesight-server gallery restore backups/monday.db --store gallery.db --force
    """
    path = settings_of(config, store=store, bundles=None).store
    if not isinstance(path, Path):
        raise backups.refuse_database(path)
    purged_again = backups.restore(file, path, author=user(), force=force)
    line = f"restored {path} from {file}"
    if purged_again:
        line += f"; {len(purged_again)} pictures that were purged after the backup stay purged"
    _print_result(as_json, {"store": str(path), "purged_again": purged_again}, line)


@app.command()
def purge(
    image_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE_ID...",
            help="Ids, as `pagesight gallery images` shows them, or their first 12 characters.",
        ),
    ] = None,
    store: StoreOption = None,
    expired: Annotated[
        bool,
        typer.Option(
            "--expired", help="Delete what was removed more than gallery.keep_removed_days ago."
        ),
    ] = False,
    forget_missing: Annotated[
        bool,
        typer.Option(
            "--forget-missing", help="Go on without managed backups whose files are missing."
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete pictures for ever, from every gallery, revision and managed backup.

    The history keeps revision, time, author and content hash. The file is rewritten, which needs
    disk space for a second copy. A purged picture can never be enrolled in this store again.

    With --expired: delete bytes, embedding and text of pictures that were removed from their
    galleries longer ago than the retention, and of those that were never enrolled. Their entries
    in the history stay.

    Example: pagesight-server gallery purge 5f0c... --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=None)
    if bool(image_ids) == expired:
        raise SetupError("give either ids of pictures to purge, or --expired")
    with wiring.opened(settings, must_exist=True) as opened:
        if image_ids:
            image_ids = opened.full_ids(image_ids)
            revisions, files = backups.purge(
                opened, image_ids, author=user(), forget_missing=forget_missing
            )
            body: dict[str, object] = {"revisions": revisions, "backups": list(map(str, files))}
            galleries = ", ".join(f"{name} is at revision {at}" for name, at in revisions.items())
            line = f"purged {len(set(image_ids))} pictures, also from {len(files)} backups"
            _print_result(as_json, body, f"{line}; {galleries}" if galleries else line)
            return
        days = settings.gallery.keep_removed_days
        deleted = opened.expire(days)
    line = f"deleted {deleted.unused} pictures that were never enrolled"
    if days:
        line += f", and {deleted.removed} that were removed more than {days} days ago"
    else:
        line += "; all removed pictures are kept (gallery.keep_removed_days = 0)"
    _print_result(as_json, {"removed": deleted.removed, "unused": deleted.unused}, line)


@app.command()
def reindex(
    bundles: BundlesOption = None,
    store: StoreOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Compute everything, but do not switch yet.")
    ] = False,
    drop_missing: Annotated[
        bool,
        typer.Option("--drop-missing", help="Remove pictures whose originals are not stored."),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Migrate a gallery to other bundles: recompute every embedding and text, then switch.

    It works on the stored originals. Meanwhile servers continue with the old bundles, and an
    interrupted run resumes where it stopped. After the switch, which is atomic, a server with the
    old bundles answers FAILED_PRECONDITION until it is restarted with the new ones:
    docs/operations.md says how to do that without downtime.

    Example: pagesight-server gallery reindex --bundles new-bundles --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=bundles)
    report = asyncio.run(
        _reindex(settings, gallery, prepare=prepare, drop_missing=drop_missing, quiet=as_json)
    )
    if as_json:
        missing = [{"image_id": i, "reason": reason} for i, reason in report.missing]
        body = {"revision": report.revision, "computed": report.computed}
        print_json(body | {"switched": report.switched, "missing": missing})
    else:
        for image_id, reason in report.missing:
            err.print(f"[yellow]cannot migrate[/] {image_id}: {escape(reason)}", soft_wrap=True)
        state = "is ready to switch" if prepare else f"is at revision {report.revision}"
        out.print(f"gallery {escape(gallery)} {state}: {report.computed} pictures computed")
    if report.missing and not prepare and not report.switched:
        raise SetupError(
            f"gallery {gallery!r} was not switched: {len(report.missing)} pictures cannot be "
            "migrated. Enrol them again from their files, or remove them with --drop-missing"
        )


async def _reindex(
    config: Config, gallery: str, *, prepare: bool, drop_missing: bool, quiet: bool
) -> ReindexReport:
    with wiring.opened(config, must_exist=True) as store, progress("reindexing") as bar:
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
                # Calibrates this revision, and stores the calibration.
                load_knowledge(
                    store, gallery, config.recognition.method, config.recognition.epsilon
                )
            return report
