"""`index`: a folder of labelled screenshots into a gallery."""

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
from pagesight_server.config import Config
from pagesight_server.curation.diagnostics import NearDuplicate, near_duplicates
from pagesight_server.gallery.folder import read_folder
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.workflows.enrolment import IndexReport, index_folder
from pagesight_server.workflows.knowledge import (
    load_knowledge,
    own_rejected,
    own_rejected_text,
    own_rejected_warning,
)


def index(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Holds <label>/*.jpg, .png, .webp.")
    ],
    store: StoreOption = None,
    bundles: BundlesOption = None,
    labels: Annotated[Path | None, typer.Option(help="labels.toml, if not the one in DIR.")] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a folder of labelled screenshots; run it again to go on or to add.

    The name of a folder is its label. Folders named other or other_... hold
    examples of unknown pages. Pictures that are enrolled already are skipped, a
    broken one is reported and skipped.

    Example: pagesight-server index screenshots/ --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=bundles)
    report, near, calibration = asyncio.run(
        _index(settings, folder, gallery, labels, quiet=as_json)
    )
    if as_json:
        skipped = [{"path": path, "reason": reason} for path, reason in report.skipped]
        body: dict[str, object] = {
            "revision": report.revision,
            "added": report.added,
            "present": report.present,
            "own_rejected": own_rejected(calibration) if calibration else None,
        }
        same = [
            {"path": report.added_ids[i], "image_id": p.picture.image_id, "label": p.picture.label}
            for i, found in near.items()
            for p in found
        ]
        typer.echo(
            json.dumps(
                body | {"skipped": skipped, "left_out": report.left_out, "near_duplicates": same},
                ensure_ascii=False,
            )
        )
        return
    for image_id, found in near.items():
        first = found[0].picture
        err.print(
            f"[yellow]almost the same[/] {escape(report.added_ids[image_id])} and "
            f"{escape(first.source or first.image_id)}, {escape(first.label)}: teaches nothing new"
        )
    for path, reason in report.skipped:
        err.print(f"[yellow]skipped[/] {escape(path)}: {escape(reason)}")
    out.print(
        f"gallery {escape(gallery)} is at revision {report.revision}: {report.added} added, "
        f"{report.present} there already, {len(report.skipped)} skipped"
        + (f"; left out: {escape(report.left_out)}" if report.left_out else "")
    )
    if calibration is not None:
        out.print(own_rejected_text(calibration))
        if warning := own_rejected_warning(calibration):
            err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


async def _index(
    config: Config, folder: Path, gallery: str, labels: Path | None, *, quiet: bool
) -> tuple[IndexReport, dict[str, list[NearDuplicate]], Calibration | None]:
    total = read_folder(folder).count
    async with wiring.models(config) as models:
        with (
            wiring.opened(config.store, limits=config.gallery.limits) as store,
            progress("indexing") as bar,
        ):
            registry = models.registry(store)
            task = bar.add_task("", total=total, visible=not quiet)
            report = await index_folder(
                models.enroller(store, models.pipeline(registry.get)),
                folder,
                gallery=gallery,
                author=user(),
                limits=config.image,
                labels=labels,
                concurrency=models.readers,
                progress=lambda: bar.advance(task),
            )
            if not report.revision:
                return report, {}, None
            # Leaves the calibration of this revision in the store.
            known = load_knowledge(
                store, gallery, config.recognition.method, config.recognition.epsilon
            )
            return report, near_duplicates(known, report.added_ids), known.calibration
