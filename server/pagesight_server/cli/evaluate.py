"""`evaluate`: measures answers on labelled screenshots, with the pipeline that `serve` uses.

The reports are imported by the functions that make them: `serve`, a command of the same program,
starts without (docs/decisions/0032).
"""

from __future__ import annotations

import asyncio
import itertools
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from pagesight_server import wiring
from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    GalleryOption,
    JsonOption,
    MethodOption,
    StoreOption,
    err,
    out,
    print_text,
    progress,
    settings_of,
    tell_left_out,
)
from pagesight_server.common.cores import cores
from pagesight_server.common.errors import SetupError
from pagesight_server.common.packages import SHARED_FOLDERS, installed_versions
from pagesight_server.config import Config
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.workflows.knowledge import load_knowledge
from pagesight_server.workflows.pipeline import Pipeline

if TYPE_CHECKING:
    from pagesight_server import evaluation

FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE",
        help="Cache the embedding and text of each image in this file, for the next run.",
    ),
]


def evaluate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Test set: a folder of <label>/* and other*/*.")
    ],
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="R", help="Folder that the report is written to.")
    ],
    store: StoreOption = None,
    bundles: BundlesOption = None,
    method: MethodOption = None,
    no_ocr: Annotated[bool, typer.Option("--no-ocr", help="Do not read text.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also measure ablations, baselines and detectors.")
    ] = False,
    features: FeaturesOption = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the answers on labelled screenshots that are not in the gallery.

    Writes R/metrics.json, R/predictions.jsonl and R/report.html. Folders named
    other or other_... hold unknown pages, each its own kind. With --compare the
    same images are also classified without each piece of evidence (ablations), by
    the published method with several weights, and by other detectors: one table,
    in the terminal, in R/compare.json and R/compare.md, and in the report.

    Example: pagesight-server evaluate test/ --store gallery.db --out report/
    """
    from pagesight_server import evaluation

    if compare and no_ocr:
        raise SetupError("--compare needs text for some of its methods: leave out --no-ocr")
    settings = settings_of(config, store=store, bundles=bundles, recognition={"method": method})
    run, comparison = asyncio.run(
        _evaluate(
            settings,
            folder,
            out_folder,
            gallery,
            ocr=not no_ocr,
            comparing=compare,
            features=features,
            quiet=as_json,
        )
    )
    tell_left_out(folder)
    if as_json:
        print_text(evaluation.metrics_json(run))
        return
    out.print(evaluation.summary(run))
    if comparison is not None:
        # There is a column for each kind of unknown page: the terminal may wrap lines, but
        # no column is cut off.
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
    features: Path | None,
    quiet: bool,
) -> tuple[evaluation.Run, evaluation.Comparison | None]:
    from pagesight_server import evaluation
    from pagesight_server.evaluation import detectors

    recognition = config.recognition
    if comparing:
        detectors.check()
    observations: list[evaluation.Observation] = []

    def observe(truth: str, query: Query) -> None:
        if comparing:
            observations.append(evaluation.Observation(truth=truth, query=query))

    with wiring.opened(config, must_exist=True) as store, progress("evaluating") as bar:
        # A run may take hours: what would end it, or keep it from being written, is found before.
        evaluation.collect(folder)
        evaluation.prepare(out_folder)
        async with wiring.models(config) as models:
            knowledge = load_knowledge(store, gallery, recognition.method, recognition.epsilon)
            models.check(knowledge.snapshot)
            task = bar.add_task("", visible=not quiet)

            def advance(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            with cached_pipeline(models, knowledge, features) as pipeline:
                run = await evaluation.evaluate(
                    pipeline,
                    folder,
                    gallery=gallery,
                    ocr=ocr,
                    concurrency=models.readers,
                    limits=config.image,
                    progress=advance,
                    ran_with={**_versions(), **models.conditions},
                    observe=observe,
                )
        comparison = None
        if observations:
            comparison = evaluation.compare(knowledge, observations, progress=advance)
        evaluation.write(run, out_folder, store.image_bytes, comparison)
        return run, comparison


@contextmanager
def cached_pipeline(
    models: wiring.Models, knowledge: Knowledge, features: Path | None
) -> Iterator[Pipeline]:
    """The pipeline over one gallery; with a file, embeddings and texts are cached there."""
    pipeline = models.pipeline(lambda _name: knowledge)
    if features is None:
        yield pipeline
        return
    from pagesight_server import evaluation

    cache = evaluation.FeatureFile(features, models.bundles, models.conditions)
    if cache.others and not len(cache):
        err.print(
            f"[yellow]warning:[/] all {cache.others} entries of {escape(str(features))} were made "
            "by other bundles or settings: images are read anew",
            soft_wrap=True,
        )
    try:
        yield replace(pipeline, cache=cache)
    finally:
        cache.close()


def _versions() -> dict[str, object]:
    """The conditions of a run that concern this machine."""
    families = itertools.chain.from_iterable(SHARED_FOLDERS)
    packages = installed_versions(("pagesight", *families, "rapidocr", "opencv-python-headless"))
    return {
        "versions": {"python": platform.python_version(), **packages},
        "cores": cores(),
    }
