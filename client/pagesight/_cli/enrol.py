"""`pagesight gallery enrol`: teach pages while the server runs."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from pagesight._cli import changes, files, render, session, wire
from pagesight._results import EnrolItem, EnrolResult, Progress


@session.teaching
def enrol(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH",
            help="With --label: pictures and folders of them. Without: folders that hold one "
            "folder per label.",
        ),
    ],
    *,
    label: Annotated[str, typer.Option(help="The page that all of them show.")] = "",
    address: session.AddressOption = session.DEFAULT_ADDRESS,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Teach pages: add labelled screenshots, one revision per label.

    The next query knows them. Pictures that the gallery has already are skipped,
    so it is safe to run again. "other" and labels that begin with "other_" are
    examples of unknown pages.

    Examples:
      pagesight gallery enrol new.png old.png --label dxm_user_info
      pagesight gallery enrol pages/     (pages/dxm_user_info/1.png, pages/zsyh_amount/1.png, ...)
    """
    found = files.labelled(paths, label)
    for folder, left_out in files.unlabelled(paths, label):
        session.warn(
            f"{render.count(left_out, 'picture')} directly in {render.shown(folder)} left out: "
            "put them into a label's folder, or give --label"
        )
    rows: list[tuple[str, int, int, int, int]] = []
    failures: list[str] = []
    same: list[str] = []
    try:
        with (
            session.connected(address) as client,
            session.progress(len(found), "enrolling", quiet=as_json) as bar,
        ):
            enrolled = 0
            for name, group in groupby(found, key=lambda file: file.label):
                of_label = list(group)
                change = changes.options(gallery, author, expected_revision)

                def show(progress: Progress, before: int = enrolled) -> None:
                    bar.show(Progress(done=before + progress.done, total=len(found)))

                items = [
                    EnrolItem(image=file.path, label=name, source=file.source) for file in of_label
                ]
                result = client.enrol(items, progress=show, **change)
                enrolled += len(items)
                show(Progress(done=0, total=0), before=enrolled)
                # A gallery that must be new still is, when nothing could be enrolled so far.
                if expected_revision is not None:
                    expected_revision = result.revision
                rows.append(_counts(name, result))
                for file, outcome in zip(of_label, result.outcomes, strict=True):
                    if as_json:
                        wire.print_line(
                            outcome, file=file.path, label=name, revision=result.revision
                        )
                    elif outcome.error is not None:
                        failures.append(render.failure(file.path, outcome.error))
                    elif outcome.near_duplicates:
                        same.append(render.near_duplicate(file.path, label=name, of=outcome))
    finally:
        if rows and not as_json:
            session.output().print(render.enrolled(rows))
            for line in (*same, *failures):
                session.warn(line)
    if any(failed for _, _, _, failed, _ in rows):
        raise typer.Exit(1)


def _counts(label: str, result: EnrolResult) -> tuple[str, int, int, int, int]:
    added = sum(outcome.added for outcome in result.outcomes)
    failed = sum(outcome.error is not None for outcome in result.outcomes)
    return label, added, len(result.outcomes) - added - failed, failed, result.revision
