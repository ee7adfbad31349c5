"""`pagesight review`: a page on loopback for the person beside the machine.

    DIR, or what the server kept ──> feeds ──> desk ──> page at 127.0.0.1
    Ctrl-C ──> what is left is sent ──> what was decided, and what is not enrolled

What needs the extra `review` is imported when the command runs.
"""

from __future__ import annotations

import importlib
import logging
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from pagesight._cli import changes, files, render, session
from pagesight._client import Client
from pagesight._errors import (
    AbortedError,
    NotFoundError,
    PagesightError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from pagesight._review_page.desk import Desk
    from pagesight._review_page.feeds import Feed
    from pagesight._review_page.review import Review

NEEDED = {"jinja2", "python_multipart", "starlette", "uvicorn"}
"""What the extra `review` installs."""

RETRY_FOR_S = 1.0
"""How long a call waits for a server that is away: the page says so, and asks again itself."""

SEND_FOR_S = 5.0
"""How long the end waits without a word until what was decided is with the server."""

MOST_CHARS = 256
"""Most characters of a reviewer's name, as the contract has it (review.proto)."""

NOBODY, NEVER = "0" * 64, 2**62
"""A picture that no gallery holds, and a revision that none reaches: removing the one at the other
changes nothing, and needs the role to change."""


@session.teaching
def review(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]",
            exists=True,
            help="Pictures to look at, subfolders and all.",
            show_default="what the server kept: review.keep",
        ),
    ] = None,
    *,
    address: session.AddressOption = session.DEFAULT_ADDRESSES,
    retry_for: session.RetryForOption = None,
    gallery: session.GalleryOption = "default",
    reviewer: Annotated[
        str,
        typer.Option(envvar="PAGESIGHT_AUTHOR", help="Who decides.", show_default="your account"),
    ] = "",
    known_share: Annotated[
        float,
        typer.Option(min=0, max=0.5, help="Share of hidden items whose label is known."),
    ] = 0.05,
    second_opinions: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of what others decided that is decided again."),
    ] = 0.1,
    questions: Annotated[
        bool,
        typer.Option(help="Ask what `pagesight gallery doctor` finds, too."),
    ] = True,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write what is decided into DIR/<label>/, for `calibrate --validation` and "
            "`evaluate`.",
        ),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Labelled pictures, DIR/<label>/*, that a preview answers before and after.",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen on this machine; 0: any.")
    ] = 0,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-browser", help="Open the page in your browser.")
    ] = False,
    show_digits: Annotated[
        bool,
        typer.Option("--show-digits", help="Do not mask digits; the server notes each picture."),
    ] = False,
) -> None:
    """Look at doubtful answers, correct them, and teach what is new.

    Serves a page on this machine alone and prints its address. Each decision is
    recorded on the server at once (role `review`); pictures are enrolled in batches,
    when you say so (role `gallery-write`). Ctrl-C ends it.

    Examples:
      pagesight review screenshots/
      pagesight review --open              (what the server kept: review.keep)
      pagesight review screenshots/ --export labelled/
    """
    needing_review_extra()
    from pagesight._review_page import serve

    pictures: Sequence[Path] | None = None
    if folder is not None:
        found = files.pictures([folder])
        session.tell_left_out(found.left_out_in_words)
        pictures = found.pictures
    truths = [] if validation is None else files.labelled([validation], "").pictures
    name = reviewer or changes.account()
    if len(name) > MOST_CHARS or not name.isprintable():
        session.fail(f"--reviewer has at most {MOST_CHARS} characters, all of them printable")
    with (
        session.connected(address, RETRY_FOR_S if retry_for is None else retry_for) as client,
        reviewing(
            client,
            gallery=gallery,
            reviewer=name,
            pictures=pictures,
            known_share=known_share,
            second_opinions=second_opinions,
            questions=questions,
            export=export,
            validation=[(picture.path, picture.label) for picture in truths],
            show_digits=show_digits,
        ) as made,
    ):
        from pagesight._review_page.app import build

        try:
            listening = serve.listen(port)
        except OSError as error:
            session.fail(f"cannot listen on 127.0.0.1:{port}: {error.strerror}")
        port = listening.getsockname()[1]
        url = f"http://{serve.HOST}:{port}/?token={made.secrets.token}"

        def ready() -> None:
            typer.echo(url)
            session.tell("Ctrl-C ends it; the address is yours alone")
            if open_browser:
                webbrowser.open(url)

        logging.getLogger("pagesight.review").addHandler(_AuditHandler())
        logging.getLogger("pagesight.review").setLevel(logging.INFO)
        serve.serve(build(made, port), listening, ready)
    _tell_end(made)


def needing_review_extra() -> ModuleType:
    """Returns the static page, which needs what the extra installs; without it, the command ends.

    Raises:
        typer.Exit: One line says what to install.
    """
    try:
        for name in sorted(NEEDED):
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        session.warn("pagesight: this needs its extra: pip install 'pagesight[review]'")
        raise typer.Exit(2) from None
    return importlib.import_module("pagesight._review_page.static_page")


class _AuditHandler(logging.Handler):
    """Prints what is noted: that digits were shown, or why work behind the page failed."""

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            session.tell(line)


@contextmanager
def reviewing(
    client: Client,
    *,
    gallery: str,
    reviewer: str,
    pictures: Sequence[Path] | None,
    known_share: float,
    second_opinions: float,
    questions: bool,
    export: Path | None,
    validation: Sequence[tuple[Path, str]],
    show_digits: bool,
) -> Iterator[Review]:
    """Gives what the page works on, and sends what is left at the end."""
    from pagesight._review_page import feeds as feed
    from pagesight._review_page.batch import Batches
    from pagesight._review_page.desk import Desk
    from pagesight._review_page.discovery import Discoveries
    from pagesight._review_page.export import ExportFolder
    from pagesight._review_page.reach import Reach
    from pagesight._review_page.review import Review

    may_enrol = _check_roles(client, gallery, pictures)
    if not may_enrol:
        session.tell("you may decide, not enrol: that needs the role gallery-write")
    reach = Reach()
    desk = Desk(
        client,
        gallery=gallery,
        reviewer=reviewer,
        recorded_name=client.recorded_name(reviewer, gallery=gallery),
        reach=reach,
        known_share=known_share,
        second_opinions=second_opinions,
        show_digits=show_digits,
    )
    if show_digits:
        session.tell(f"digits are shown to {reviewer}; the server notes each picture")
    try:
        exporting = None if export is None else ExportFolder(export)
    except OSError as error:
        session.fail(f"cannot write to {error.filename}: {error.strerror}")
    of_folder = None
    decisions = feed.DecisionsFeed(client, gallery, desk, reach)
    feeds: list[Feed] = [decisions]
    if questions:
        feeds.append(feed.QuestionsFeed(client, gallery, desk, reach))
    if known_share:
        feeds.append(feed.KnownFeed(client, gallery, desk, reach))
    if pictures is None:
        feeds.append(feed.KeptFeed(client, gallery, desk, reach, decisions.caught_up))
    else:
        of_folder = feed.FolderFeed(client, gallery, desk, reach, pictures)
        feeds.append(of_folder)
    source = feeds[-1]
    desk.feeding = lambda: not source.caught_up.is_set()
    batches = Batches(desk, author=reviewer, export=exporting, validation=validation)
    for one in feeds:
        one.start()
    try:
        yield Review(
            desk=desk,
            batches=batches,
            discoveries=Discoveries(desk, batches, author=reviewer, kept=pictures is None),
            may_enrol=may_enrol,
            fed=source.caught_up,
            progress=lambda: None if of_folder is None else (of_folder.answered, of_folder.total),
        )
    finally:
        for one in feeds:
            one.stop()
        desk.close()
        _send_the_rest(desk)


def _send_the_rest(desk: Desk) -> None:
    """Waits until all that was decided is recorded, however long the server is away."""
    unsent = desk.outbox.unsent
    try:
        unsent = desk.outbox.close(SEND_FOR_S)
        if not unsent:
            return
        refusal = "" if desk.reach.away else "".join(desk.reach.refusals[-1:])
        with suppress(OSError):  # the terminal may be closed
            session.warn(
                f"{refusal or 'the server is away'}: waiting to send "
                f"{render.count(unsent, 'decision')}; Ctrl-C again gives them up"
            )
        while unsent := desk.outbox.wait_until_sent(SEND_FOR_S):
            continue
    except KeyboardInterrupt:
        session.warn(f"given up: {render.count(unsent, 'decision')}")


def _check_roles(client: Client, gallery: str, pictures: Sequence[Path] | None) -> bool:
    """Checks that decisions can be recorded, and returns whether pictures may be enrolled."""
    try:
        next(iter(client.list_decisions(gallery=gallery, page_size=1)), None)
        if pictures is None and not client.keep_limits(gallery=gallery).capacity:
            session.fail(
                "the server keeps no answers for review: set review.keep, or name a folder of "
                "pictures"
            )
    except PermissionDeniedError as error:
        session.fail(f"{error.message}: recording what you decide needs the role review")
    except PagesightError as error:
        if error.code == "UNIMPLEMENTED":
            session.fail("the server is older than `pagesight review`: upgrade it first")
        raise
    try:
        client.remove([NOBODY], gallery=gallery, expected_revision=NEVER)
    except PermissionDeniedError:
        return False
    except (AbortedError, NotFoundError):  # it may, and there is nothing to do
        return True
    return True


def _tell_end(made: Review) -> None:
    """Says what was decided, and what is not enrolled."""
    desk: Desk = made.desk
    decided = desk.decided
    known = [one for one in decided if one.waiting.origin == "known"]
    corrected = sum(one.corrected for one in decided if one not in known)
    told = f"{render.count(len(decided) - len(known), 'decision')}, {corrected} corrected"
    if desk.outbox.refused:
        told += f"; {desk.outbox.refused} not recorded, as the server refused them"
        session.warn("; ".join(desk.reach.refusals[-3:]))
    waiting = desk.counts.teach
    if waiting:
        told += f"; {render.count(waiting, 'picture')} marked and not enrolled"
    session.tell(told)
    if made.batches.made:
        kept = [one for one in made.batches.made if not one.undone]
        session.tell(f"enrolled: {', '.join(f'revision {one.revision}' for one in kept) or 'none'}")
    if made.batches.export is not None:
        session.tell(f"labelled pictures: {made.batches.export.root}")
