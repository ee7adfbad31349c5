"""`calibrate`: places the threshold, by leave-one-out on the gallery or on labelled traffic."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from pagesight_server import wiring
from pagesight_server.cli.evaluate import FeaturesOption, cached_pipeline
from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    MethodOption,
    StoreOption,
    err,
    out,
    print_json,
    progress,
    settings_of,
    tell_left_out,
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

if TYPE_CHECKING:
    from pagesight_server import evaluation


def calibrate(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Calibrate on labelled traffic: a folder of <label>/* and other*/*."
        ),
    ] = None,
    forget_validation: Annotated[
        bool,
        typer.Option(
            "--forget-validation", help="Drop that calibration, and use the gallery's own again."
        ),
    ] = False,
    features: FeaturesOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    method: MethodOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the threshold below which the answer is `other`; calibrate if necessary.

    By default the calibration set is the gallery itself, by leave-one-out. With
    --validation it is labelled screenshots of real traffic: at most epsilon of
    known pages are then rejected, as long as traffic stays like that. The
    calibration is stored with the revision. `serve` and `evaluate` use it, and go
    on using it after the gallery has changed, with a warning.

    Example: pagesight-server calibrate --store gallery.db --validation traffic/
    """
    if validation and forget_validation:
        raise SetupError("--validation and --forget-validation cannot be used together")
    settings = settings_of(config, store=store, bundles=bundles, recognition={"method": method})
    recognition = settings.recognition
    validated = None
    with wiring.opened(settings, must_exist=True) as opened:
        snapshot = opened.snapshot(gallery)
        key = validated_calibration_key(snapshot, recognition.method, recognition.epsilon)
        if forget_validation:
            opened.drop_calibrations(gallery, key)
        knowledge = load_knowledge(opened, gallery, recognition.method, recognition.epsilon)
        revision = knowledge.snapshot.revision
        if validation is not None:
            validated = asyncio.run(
                _validate(settings, knowledge, validation, features, quiet=as_json)
            )
            knowledge = replace(knowledge, calibration=validated.calibration)
            opened.put_calibration(gallery, revision, key, knowledge.calibration.to_json())
            tell_left_out(validation)
    calibration = knowledge.calibration
    if as_json:
        body: dict[str, object] = {
            "revision": revision,
            "calibration_revision": calibration.revision,
        }
        body |= {k: v for k, v in asdict(calibration).items() if k != "revision"}
        if validated is not None:
            figures = asdict(validated)
            del figures["calibration"]
            body["validation"] = figures
        body["own_rejected"] = own_rejected(calibration)
        print_json(body)
        return
    calibration_set = "gallery pictures, each left out in turn"
    if calibration.source == "validation":
        calibration_set = "screenshots of labelled traffic"
    out.print(
        f"gallery {escape(gallery)}, revision {revision}: threshold "
        f"{calibration.threshold_with_text:.4f}, without text "
        f"{calibration.threshold_without_text:.4f}; calibrated on {calibration.pictures} "
        f"{calibration_set}, to reject at most {calibration.epsilon:.0%} of known pages"
        + ("" if calibration.guaranteed else " (an estimate: too few pictures of each page)")
    )
    out.print(own_rejected_text(calibration))
    if validated is not None:
        rejected = "none"
        if validated.rejected is not None:
            rejected = f"{validated.unknown}, {validated.rejected:.1%} of them rejected"
        out.print(
            f"unknown pages: {rejected}; skipped: {validated.unreadable} unreadable, "
            f"{validated.enrolled} that the gallery contains"
        )
    for warning in (outdated_calibration_warning(knowledge), own_rejected_warning(calibration)):
        if warning:
            err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)


async def _validate(
    config: Config, knowledge: Knowledge, folder: Path, features: Path | None, *, quiet: bool
) -> evaluation.Validation:
    from pagesight_server import evaluation

    async with wiring.models(config) as models:
        models.check(knowledge.snapshot)
        with (
            progress("calibrating") as bar,
            cached_pipeline(models, knowledge, features) as pipeline,
        ):
            task = bar.add_task("", visible=not quiet)
            return await evaluation.validate(
                pipeline,
                knowledge,
                folder,
                epsilon=config.recognition.epsilon,
                concurrency=models.readers,
                limits=config.image,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
