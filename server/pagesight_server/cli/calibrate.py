"""`calibrate`: where `other` begins, by the gallery's own pictures or by labelled traffic."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from pagesight_server import evaluation, wiring
from pagesight_server.cli.evaluate import FeaturesOption, remembering
from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    MethodOption,
    StoreOption,
    err,
    out,
    progress,
    settings_of,
)
from pagesight_server.common.errors import SetupError
from pagesight_server.config import Config
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.knowledge import (
    load_knowledge,
    outdated_calibration_warning,
    own_rejected,
    own_rejected_text,
    own_rejected_warning,
    validated_calibration_key,
)


def calibrate(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    validation: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Labelled traffic: <label>/* and other*/*."),
    ] = None,
    forget_validation: Annotated[
        bool, typer.Option("--forget-validation", help="Go back to the gallery's own threshold.")
    ] = False,
    features: FeaturesOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    method: MethodOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where `other` begins, calibrating the present revision if that is missing.

    With --validation the threshold is placed by labelled screenshots of real
    traffic instead of the gallery's own: at most epsilon of known pages are
    rejected where traffic stays like that. It is kept with the revision, and
    `serve` and `evaluate` use it, also after the gallery changes, with a warning.

    Example: pagesight-server calibrate --store gallery.db --validation traffic/
    """
    if validation and forget_validation:
        raise SetupError("--validation and --forget-validation exclude each other")
    settings = settings_of(config, store=store, bundles=bundles, recognition={"method": method})
    recognition = settings.recognition
    found = None
    with wiring.opened(settings.store, must_exist=True) as opened:
        snapshot = opened.snapshot(gallery)
        key = validated_calibration_key(snapshot, recognition.method, recognition.epsilon)
        if forget_validation:
            opened.drop_calibrations(gallery, key)
        known = load_knowledge(opened, gallery, recognition.method, recognition.epsilon)
        if validation is not None:
            found = asyncio.run(_validate(settings, known, validation, features, quiet=as_json))
            placed = found.calibration
            opened.put_calibration(gallery, known.snapshot.revision, key, placed.to_json())
            known = replace(known, calibration=placed)
    calibration = known.calibration
    if as_json:
        body = {"revision": known.snapshot.revision, "calibration_revision": calibration.revision}
        told = {k: v for k, v in asdict(calibration).items() if k != "revision"}
        figures = asdict(found) if found else {}
        figures.pop("calibration", None)
        told["own_rejected"] = own_rejected(calibration)
        typer.echo(json.dumps(body | told | ({"validation": figures} if found else {})))
        return
    pictures = "pictures left out in turn"
    if calibration.source == "validation":
        pictures = "screenshots of labelled traffic"
    out.print(
        f"gallery {escape(gallery)}, revision {known.snapshot.revision}: a page is known from "
        f"{calibration.threshold_with_text:.4f} on, without text from "
        f"{calibration.threshold_without_text:.4f}; from {calibration.pictures} {pictures}, "
        f"at most {calibration.epsilon:.0%} rejected"
        + ("" if calibration.guaranteed else " (an estimate: too few pictures of each page)")
    )
    out.print(own_rejected_text(calibration))
    if found is not None:
        share = "none to measure" if found.rejected is None else f"{found.rejected:.1%} rejected"
        out.print(
            f"unknown pages: {found.unknown}, {share}; unreadable {found.unreadable}, in the "
            f"gallery itself {found.enrolled}: both left out"
        )
    for warning in (outdated_calibration_warning(known), own_rejected_warning(calibration)):
        if warning:
            err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


async def _validate(
    config: Config, known: Knowledge, folder: Path, features: Path | None, *, quiet: bool
) -> evaluation.Validation:
    async with wiring.models(config) as models:
        models.check(known.snapshot)
        with progress("calibrating") as bar, remembering(models, known, features) as eyes:
            task = bar.add_task("", visible=not quiet)
            return await evaluation.validate(
                eyes,
                known,
                folder,
                epsilon=config.recognition.epsilon,
                concurrency=models.readers,
                limits=config.image,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
