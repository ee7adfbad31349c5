"""What every command does around its work: reach the server, show progress, fail well.

Results go to stdout, everything said about them to stderr. A failure is one line
that says what to do next, and exit code 1; a wrong command line is exit code 2.
"""

from __future__ import annotations

import difflib
import inspect
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pagesight._changes import Progress as CallProgress
from pagesight._cli import render
from pagesight._client import Client
from pagesight._connection import DEFAULT_ADDRESS
from pagesight._errors import PagesightError, UnavailableError
from pagesight._retry import DEFAULT_RETRY_FOR_S
from pagesight._security import TlsConfig

PROGRESS_AFTER_S = 2.0
"""Work shorter than this is not worth a progress bar."""

FIRST_CONTACT_S = 5.0
"""How long the first connection may take, before a command counts its server as away."""

VARIABLES = (
    "PAGESIGHT_ADDRESS",
    "PAGESIGHT_AUTHOR",
    "PAGESIGHT_RETRY_FOR",
    "PAGESIGHT_TOKEN",
    "PAGESIGHT_TLS_CA",
    "PAGESIGHT_TLS_CERT",
    "PAGESIGHT_TLS_KEY",
    "PAGESIGHT_TLS_SERVER_NAME",
)
"""What the commands read from the environment."""

_Command = TypeVar("_Command", bound=Callable[..., Any])

DEFAULT_ADDRESSES = [DEFAULT_ADDRESS]

AddressOption = Annotated[
    list[str],
    typer.Option(
        envvar="PAGESIGHT_ADDRESS",
        metavar="HOST:PORT",
        help="The server; several with commas or by repeating this; dns:///NAME:PORT for all that "
        "a name stands for.",
    ),
]
RetryForOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        envvar="PAGESIGHT_RETRY_FOR",
        metavar="SECONDS",
        help="How long to wait for a server that is away.",
        show_default=f"{DEFAULT_RETRY_FOR_S:g}, but not for one that is away at the start",
    ),
]
GalleryOption = Annotated[str, typer.Option(help="The gallery.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]

__all__ = [
    "DEFAULT_ADDRESSES",
    "AddressOption",
    "Bar",
    "GalleryOption",
    "JsonOption",
    "Proof",
    "RetryForOption",
    "answering",
    "connected",
    "fail",
    "output",
    "preparing",
    "progress",
    "teaching",
    "tell",
    "tell_left_out",
    "warn",
]


def output() -> Console:
    """Returns the console for results."""
    return Console(highlight=False, markup=False)


def _messages() -> Console:
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def tell(message: str, *, style: str = "") -> None:
    """Says something that is no result, in one line.

    Messages quote servers and files: what could steer the terminal becomes marks.
    """
    _messages().print(render.shown(message), style=style)


def warn(message: str) -> None:
    """Says what one item's matter is, without ending the command."""
    tell(message, style="red")


def tell_left_out(words: str) -> None:
    """Says what of the folders was left out, and why; nothing where nothing was."""
    if words:
        tell(f"left out: {words}", style="yellow")


def fail(message: str) -> NoReturn:
    """Ends the command with one line."""
    warn(f"pagesight: {message}")
    raise typer.Exit(1)


def teaching(command: _Command) -> _Command:
    """Keeps the lines of a command's indented examples apart in its --help."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    command.__doc__ = "\n\n".join(
        f"\b\n{paragraph}" if "\n  " in paragraph else paragraph for paragraph in paragraphs
    )
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What proves who asks: from the environment, where it is in no list of processes."""

    token: str | None = field(repr=False)
    tls: TlsConfig | None
    """None: no TLS."""

    @classmethod
    def from_environment(cls) -> Proof:
        """Reads PAGESIGHT_TOKEN and PAGESIGHT_TLS_...; any of these asks for TLS.

        Raises:
            ValueError: A certificate comes without its key, or a key without its certificate.
        """
        ca, cert, key, name = (
            os.environ.get(f"PAGESIGHT_TLS_{what}") for what in ("CA", "CERT", "KEY", "SERVER_NAME")
        )
        if bool(cert) != bool(key):
            raise ValueError("PAGESIGHT_TLS_CERT and PAGESIGHT_TLS_KEY belong together")
        asked = ca is not None or cert or name
        tls = TlsConfig(ca=ca or None, cert=cert or None, key=key or None, server_name=name or "")
        return cls(token=os.environ.get("PAGESIGHT_TOKEN") or None, tls=tls if asked else None)


@contextmanager
def connected(address: Sequence[str], retry_for_s: float | None) -> Iterator[Client]:
    """Gives a client of the server and ends the command when the server cannot answer.

    Args:
        address: The server, or several.
        retry_for_s: How long to wait for a server that is away. None: as a client does by
            itself, but not at the start, where most often nobody has started one.
    """
    with preparing(address):
        proof = Proof.from_environment()
        if retry_for_s is None:
            with Client(address, tls=proof.tls, token=proof.token) as client:
                retry_for_s = DEFAULT_RETRY_FOR_S if client._can_connect(FIRST_CONTACT_S) else 0.0
        client_of_ours = Client(address, tls=proof.tls, token=proof.token, retry_for_s=retry_for_s)
    with answering(), client_of_ours as client:
        yield client


@contextmanager
def preparing(address: Sequence[str]) -> Iterator[None]:
    """Ends the command with one line when address or proof cannot be used."""
    if not address or not all(address):
        raise typer.BadParameter("write host:port", param_hint="--address")
    for line in misspelt_variables(os.environ):
        warn(line)
    try:
        yield
    except OSError as error:
        fail(f"PAGESIGHT_TLS_...: cannot read {error.filename}: {error.strerror}")
    except ValueError as error:
        fail(str(error))


@contextmanager
def answering() -> Iterator[None]:
    """Ends the command with one line when the server cannot be reached or refuses."""
    try:
        yield
    except UnavailableError as error:
        if error.reason:  # a server did answer, or its TLS
            fail(error.message)
        fail(
            f"{error.message}; start one with `pagesight-server serve`, or name another with "
            "--address"
        )
    except PagesightError as error:
        fail(error.message)


def misspelt_variables(names: Iterable[str]) -> list[str]:
    """Returns a line on each variable that is almost one of ours; the server's are left alone."""
    told = []
    for name in names:
        if not name.startswith("PAGESIGHT_") or name in VARIABLES:
            continue
        # Without what they have in common, or all would be alike. ADDR is 0.73 like ADDRESS; no
        # setting of the server is more than 0.6 like one of ours.
        ours = [known.removeprefix("PAGESIGHT_") for known in VARIABLES]
        alike = difflib.get_close_matches(name.removeprefix("PAGESIGHT_"), ours, 1, cutoff=0.7)
        told += [f"{name} is not read: did you mean PAGESIGHT_{meant}?" for meant in alike]
    return told


class Bar:
    """A progress bar that may not be on the screen."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar = bar
        self._task = task

    def step(self) -> None:
        """Notes one more step."""
        self._bar.advance(self._task)

    def show(self, progress: CallProgress) -> None:
        """Notes how far the server says it is."""
        self._bar.update(self._task, completed=progress.done, total=progress.total)


@contextmanager
def progress(total: int | None, what: str, *, quiet: bool = False) -> Iterator[Bar]:
    """Gives a bar of `total` steps, and shows it if they take long."""
    messages = _messages()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
        # Results on stdout are not ours to move to stderr.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task = bar.add_task(what, total=total)
    shown = messages.is_terminal and not quiet
    starter = threading.Timer(PROGRESS_AFTER_S, bar.start)
    starter.daemon = True
    if shown:
        starter.start()
    try:
        yield Bar(bar, task)
    finally:
        if shown:
            starter.cancel()
            starter.join()
        if bar.live.is_started:
            bar.stop()
