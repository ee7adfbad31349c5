"""A whole set of sample screenshots on disk: a gallery, and a test set that is harder.

    OUT/gallery/<label>/*  OUT/gallery/labels.toml  OUT/test/<label>/*  OUT/test/other_…/*
    OUT/PROVENANCE.tsv

Every picture is one `Picture`, drawn alone from its own seed, so the set is the same however
many processes draw it. Files are named by their content and say nothing of it; which of the test
pictures show a newer version of their app is in `PROVENANCE.tsv`.
"""

import hashlib
import json
import multiprocessing
import random
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.samples import variation
from tests.samples.brands import brand_of
from tests.samples.catalog import DEMO_LABELS, LABELS, outputs
from tests.samples.drawing import OTHER_KINDS, Version, known_page, take_other
from tests.samples.fonts import font_path
from tests.samples.screen import take

SETS = {"all": LABELS, "demo": DEMO_LABELS}
"""Labels of each choice of `--labels`."""

NEW_VERSION_EVERY = 3
"""Every third test picture shows a newer version of its app, unlike the gallery."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture to draw, and its place in the set."""

    folder: str
    """Folder below OUT, such as `test/other_finance`."""
    number: int
    seed: int
    width: int | None
    labels: tuple[str, ...]

    @property
    def label(self) -> str:
        """The known label, or the kind of unknown page."""
        return self.folder.rpartition("/")[2]

    @property
    def version(self) -> Version:
        """The version of its app that a known page shows."""
        turn = self.number + zlib.crc32(self.label.encode())
        newer = self.folder.startswith("test/") and turn % NEW_VERSION_EVERY == 0
        return "new" if newer else "old"


def render(picture: Picture) -> tuple[str, bytes]:
    """Draw and encode a picture; returns its file name and content."""
    seed = f"{picture.seed} {picture.folder} {picture.number}"
    rng = random.Random(f"shot {seed}")
    shot = variation.shot(rng, width=picture.width)
    typing = picture.label.endswith(("user_info", "yqh"))
    over = variation.overlay(rng, typing=typing)
    if picture.label in OTHER_KINDS:
        image = take_other(
            picture.label, seed, shot, picture.labels, number=picture.number, overlay=over
        )
    else:
        page = known_page(picture.label, seed, version=picture.version)
        image = take(page, shot, over)
    content, ending = variation.encode(image, rng)
    return hashlib.sha256(content).hexdigest()[:16] + ending, content


def pictures(
    labels: Iterable[str],
    *,
    gallery: int,
    test: int,
    other: int,
    seed: int = 0,
    width: int | None = None,
) -> Iterator[Picture]:
    """All pictures of a set; `gallery` and `test` count per label, `other` per unknown kind."""
    labels = tuple(labels)
    folders = [(f"gallery/{label}", gallery) for label in labels]
    folders += [(f"test/{label}", test) for label in labels]
    folders += [(f"test/{kind}", other) for kind in OTHER_KINDS]
    for folder, count in folders:
        for number in range(count):
            yield Picture(folder=folder, number=number, seed=seed, width=width, labels=labels)


def labels_toml(labels: Iterable[str]) -> str:
    """The text of `labels.toml`: brand names and business labels of each label."""
    parts = []
    for label in labels:
        brands = json.dumps(list(brand_of(label).words), ensure_ascii=False)
        parts.append(f"[{label}]\nbrands  = {brands}\noutputs = {json.dumps(outputs(label))}\n")
    return "\n".join(parts)


def write_dataset(
    out: Path,
    *,
    labels: Iterable[str] = LABELS,
    gallery: int = 10,
    test: int = 6,
    other: int = 12,
    seed: int = 0,
    width: int | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a gallery and a test set below `out`; returns the number of pictures.

    Args:
        out: A folder; made when missing. Pictures that are there already stay.
        labels: Known labels to draw.
        gallery: Pictures of each label in the gallery.
        test: Pictures of each label in the test set.
        other: Pictures of each kind of unknown page.
        seed: Fixes every picture.
        width: In pixels, for all; none mixes the widths of common phones.
        jobs: Processes that draw.
        progress: Called with the pictures done and their total.

    Raises:
        ValueError: A label is not known.
        FontMissingError: A face is not installed.
    """
    labels = tuple(labels)
    if unknown := sorted(set(labels) - set(LABELS)):
        raise ValueError(f"no sample page for {', '.join(unknown)}: there are {', '.join(LABELS)}")
    for bold in (False, True):
        font_path(bold=bold)
    wanted = list(pictures(labels, gallery=gallery, test=test, other=other, seed=seed, width=width))
    (out / "gallery").mkdir(parents=True, exist_ok=True)
    (out / "gallery" / "labels.toml").write_text(labels_toml(labels), encoding="utf-8")
    rows = ["file\tversion"]
    for number, (picture, (name, content)) in enumerate(_rendered(wanted, jobs), 1):
        folder = out / picture.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        if picture.folder.startswith("test/") and picture.label not in OTHER_KINDS:
            version = "newer" if picture.version == "new" else "same"
            rows.append(f"{picture.folder}/{name}\t{version}")
        if progress is not None:
            progress(number, len(wanted))
    (out / "PROVENANCE.tsv").write_text("\n".join([*rows, ""]), encoding="utf-8")
    return len(wanted)


def _rendered(wanted: list[Picture], jobs: int) -> Iterator[tuple[Picture, tuple[str, bytes]]]:
    if jobs <= 1:
        yield from ((picture, render(picture)) for picture in wanted)
        return
    # A forked child of a process with threads may hang, and callers have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        yield from zip(wanted, pool.map(render, wanted, chunksize=4), strict=True)
