"""`index`: enrols a folder of labelled screenshots in a gallery."""

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
        Path, typer.Argument(metavar="DIR", help="Holds one folder of pictures for each label.")
    ],
    store: StoreOption = None,
    bundles: BundlesOption = None,
    labels: Annotated[
        Path | None, typer.Option(help="Settings of labels, instead of DIR/labels.toml.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Enrol a folder of labelled screenshots; run it again to resume or to add more.

    The name of a folder is the label of its pictures. Folders named other or
    other_... hold examples of unknown pages. Pictures that are already enrolled
    are skipped; unreadable ones are reported and skipped.

    Example: pagesight-server index screenshots/ --store gallery.db
    """
    settings = settings_of(config, store=store, bundles=bundles)
    report, duplicates, calibration = asyncio.run(
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
        body |= {"skipped": skipped, "left_out": report.left_out}
        body["near_duplicates"] = [
            {"path": report.added_ids[i], "image_id": d.picture.image_id, "label": d.picture.label}
            for i, similar in duplicates.items()
            for d in similar
        ]
        print_json(body)
        return
    for image_id, similar in duplicates.items():
        nearest = similar[0].picture
        err.print(
            f"[yellow]near duplicate[/] {escape(report.added_ids[image_id])} of "
            f"{escape(nearest.source or nearest.image_id)}, {escape(nearest.label)}: "
            "adds nothing new"
        )
    for path, reason in report.skipped:
        err.print(f"[yellow]skipped[/] {escape(path)}: {escape(reason)}")
    out.print(
        f"gallery {escape(gallery)} is at revision {report.revision}: {report.added} added, "
        f"{report.present} already enrolled, {len(report.skipped)} skipped"
        + (f"; files not considered: {escape(report.left_out)}" if report.left_out else "")
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
            wiring.opened(config) as store,
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
            # Calibrates this revision, and stores the calibration.
            knowledge = load_knowledge(
                store, gallery, config.recognition.method, config.recognition.epsilon
            )
            duplicates = near_duplicates(knowledge, report.added_ids)
            return report, duplicates, knowledge.calibration
