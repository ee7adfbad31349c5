"""What happens to a screenshot between the phone and the service, and what it does to the answer.

    shown page ──dark, inverted, as_display_p3, grey──> other colours
               ──scaled, compressed──> other pixels
               ──without_top, without_bottom, continued──> less of the page, or more
    altered pages ──pipeline, drawn gallery──> outcomes: the answer before and after

`ALTERATIONS` is the whole list, each with by how much it may move the score of a page. The
gallery is drawn as `tests.samples` draws sets: its pictures are altered, too, but not in pairs.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pagesight_server import wiring
from pagesight_server.config import read_config
from pagesight_server.gallery.snapshot import DEFAULT_GALLERY, LabelFacts, Picture, Snapshot
from pagesight_server.recognition.decision import Decision
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.text.lines import STATUS_BAR
from pagesight_server.workflows.pipeline import Pipeline
from tests.samples import dataset, draw, draw_other
from tests.samples.brands import brand_of
from tests.support.pictures import encoded

WIDTH_PX = 720
"""Width of the drawn pages: the narrowest of common phones, so that half of it is still read."""

SRGB_TO_DISPLAY_P3 = np.asarray(
    [[0.822462, 0.177538, 0.0], [0.033194, 0.966806, 0.0], [0.017083, 0.072397, 0.910520]]
)
"""Linear light of sRGB's primaries as that of Display P3's, both with white point D65: the inverse
of `lin_P3_to_XYZ` times `lin_sRGB_to_XYZ` in the sample code of CSS Color Module Level 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A screenshot of a known page."""

    label: str
    picture: Image.Image
    dark: Image.Image
    """The same page in its app's dark theme."""
    below: Image.Image
    """An unknown page, whose lower half stands for what was never seen of this one."""


class Alteration(NamedTuple):
    """One thing that happens to screenshots."""

    alter: Callable[[Shown], Image.Image]
    moves: float
    """By how much it moves the score of an answer, at most: a quarter more than in the worst case
    of docs/recognition.md, drawn or real, rounded up, and at least 0.03."""


class Outcome(NamedTuple):
    """The answers to a screenshot and to the same one altered."""

    label: str
    """The page that it shows."""
    alterations: tuple[str, ...]
    """Keys of `ALTERATIONS`, in the order in which they were made."""
    before: Decision
    after: Decision


def as_display_p3(picture: Image.Image) -> Image.Image:
    """The values that a Display P3 file of the picture holds, its profile lost: paler colours."""
    values = np.asarray(picture, np.float64) / 255
    # The transfer curve is sRGB's in both: IEC 61966-2-1.
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = np.clip(light @ SRGB_TO_DISPLAY_P3.T, 0, 1)
    values = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.rint(255 * values).astype(np.uint8))


def grey(picture: Image.Image) -> Image.Image:
    """The picture without colours."""
    return picture.convert("L").convert("RGB")


def inverted(picture: Image.Image) -> Image.Image:
    """The picture with its luminance inverted and its hues kept, as forced dark modes do."""
    luminance, *chroma = picture.convert("YCbCr").split()
    inverse = luminance.point([255 - value for value in range(256)])
    return Image.merge("YCbCr", (inverse, *chroma)).convert("RGB")


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    """The picture at `factor` times its width and height."""
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG of a quality (1 to 95) shows it."""
    with Image.open(io.BytesIO(encoded(picture, "JPEG", quality=quality))) as copy:
        return copy.convert("RGB")


def without_top(picture: Image.Image) -> Image.Image:
    """The picture cut off below the phone's status bar."""
    return picture.crop((0, round(STATUS_BAR * picture.width), picture.width, picture.height))


def without_bottom(picture: Image.Image) -> Image.Image:
    """The picture less the last tenth of its height."""
    return picture.crop((0, 0, picture.width, round(0.9 * picture.height)))


def continued(picture: Image.Image, below: Image.Image) -> Image.Image:
    """A long screenshot: the picture and, under it, the lower half of another, as wide."""
    rest = scaled(below, picture.width / below.width)
    rest = rest.crop((0, rest.height // 2, rest.width, rest.height))
    long = Image.new("RGB", (picture.width, picture.height + rest.height))
    long.paste(picture, (0, 0))
    long.paste(rest, (0, picture.height))
    return long


ALTERATIONS: Mapping[str, Alteration] = {
    # In the order in which several may befall one picture: the phone, its user, the messenger.
    "dark theme": Alteration(lambda shown: shown.dark, 0.08),
    "long": Alteration(lambda shown: continued(shown.picture, shown.below), 0.55),
    "no status bar": Alteration(lambda shown: without_top(shown.picture), 0.08),
    "no bottom": Alteration(lambda shown: without_bottom(shown.picture), 0.3),
    "inverted": Alteration(lambda shown: inverted(shown.picture), 0.15),
    "Display P3": Alteration(lambda shown: as_display_p3(shown.picture), 0.07),
    "grey": Alteration(lambda shown: grey(shown.picture), 0.27),
    "half size": Alteration(lambda shown: scaled(shown.picture, 0.5), 0.05),
    "1.5 times the size": Alteration(lambda shown: scaled(shown.picture, 1.5), 0.06),
    "JPEG 85": Alteration(lambda shown: compressed(shown.picture, 85), 0.03),
    "JPEG 60": Alteration(lambda shown: compressed(shown.picture, 60), 0.04),
}


def drawn_page(label: str, seed: int) -> Shown:
    """A clean screenshot of a page whose user no gallery picture shows."""
    return Shown(
        label=label,
        picture=draw(label, seed=seed, width=WIDTH_PX),
        dark=draw(label, seed=seed, width=WIDTH_PX, dark=True),
        below=draw_other("other_finance", seed=seed, width=WIDTH_PX),
    )


def altered(shown: Shown, names: Iterable[str]) -> Image.Image:
    """The picture after some alterations, one upon the other."""
    for name in names:
        shown = replace(shown, picture=ALTERATIONS[name].alter(shown))
    return shown.picture


async def outcomes(
    bundles: Path,
    labels: Sequence[str],
    gallery: int,
    tries: Iterable[tuple[Shown, Iterable[tuple[str, ...]]]],
) -> list[Outcome]:
    """Answers pages before and after alterations, over a drawn gallery with its brand names.

    Args:
        bundles: Holds `encoder` and `ocr`.
        labels: Of the gallery.
        gallery: Pictures of each.
        tries: Pages, each with the alterations to try: one tuple of names a try.
    """
    known: dict[str, Knowledge] = {}
    async with wiring.models(read_config(None, {"bundles": bundles})) as models:
        pipeline = models.pipeline(known.__getitem__)
        known[DEFAULT_GALLERY] = await _drawn_knowledge(pipeline, labels, gallery)

        async def decision(picture: Image.Image) -> Decision:
            return (await pipeline.classify(encoded(picture, compress_level=1))).decision

        made = []
        for shown, combinations in tries:
            names = list(combinations)
            before, *after = await asyncio.gather(
                decision(shown.picture), *(decision(altered(shown, chosen)) for chosen in names)
            )
            made += [
                Outcome(shown.label, chosen, before, one)
                for chosen, one in zip(names, after, strict=True)
            ]
        return made


async def _drawn_knowledge(pipeline: Pipeline, labels: Sequence[str], gallery: int) -> Knowledge:
    """What a gallery of drawn pictures knows, nothing stored."""
    drawn = [
        (picture.label, dataset.render(picture)[1])
        for picture in dataset.pictures(labels, gallery=gallery, test=0, other=0, width=WIDTH_PX)
    ]
    drawn.sort(key=lambda one: (one[0], hashlib.sha256(one[1]).hexdigest()))
    features = await asyncio.gather(*(pipeline.extract_features(data) for _, data in drawn))
    pictures = []
    for (label, data), seen in zip(drawn, features, strict=True):
        assert seen.reading is not None
        pictures.append(
            Picture(
                image_id=hashlib.sha256(data).hexdigest(),
                label=label,
                source="",
                author="",
                added_at_ms=0,
                added_revision=1,
                reading=seen.reading,
            )
        )
    return Knowledge.of(
        Snapshot(
            gallery=DEFAULT_GALLERY,
            revision=1,
            encoder_bundle="",
            ocr_bundle="",
            pictures=tuple(pictures),
            embeddings=np.stack([seen.embedding for seen in features]),
            facts={label: LabelFacts(brands=brand_of(label).words) for label in labels},
        )
    )
