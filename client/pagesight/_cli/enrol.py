"""`pagesight gallery enrol`: teach pages while the server runs.

    files of one label ──not in the gallery yet──> calls, as many as it takes ──> a revision each
                     └──there already──> never sent again

What a call may hold is the server's to say; where it is less than usual, its refusal says how much.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from pagesight._changes import EnrolOutcome, EnrolResult, Progress
from pagesight._cli import changes, files, render, session, wire
from pagesight._client import Client
from pagesight._errors import NotFoundError, ResourceExhaustedError
from pagesight._inputs import EnrolItem

ITEM_OVERHEAD_BYTES = 2_048
"""More than a picture's label, its source and the message around them ever take."""

_CALL_LIMITS = re.compile(r"one call enrols at most ([\d,]+) pictures and ([\d,]+) bytes")
"""How a server refuses a call that holds too much (service/gates.py). A gallery that is full is
refused otherwise, and no smaller call would help."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may hold; unless the server says otherwise, its defaults."""

    items: int = 1_000
    size_bytes: int = 256 * 1024 * 1024

    @staticmethod
    def told_by(error: ResourceExhaustedError) -> CallLimits | None:
        """Returns the limits that a refusal names; None where it is of something else."""
        told = _CALL_LIMITS.search(error.message)
        if told is None:
            return None
        items, size_bytes = (int(number.replace(",", "")) for number in told.groups())
        return CallLimits(items, size_bytes)

    def fitting(self, of_label: Sequence[files.LabelledFile]) -> Sequence[files.LabelledFile]:
        """Returns the first files that fit into a call, at least one."""
        size = 0
        for count, file in enumerate(of_label[: self.items]):
            size += file.size_bytes + ITEM_OVERHEAD_BYTES
            if count and size > self.size_bytes:
                return of_label[:count]
        return of_label[: self.items]


@dataclass(slots=True)
class Enrolment:
    """Enrols the pictures of labels, one label after the other."""

    client: Client
    gallery: str
    author: str
    expected_revision: int | None
    limits: CallLimits = field(default_factory=CallLimits)
    revision: int | None = None
    """Of the gallery, once it was asked for or changed."""

    def enrol(
        self,
        label: str,
        of_label: Sequence[files.LabelledFile],
        progress: Callable[[int], None],
    ) -> Iterator[tuple[files.LabelledFile, EnrolOutcome]]:
        """Yields what became of each file, call by call.

        Args:
            label: The page that all of them show.
            of_label: The files.
            progress: Called with how many of them are done.
        """
        there = self._there(label)
        if there and self.revision is None:
            self.revision = self.client.get_gallery(gallery=self.gallery).revision
        new = []
        for file in of_label:
            image_id = _image_id(file.path) if there else ""
            if image_id in there:
                yield file, EnrolOutcome(image_id=image_id, added=False)
            else:
                new.append(file)
        done = len(of_label) - len(new)
        while new:
            some = self.limits.fitting(new)
            try:
                result = self._call(label, some, done, progress)
            except ResourceExhaustedError as error:
                limits = CallLimits.told_by(error)
                if limits is None or limits == self.limits:
                    raise
                self.limits = limits
                continue
            self.revision = result.revision
            # A gallery that must be new still is, when nothing could be enrolled so far.
            if self.expected_revision is not None:
                self.expected_revision = result.revision
            done += len(some)
            progress(done)
            yield from zip(some, result.outcomes, strict=True)
            new = new[len(some) :]

    def _call(
        self,
        label: str,
        some: Sequence[files.LabelledFile],
        before: int,
        progress: Callable[[int], None],
    ) -> EnrolResult:
        items = [EnrolItem(image=file.path, label=label, source=file.source) for file in some]

        def show(made: Progress) -> None:
            progress(before + made.done)

        change = changes.options(self.gallery, self.author, self.expected_revision)
        return self.client.enrol(items, progress=show, **change)

    def _there(self, label: str) -> frozenset[str]:
        """The ids of the pictures that need not be sent again."""
        if self.expected_revision is not None:
            # Whether the gallery is at it, only a call can tell.
            return frozenset()
        try:
            listed = self.client.list_images(gallery=self.gallery, label=label, page_size=1_000)
            return frozenset(image.image_id for image in listed)
        except NotFoundError:
            return frozenset()


def _image_id(path: Path) -> str:
    """The id of a picture; empty where it cannot be read, or not twice, as with a pipe."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


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
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    author: changes.AuthorOption = "",
    expected_revision: changes.ExpectedOption = None,
    as_json: session.JsonOption = False,
) -> None:
    """Teach pages: add labelled screenshots, one revision per label.

    The next query knows them. Pictures that the gallery has already are skipped,
    so a run that was broken off goes on when it is run again. A label with more
    pictures than one call may hold takes several calls, and a revision for each.
    "other" and labels that begin with "other_" are examples of unknown pages.

    Examples:
      pagesight gallery enrol new.png old.png --label dxm_user_info
      pagesight gallery enrol pages/     (pages/dxm_user_info/1.png, pages/zsyh_amount/1.png, ...)
    """
    found = files.labelled(paths, label)
    session.tell_left_out(found.left_out_in_words)
    if files.NOT_IN_A_LABEL_FOLDER in found.left_out:
        session.warn("put pictures into a label's folder, or give --label")
    rows: dict[str, _Row] = {}
    failures: list[str] = []
    same: list[str] = []
    total = len(found.pictures)
    try:
        with (
            session.connected(address, retry_for) as client,
            session.progress(total, "enrolling", quiet=as_json) as bar,
        ):
            enrolment = Enrolment(client, gallery, author, expected_revision)
            before = 0
            for name, group in groupby(found.pictures, key=lambda file: file.label):
                of_label = list(group)

                def show(done: int, before: int = before) -> None:
                    bar.show(Progress(done=before + done, total=total))

                for file, outcome in enrolment.enrol(name, of_label, show):
                    rows.setdefault(name, _Row()).count(outcome, enrolment.revision or 0)
                    if as_json:
                        revision = enrolment.revision
                        wire.print_line(outcome, file=file.path, label=name, revision=revision)
                    elif outcome.error is not None:
                        failures.append(render.failure(file.path, outcome.error))
                    elif outcome.near_duplicates:
                        same.append(render.near_duplicate(file.path, label=name, of=outcome))
                before += len(of_label)
                show(0, before)
    finally:
        if rows and not as_json:
            session.output().print(
                render.enrolled((name, *row.numbers()) for name, row in rows.items())
            )
            for line in (*same, *failures):
                session.warn(line)
    if any(row.failed for row in rows.values()):
        raise typer.Exit(1)


@dataclass(slots=True)
class _Row:
    """What became of the pictures of a label."""

    added: int = 0
    known: int = 0
    failed: int = 0
    revision: int = 0

    def count(self, outcome: EnrolOutcome, revision: int) -> None:
        self.revision = revision
        if outcome.error is not None:
            self.failed += 1
        elif outcome.added:
            self.added += 1
        else:
            self.known += 1

    def numbers(self) -> tuple[int, int, int, int]:
        return self.added, self.known, self.failed, self.revision
