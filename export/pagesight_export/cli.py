"""The commands of `pagesight-export`: options in, one recipe or one check, an answer out.

encoder  ┐
         ├─ source -> recipe -> folder.write ─┐
ocr      ┘                                    ├─ table or --json on stdout, exit 0
verify   ─ bundle -> verify ──────────────────┘
         any ExportError: one line on stderr, exit 1
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pagesight_export import recipes, sources
from pagesight_export.errors import ExportError
from pagesight_export.folder import Draft, write
from pagesight_export.verify import Report
from pagesight_export.verify import verify as check_bundle

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


@app.command()
def encoder(
    builtin: Annotated[
        bool,
        typer.Option(
            "--builtin",
            help="The encoder made from the text detector inside the rapidocr wheel.",
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(help="The bundle's folder; a bundle already there is replaced.")
    ] = Path("bundles/encoder"),
    as_json: Json = False,
) -> None:
    """Export an image encoder: pixels in, a vector of unit length out.

    `--builtin` needs no download and a few seconds. It sees layout and colour, which is enough
    for a demo, for tests and for small galleries. Exporting the same source twice gives the
    same bundle id, so galleries made with it stay valid.
    """
    with _failures_in_one_line():
        if not builtin:
            raise ExportError("say which encoder to export: pagesight-export encoder --builtin")
        _export(
            lambda progress: recipes.builtin_encoder(sources.locate("rapidocr"), progress=progress),
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
    out: Annotated[
        Path, typer.Option(help="The bundle's folder; a bundle already there is replaced.")
    ] = Path("bundles/ocr"),
    as_json: Json = False,
) -> None:
    """Export text detection and recognition as one bundle.

    The models are taken from the wheel as it is installed here; nothing is downloaded. Pixels
    go in as bytes, and the recogniser answers with the best character of each step, not with
    the scores of all.
    """
    with _failures_in_one_line():
        _export(
            lambda progress: recipes.ocr_models(sources.locate(source, models), progress=progress),
            out,
            as_json=as_json,
        )


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder, e.g. bundles/encoder.")],
    as_json: Json = False,
) -> None:
    """Check a bundle: the hash of every file, then what its graphs answer to the golden inputs.

    Exit code 0 means that the bundle is whole and that it computes here what it computed where
    it was exported; 1 that it is not or does not.
    """
    with _failures_in_one_line():
        report = check_bundle(bundle)
        if as_json:
            typer.echo(json.dumps(_report_json(report), indent=2))
        else:
            Console().print(_report_table(report))
        report.raise_if_wrong()


def _export(recipe: Callable[[recipes.Progress], Draft], out: Path, *, as_json: bool) -> None:
    started = time.monotonic()
    stderr = Console(stderr=True)
    with stderr.status("reading the source") as status:

        def progress(step: str) -> None:
            status.update(step)
            if not stderr.is_terminal:
                stderr.print(f"{step} …", highlight=False)

        draft = recipe(progress)
        progress(f"writing and verifying {out}")
        manifest = write(draft, out)
    seconds = time.monotonic() - started
    size = sum(map(len, draft.contents.values()))
    if as_json:
        answer = {"id": manifest.id, "folder": str(out), "bytes": size, "seconds": seconds}
        typer.echo(json.dumps(answer))
    else:
        typer.echo(f"{out}: {manifest.id}, {size / 2**20:.1f} MiB, {seconds:.1f} s")


def _report_json(report: Report) -> dict[str, Any]:
    return {
        "id": report.manifest.id,
        "kind": report.manifest.kind,
        "ok": report.ok,
        "files": [{"name": file.name, "state": file.state} for file in report.files],
        "golden": [
            {
                "graph": check.graph,
                "case": check.case,
                "output": check.output,
                "difference": check.difference,
                "tolerance": check.tolerance,
                "ok": check.ok,
            }
            for check in report.golden
        ],
    }


def _report_table(report: Report) -> Table:
    table = Table(title=report.manifest.id)
    table.add_column("checked")
    table.add_column("found")
    table.add_column("allowed", justify="right")
    table.add_column("verdict")
    for file in report.files:
        table.add_row(file.name, "sha256", "", file.state)
    for check in report.golden:
        table.add_row(
            f"{check.graph} case {check.case}: {check.output}",
            f"off by {check.difference:.2g}",
            f"{check.tolerance:.2g}",
            "ok" if check.ok else "wrong",
        )
    return table


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    try:
        yield
    except ExportError as error:
        typer.echo(f"pagesight-export: {error}", err=True)
        raise typer.Exit(1) from error
