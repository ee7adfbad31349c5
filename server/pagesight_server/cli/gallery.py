"""The `pagesight-server gallery` commands: maintenance of a store.

    check    backup    restore    purge    reindex    copy

All but `restore` onto a damaged file may run while servers use the store.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
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
from pagesight_server.gallery import Gallery, copying
from pagesight_server.gallery import backup as backups
from pagesight_server.gallery.fingerprint import Fingerprint
from pagesight_server.gallery.location import store_location
from pagesight_server.gallery.replicas import Forgetting
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.workflows.knowledge import load_knowledge
from pagesight_server.workflows.reindexing import ReindexReport, reindex_gallery

_ASK_AGAIN_S = 0.25
"""How often the replicas are looked at while a purge waits: they write within a second."""

_SHOWN_ROWS = 100
"""Rows after which the bar of a copy is drawn again."""

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

    Reads the whole store, and prints a digest of it: two stores that hold the same have the same
    digest, whichever database they are in. Of a PostgreSQL store it says where the server may still
    keep what was purged. Exit code 1 when anything is wrong.

    Example: pagesight-server gallery check --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=None)
    with wiring.opened(settings, must_exist=True) as opened:
        findings = backups.check(opened)
        revisions = opened.revisions()
        # What is damaged cannot be read to its end.
        digest = None if findings else opened.fingerprint()
        remains = opened.remains()
    if as_json:
        body = {"galleries": revisions, "findings": findings, "remains": remains}
        print_json(body | (_digest_json(digest) if digest else {}))
    else:
        for finding in findings:
            err.print(escape(finding), soft_wrap=True)
        if not findings:
            galleries = ", ".join(f"{name} at revision {at}" for name, at in revisions.items())
            out.print(
                escape(f"{settings.store} is sound: {galleries or 'no gallery yet'}"),
                soft_wrap=True,
            )
        if digest:
            out.print(f"digest {digest.sha256}", soft_wrap=True)
        for place in remains:
            out.print(escape(f"what was purged may remain in {place}"), soft_wrap=True)
    if findings:
        raise typer.Exit(1)


def _digest_json(digest: Fingerprint) -> dict[str, object]:
    tables = {
        name: {"rows": table.rows, "sha256": table.sha256} for name, table in digest.tables.items()
    }
    return {"sha256": digest.sha256, "tables": tables}


@app.command()
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The store: a file or an address.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="A store that holds nothing yet.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a store into another, whichever databases they are, with history and revisions.

    A copy that was interrupted goes on when this is run again; until it is complete nobody can open
    TO. At the end the digests of both are compared. FROM may be served meanwhile, but what is
    changed after the end is not in TO: stop what changes it first. Bundles, settings and managed
    backups are not part of a store.

    Example: pagesight-server gallery copy gallery.db postgresql://pagesight@db/pagesight
    """
    from_, to = store_location(source), store_location(target)
    if isinstance(from_, Path) and not from_.is_file():
        raise SetupError(f"no store {from_}")
    settings = settings_of(config, store=None, bundles=None)
    with progress("{task.description}") as bar:
        task = bar.add_task("copying", total=None, visible=not as_json)

        def show(phase: str, done: int, of: int) -> None:
            if not done or done == of or not done % _SHOWN_ROWS:
                bar.update(task, description=phase, completed=done, total=of)

        copied = copying.copy(from_, to, partial(wiring.opened_for_copy, settings), progress=show)
    digest = copied.fingerprint
    body = {"put": copied.put, "deleted": copied.deleted, **_digest_json(digest)}
    rows = sum(table.rows for table in digest.tables.values())
    line = f"copied {from_} to {to}: {rows:,} rows, {copied.put:,} of them now"
    _print_result(as_json, body, f"{line}; digest {digest.sha256}")


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
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Wait at most so long for all replicas to forget; exit code 1 when some have not.",
        ),
    ] = 0.0,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete pictures for ever, from every gallery, revision and managed backup.

    The history keeps revision, time, author and content hash. The file is rewritten, which needs
    disk space for a second copy. A purged picture can never be enrolled in this store again.

    What was kept of them for review (review.keep) and decided of them goes too; a screenshot that
    was kept and never enrolled can be purged by its id.

    Servers of the store forget within seconds. Which have, which have not and which have not been
    heard of for long is told at the end; run it again with the same ids to ask once more.

    With --expired: delete bytes, embedding and text of pictures that were removed from their
    galleries longer ago than the retention, and of those that were never enrolled. Their entries
    in the history stay. Answers kept for review go when they are older than review.keep_days.

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
            replicas = _forgetting(opened, image_ids, wait)
            body: dict[str, object] = {"revisions": revisions, "backups": list(map(str, files))}
            galleries = ", ".join(f"{name} is at revision {at}" for name, at in revisions.items())
            line = f"purged {len(set(image_ids))} pictures, also from {len(files)} backups"
            body["replicas"] = _replicas_json(replicas)
            _print_result(as_json, body, f"{line}; {galleries}" if galleries else line)
            if not as_json:
                _tell_replicas(replicas)
            if wait and not replicas.is_complete:
                raise typer.Exit(1)
            return
        days = settings.gallery.keep_removed_days
        deleted = opened.expire(days, settings.review.limits if settings.review.keep else None)
    line = f"deleted {deleted.unused} pictures that were never enrolled"
    if deleted.answers:
        line += f", {deleted.answers} answers that were kept for review"
    if days:
        line += f", and {deleted.removed} that were removed more than {days} days ago"
    else:
        line += "; all removed pictures are kept (gallery.keep_removed_days = 0)"
    body = {
        "removed": deleted.removed,
        "unused": deleted.unused,
        "answers": deleted.answers,
    }
    _print_result(as_json, body, line)


def _forgetting(store: Gallery, image_ids: Sequence[str], wait_s: float) -> Forgetting:
    """Which replicas have forgotten, once all that are heard of have, or the time is over."""
    give_up_s = time.monotonic() + wait_s
    while True:
        replicas = store.forgetting(image_ids)
        if not replicas.remembering or time.monotonic() >= give_up_s:
            return replicas
        time.sleep(_ASK_AGAIN_S)


def _replicas_json(replicas: Forgetting) -> dict[str, object]:
    return {
        "forgotten": [replica.name for replica in replicas.forgotten],
        "remembering": [replica.name for replica in replicas.remembering],
        "silent": [
            {"name": replica.name, "seconds": replica.silent_ms // 1000}
            for replica in replicas.silent
        ],
    }


def _tell_replicas(replicas: Forgetting) -> None:
    """Says which replicas have forgotten on stdout, and which may remember on stderr."""
    if replicas.forgotten:
        forgotten = ", ".join(replica.name for replica in replicas.forgotten)
        out.print(f"forgotten by {escape(forgotten)}", soft_wrap=True)
    for replica in replicas.remembering:
        err.print(f"[yellow]not yet forgotten[/] by {escape(replica.name)}", soft_wrap=True)
    for replica in replicas.silent:
        err.print(
            f"[yellow]silent[/]: {escape(replica.name)} has not been heard of for "
            f"{replica.silent_ms // 1000} s; if it still runs, it may remember",
            soft_wrap=True,
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
    docs/upgrading.md says how to do that without downtime.

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
