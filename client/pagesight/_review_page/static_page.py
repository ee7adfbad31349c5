"""`pagesight classify DIR --html OUT`: the same view, for those who only look.

    answers ──in order──> cards ──> OUT/index.html
                             └────> OUT/pictures: the screenshots, and the gallery's beside them

The folder needs nothing else and asks nobody. Texts are masked, and the pictures' digits covered:
the pictures themselves are whole, as whoever may read the folder may know.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from pagesight._classification import Classification
from pagesight._client import Client
from pagesight._errors import NotFoundError
from pagesight._requests import read_image
from pagesight._review_page import view
from pagesight._review_page.export import SUFFIXES, file_stem, media_type
from pagesight._review_page.model import Card, Waiting
from pagesight._review_page.order import in_order
from pagesight._review_page.pictures import Pictures

Sort: TypeAlias = Literal["doubt", "name"]

MODE_FOLDER, MODE_FILE = 0o700, 0o600
"""It shows screenshots: it is its owner's alone."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Holds one screenshot and its answer."""

    path: Path
    answer: Classification


def write(
    out: Path,
    looked: Sequence[Looked],
    client: Client,
    *,
    gallery: str,
    sort: Sort,
    show_digits: bool,
    step: Callable[[], None],
) -> Path:
    """Writes the page, and returns where it is.

    Args:
        out: A folder, made where there is none.
        looked: What to show.
        client: Reads the gallery's pictures.
        gallery: Which.
        sort: `doubt`: the most useful first, as in the queue of `pagesight review`.
        show_digits: Mask nothing.
        step: Called after each picture.

    Raises:
        OSError: It cannot be written.
        PagesightError: The server does not answer any more.
    """
    pictures = out / "pictures"
    pictures.mkdir(parents=True, exist_ok=True, mode=MODE_FOLDER)
    waiting = [
        Waiting(
            image_id=f"{at:064x}" if sort == "name" else _spread(at),
            origin="folder",
            label=one.answer.label,
            closest_label=one.answer.closest_label,
            doubt=one.answer.doubt,
            doubtful=one.answer.review,
            key=f"{at:05}",
        )
        for at, one in enumerate(looked)
    ]
    ordered = in_order(waiting)
    if sort == "name":
        ordered.sort(key=lambda placed: placed[0].key)
    sizes = Pictures(client, gallery)
    of_gallery: dict[str, str] = {}
    shown = []
    for item, stage in ordered:
        one = looked[int(item.key)]
        for closest in one.answer.candidates[:1]:
            if closest.image_id not in of_gallery:
                of_gallery[closest.image_id] = ""
                stem = file_stem(closest.image_id)
                with suppress(NotFoundError):
                    data = client.get_image(closest.image_id, gallery=gallery)
                    of_gallery[closest.image_id] = _put(pictures, stem, data)
                    sizes.learn_size(closest.image_id, closest.label, one.answer.revision)
        card = Card(waiting=item, answer=one.answer, stage=stage, revealed=show_digits)
        name = _put(pictures, item.key, read_image(one.path))
        shown.append((view.card_view(card, sizes.size), name, one.path.name))
        step()
    static = Path(__file__).parent / "static"
    for name in ("style.css", "boxes.js"):
        shutil.copyfile(static / name, out / name)
    index = out / "index.html"
    _write(
        index,
        view.environment()
        .get_template("static.html.j2")
        .render(cards=shown, of_gallery=of_gallery, gallery=gallery)
        .encode(),
    )
    return index


def _spread(at: int) -> str:
    """A stand-in for a hash, so that a tenth is drawn evenly: Knuth's multiplicative hashing."""
    return f"{at * 2654435761 % 2**32:08x}".ljust(64, "0")


def _put(folder: Path, name: str, data: bytes) -> str:
    """Writes a picture and returns its address from the page."""
    path = folder / f"{name}{SUFFIXES.get(media_type(data), '')}"
    _write(path, data)
    return f"{folder.name}/{path.name}"


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=MODE_FILE)
    path.write_bytes(data)
