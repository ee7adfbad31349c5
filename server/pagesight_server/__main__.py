"""The `pagesight-server` command: serve, index, evaluate, calibrate, doctor, gallery."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from pagesight_server import detectors, evaluation, gallery_commands, telemetry, wiring
from pagesight_server.admission import Gate
from pagesight_server.care import NearDuplicate, near_duplicates
from pagesight_server.command_line import (
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
from pagesight_server.config import Config, cores
from pagesight_server.decision import Knowledge
from pagesight_server.doctor import examine
from pagesight_server.enrolment import IndexReport, find_pictures, index_folder
from pagesight_server.errors import PagesightError, SetupError
from pagesight_server.evidence import Query
from pagesight_server.gallery import Gallery
from pagesight_server.live import know, outdated, validation_key
from pagesight_server.pipeline import Pipeline
from pagesight_server.service import security
from pagesight_server.service.classifier import ClassifierService
from pagesight_server.service.galleries import GalleryService
from pagesight_server.service.limits import CallerLimits, LimitGalleryCalls
from pagesight_server.service.server import serve as serve_grpc
from pagesight_server.snapshot import DEFAULT_GALLERY

app = typer.Typer(
    help="Tells which known page a phone screenshot shows, or that it shows none of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(gallery_commands.app, name="gallery")
log = logging.getLogger(__name__)
PerceptsOption = Annotated[
    Path | None,
    typer.Option(
        "--percepts",
        metavar="FILE",
        help="Keep what is seen and read of each image here, and never do it twice.",
    ),
]
MethodOption = Annotated[
    Literal["seed", "pagesight"] | None,
    typer.Option("--method", help="`seed` is the published method.", show_default="pagesight"),
]


@app.command()
def serve(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="0 takes a free port.", show_default="50051")
    ] = None,
    method: MethodOption = None,
    allow_plaintext: Annotated[
        bool | None,
        typer.Option(
            "--allow-plaintext", help="Listen beyond loopback although security.cert is not set."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer over gRPC until SIGTERM or Ctrl-C.

    Settings come from --config, then PAGESIGHT_... variables, then these options.
    A missing store is created empty: enrol pages while the server runs.

    Example: pagesight-server serve --store gallery.db --port 50051
    """
    settings = settings_of(
        config,
        store=store,
        bundles=bundles,
        server={"host": host, "port": port},
        recognition={"method": method},
        security={"allow_plaintext": allow_plaintext},
    )
    telemetry.configure_logs(settings.telemetry.logs, sys.stderr, telemetry.trace_of_now)
    asyncio.run(_serve(settings, as_json=as_json))


async def _serve(config: Config, *, as_json: bool) -> None:
    edge = security.edge(config.server.host, config.security)
    exporting = telemetry.setup(os.environ, record_text=config.telemetry.record_text)
    try:
        async with wiring.models(config) as models:
            with wiring.opened(config.store, limits=config.gallery.limits) as store:
                await _serve_from(store, models, exporting, edge, as_json=as_json)
    finally:
        await asyncio.to_thread(exporting.close)


async def _serve_from(
    store: Gallery,
    models: wiring.Models,
    exporting: telemetry.Exporting,
    edge: security.Edge,
    *,
    as_json: bool,
) -> None:
    config = models.config
    live = models.live(store)
    await live.refresh()
    server = config.server
    limits = CallerLimits(config.security)
    pipeline = models.pipeline(live.get, remember=server.remember)
    models.observe(exporting.telemetry.ran)
    telemetry.watch(
        exporting.meter,
        exporting.telemetry,
        queues=models.queues(),
        memories={"screenshots": pipeline.memo, "lines": models.ocr.cache},
        known=live.known,
    )
    for signal_name, where in (("traces", exporting.traces), ("metrics", exporting.metrics)):
        if where:
            log.info("%s: %s", signal_name, ", ".join(where))

    def ready(port: int) -> None:
        if as_json:
            listening: dict[str, object] = {"host": server.host, "port": port}
            if exporting.metrics_address:
                listening["metrics"] = exporting.metrics_address
            print(json.dumps(listening), flush=True)
            return
        revisions = store.revisions()
        known = ", ".join(f"{name} at revision {rev}" for name, rev in revisions.items())
        print(f"serving {config.store} ({known or 'empty'}) on {server.host}:{port}", flush=True)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    following = asyncio.create_task(live.follow(server.follow_seconds))
    try:
        await serve_grpc(
            ClassifierService(
                pipeline,
                Gate(server.max_active, server.max_waiting),
                max_in_flight=server.max_in_flight_per_stream,
                ocr=config.recognition.ocr,
                telemetry=exporting.telemetry,
                limits=limits,
            ),
            GalleryService(store, models.enroller(store, pipeline), live, server, config.image),
            server,
            max_image_bytes=config.image.max_bytes,
            stop=stop.wait,
            ready=ready,
            interceptors=[
                telemetry.WatchCalls(exporting.telemetry),
                *edge.interceptors,
                LimitGalleryCalls(limits),
            ],
            credentials=edge.credentials,
        )
    finally:
        following.cancel()
        for name, cache in models.caches(pipeline).items():
            log.info("%s that had been seen before: %s", name, cache)


@app.command()
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
    report, near = asyncio.run(_index(settings, folder, gallery, labels, quiet=as_json))
    if as_json:
        skipped = [{"path": path, "reason": reason} for path, reason in report.skipped]
        body = {"revision": report.revision, "added": report.added, "present": report.present}
        same = [
            {"path": report.added_ids[i], "image_id": p.picture.image_id, "label": p.picture.label}
            for i, found in near.items()
            for p in found
        ]
        print(json.dumps(body | {"skipped": skipped, "near_duplicates": same}, ensure_ascii=False))
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
    )


async def _index(
    config: Config, folder: Path, gallery: str, labels: Path | None, *, quiet: bool
) -> tuple[IndexReport, dict[str, list[NearDuplicate]]]:
    total = sum(map(len, find_pictures(folder).values()))
    async with wiring.models(config) as models:
        with (
            wiring.opened(config.store, limits=config.gallery.limits) as store,
            progress("indexing") as bar,
        ):
            live = models.live(store)
            task = bar.add_task("", total=total, visible=not quiet)
            report = await index_folder(
                models.enroller(store, models.pipeline(live.get)),
                folder,
                gallery=gallery,
                author=user(),
                limits=config.image,
                labels=labels,
                concurrency=models.readers,
                progress=lambda: bar.advance(task),
            )
            if not report.revision:
                return report, {}
            # Leaves the calibration of this revision in the store.
            known = know(store, gallery, config.recognition.method, config.recognition.epsilon)
            return report, near_duplicates(known, report.added_ids)


@app.command()
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds <label>/* and other*/*.")],
    out_folder: Annotated[Path, typer.Option("--out", metavar="R", help="Where the files go.")],
    store: StoreOption = None,
    bundles: BundlesOption = None,
    method: MethodOption = None,
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Read no text.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also measure every other way to say `other`.")
    ] = False,
    percepts: PerceptsOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the answers on labelled screenshots that the gallery does not hold.

    Writes R/metrics.json, R/predictions.jsonl and R/report.html. Folders named
    other or other_... hold unknown pages, each its own kind. With --compare the
    same images also go through other detectors, through the default less each of
    its pieces of evidence, and through the published method with other weights:
    one table, in the terminal, in R/compare.json and in the report.

    Example: pagesight-server evaluate test/ --store gallery.db --out report/
    """
    if compare and no_ocr:
        raise SetupError("--compare reads text, which some of its rows need: leave out --no-ocr")
    settings = settings_of(config, store=store, bundles=bundles, recognition={"method": method})
    run, comparison = asyncio.run(
        _evaluate(
            settings,
            folder,
            out_folder,
            gallery,
            ocr=not no_ocr,
            comparing=compare,
            percepts=percepts,
            quiet=as_json,
        )
    )
    if as_json:
        print(evaluation.metrics_json(run), end="")
        return
    out.print(evaluation.summary(run))
    if comparison is not None:
        # One column for each kind of unknown page: better wrapped by the terminal than cut.
        Console(width=max(out.width, 120), highlight=False).print(evaluation.compared(comparison))
    out.print(f"report: {escape(str(out_folder / 'report.html'))}", soft_wrap=True)


async def _evaluate(
    config: Config,
    folder: Path,
    out_folder: Path,
    gallery: str,
    *,
    ocr: bool,
    comparing: bool,
    percepts: Path | None,
    quiet: bool,
) -> tuple[evaluation.Run, evaluation.Comparison | None]:
    recognition = config.recognition
    if comparing:
        detectors.check()
    observations: list[evaluation.Observation] = []

    def observe(truth: str, query: Query) -> None:
        if comparing:
            observations.append(evaluation.Observation(truth=truth, query=query))

    with wiring.opened(config.store, must_exist=True) as store, progress("evaluating") as bar:
        async with wiring.models(config) as models:
            known = know(store, gallery, recognition.method, recognition.epsilon)
            models.check(known.snapshot)
            task = bar.add_task("", visible=not quiet)

            def advance(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            with _remembering(models, known, percepts) as pipeline:
                run = await evaluation.evaluate(
                    pipeline,
                    folder,
                    gallery=gallery,
                    ocr=ocr,
                    concurrency=models.readers,
                    limits=config.image,
                    progress=advance,
                    ran_with=_versions(),
                    observe=observe,
                )
        comparison = None
        if observations:
            comparison = evaluation.compare(
                known.snapshot, observations, epsilon=recognition.epsilon, progress=advance
            )
        evaluation.write(run, out_folder, store.image_bytes, comparison)
        return run, comparison


@contextmanager
def _remembering(
    models: wiring.Models, known: Knowledge, percepts: Path | None
) -> Iterator[Pipeline]:
    """The pipeline over one gallery; with a file, what it sees and reads is kept there."""
    pipeline = models.pipeline(lambda _name: known)
    if percepts is None:
        yield pipeline
        return
    kept = evaluation.PerceptFile(percepts, models.bundles)
    try:
        yield replace(pipeline, memo=kept)
    finally:
        kept.close()


def _versions() -> dict[str, object]:
    packages = ("pagesight", "onnxruntime", "faiss-cpu", "rapidocr", "opencv-python-headless")
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in packages}},
        "cores": cores(),
    }


@app.command()
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
    percepts: PerceptsOption = None,
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
        key = validation_key(snapshot, recognition.method, recognition.epsilon)
        if forget_validation:
            opened.drop_calibrations(gallery, key)
        known = know(opened, gallery, recognition.method, recognition.epsilon)
        if validation is not None:
            found = asyncio.run(_validate(settings, known, validation, percepts, quiet=as_json))
            placed = found.calibration
            opened.put_calibration(gallery, known.snapshot.revision, key, placed.to_json())
            known = replace(known, calibration=placed)
    calibration = known.calibration
    if as_json:
        body = {"revision": known.snapshot.revision, "calibration_revision": calibration.revision}
        told = {k: v for k, v in asdict(calibration).items() if k != "revision"}
        figures = asdict(found) if found else {}
        figures.pop("calibration", None)
        print(json.dumps(body | told | ({"validation": figures} if found else {})))
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
    if found is not None:
        share = "none to measure" if found.rejected is None else f"{found.rejected:.1%} rejected"
        out.print(
            f"unknown pages: {found.unknown}, {share}; unreadable {found.unreadable}, in the "
            f"gallery itself {found.enrolled}: both left out"
        )
    if warning := outdated(known):
        err.print(f"[yellow]warning:[/] {escape(warning)}")


async def _validate(
    config: Config, known: Knowledge, folder: Path, percepts: Path | None, *, quiet: bool
) -> evaluation.Validation:
    async with wiring.models(config) as models:
        models.check(known.snapshot)
        with progress("calibrating") as bar, _remembering(models, known, percepts) as eyes:
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


@app.command()
def doctor(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check bundles, models and store, and say what would run. Exit code 1 when it would not.

    Goes on after a problem, so that one run names them all; changes nothing.

    Example: pagesight-server doctor --store gallery.db
    """
    found = asyncio.run(examine(settings_of(config, store=store, bundles=bundles), os.environ))
    if as_json:
        ok: dict[str, object] = {"ok": not found.problems, "problems": found.problems}
        print(json.dumps(ok | found.facts, ensure_ascii=False))
    else:
        for what, value in found.facts.items():
            told = value if isinstance(value, str | int) else json.dumps(value)
            out.print(f"{what:>12}  {escape(str(told))}", soft_wrap=True)
    for problem in found.problems:
        print(f"pagesight-server: {problem}", file=sys.stderr)
    if found.problems:
        raise typer.Exit(1)


def main() -> None:
    """Runs the command; an expected failure is one line on stderr and exit code 1."""
    # Pillow warns of each damaged tag of a picture. Who sends pictures must not fill our log, nor
    # the memory in which Python keeps what it has warned of.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        app()
    except PagesightError as error:
        print(f"pagesight-server: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
