"""`pagesight classify`: which known page each picture shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from pagesight._classification import StreamResult
from pagesight._cli import files, render, session, wire
from pagesight._cli.review import needing_review_extra

Sort: TypeAlias = Literal["doubt", "name"]


@session.teaching
def classify(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="Pictures, or folders that are searched for them, subfolders and all.",
        ),
    ],
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    top_k: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            help="Candidates to name.",
            show_default="2; 3 with --explain",
        ),
    ] = None,
    no_ocr: Annotated[
        bool, typer.Option("--no-ocr", help="Read no text: faster, blind to words.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show reasons, candidates and the lines that match."),
    ] = False,
    as_json: session.JsonOption = False,
    min_revision: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Answer at this revision of the gallery or a later one, as a change printed it.",
            show_default="as it is known",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a page into the folder OUT: each picture beside the gallery's closest, "
            "with reasons.",
        ),
    ] = None,
    sort: Annotated[
        Sort, typer.Option(help="Order of that page: the most useful to look at first, or by name.")
    ] = "doubt",
    show_digits: Annotated[
        bool, typer.Option("--show-digits", help="Do not mask digits on that page.")
    ] = False,
    in_flight: Annotated[
        int, typer.Option(min=1, help="Pictures sent and not yet answered, at most.")
    ] = 16,
) -> None:
    """Tell which known page each picture shows, or `other`.

    Examples:
      pagesight classify screenshot.png
      pagesight classify screenshots/ --explain
      pagesight classify screenshots/ --html seen/
      pagesight classify screenshots/ --json | jq -r '[.file, .label] | @tsv'

    Exit code 0: every picture has an answer (`other` is one); 1: some failed;
    2: the command line is wrong.
    """
    if html is not None:
        static_page = needing_review_extra()
        explain, top_k = True, 5 if top_k is None else top_k
    found = files.pictures(paths)
    session.tell_left_out(found.left_out_in_words)
    pictures = found.pictures
    # All that the table and the page show; of a folder without end, --json alone keeps nothing.
    results: dict[int, StreamResult[int]] = {}
    failed = False
    try:
        with (
            session.connected(address, retry_for) as client,
            session.progress(
                len(pictures), "classifying", quiet=as_json and sys.stdout.isatty()
            ) as bar,
        ):
            for result in client.classify_stream(
                enumerate(pictures),
                max_in_flight=in_flight,
                gallery=gallery,
                top_k=(3 if explain else 2) if top_k is None else top_k,
                ocr=False if no_ocr else None,
                explain=explain,
                min_revision=min_revision,
            ):
                failed = failed or result.error is not None
                if html is not None or not as_json:
                    results[result.key] = result
                if as_json:
                    _print_json(pictures[result.key], result)
                bar.step()
            if html is not None:
                answered = [
                    static_page.Looked(pictures[at], known)
                    for at in sorted(results)
                    if (known := results[at].classification) is not None
                ]
                with session.progress(len(answered), "writing", quiet=as_json) as writing:
                    try:
                        index = static_page.write(
                            html,
                            answered,
                            client,
                            gallery=gallery,
                            sort=sort,
                            show_digits=show_digits,
                            step=writing.step,
                        )
                    except OSError as error:
                        session.fail(f"cannot write {error.filename}: {error.strerror}")
                session.tell(f"the same with pictures: {index}")
    finally:
        # What was answered before the server went away is shown too.
        if results and not as_json:
            _print_table(pictures, results, explain=explain and html is None)
    if failed:
        raise typer.Exit(1)


def _print_json(picture: Path, result: StreamResult[int]) -> None:
    if result.error is not None:
        wire.print_line(file=picture, error=result.error)
    else:
        wire.print_line(result.classification, file=picture)


def _print_table(
    pictures: Sequence[Path], results: dict[int, StreamResult[int]], *, explain: bool
) -> None:
    answers = [(pictures[at], results[at].classification) for at in sorted(results)]
    known = [(picture, answer) for picture, answer in answers if answer is not None]
    console = session.output()
    if known:
        console.print(render.explained(known) if explain else render.answers(known))
    console.print(render.summary([answer for _, answer in known], asked=len(pictures)))
    for at in sorted(results):
        error = results[at].error
        if error is not None:
            session.warn(render.failure(pictures[at], error))
