"""One picture: of a known label, of its white-label twin, or of some other kind.

    label + seed ─> Values ─> builder ─> redesign? ─> take(page, shot)

The seed fixes the user; the shot fixes the phone. The twin of a picture shows the same user on
the same phone.
"""

import random
from dataclasses import replace
from typing import Literal

from PIL import Image

from tests.samples import finance, lookalikes, unrelated
from tests.samples.blocks import Page
from tests.samples.brands import Brand, brand_of, invented, twin
from tests.samples.canvas import Canvas
from tests.samples.catalog import PAGES
from tests.samples.redesign import redesign
from tests.samples.screen import Overlay, Shot, take
from tests.samples.values import Values

Version = Literal["old", "new"]
"""Version of the app; the gallery contains only the old one."""

OTHER_KINDS = ("other_finance", "other_lookalike", "other_unrelated", "other_whitelabel")

NO_TWIN = ("zfb_my_homepage-zfb_my_name_card",)
"""Pages without a white-label twin: their services reveal the brand, whatever name they show."""


def known_page(
    label: str, seed: str, *, version: Version = "old", brand: Brand | None = None
) -> Page:
    """What a user sees on a known page.

    Raises:
        ValueError: There is no such label or version.
    """
    if label not in PAGES or version not in ("old", "new"):
        raise ValueError(
            f"no sample page {label!r} in version {version!r}: labels are "
            f"{', '.join(sorted(PAGES))}; versions are old and new"
        )
    page = PAGES[label](Values(f"{label} {seed}"), brand or brand_of(label))
    return redesign(page, label) if version == "new" else page


def draw(
    label: str, *, seed: int, version: Version = "old", width: int = 1080, dark: bool = False
) -> Image.Image:
    """Draw a known page as a clean screenshot (RGB, `width` px wide, 20:9).

    Raises:
        ValueError: There is no such label or version.
        FontMissingError: A face is not installed.
    """
    return take(known_page(label, str(seed), version=version), Shot(width=width, dark=dark))


def draw_twin(
    label: str, *, seed: int, version: Version = "old", width: int = 1080, dark: bool = False
) -> Image.Image:
    """Draw the white-label twin of `draw(label, seed=seed, …)`: another brand, all else equal."""
    other = twin(brand_of(label), random.Random(f"twin {label} {seed}"))
    page = known_page(label, str(seed), version=version, brand=other)
    return take(page, Shot(width=width, dark=dark))


def draw_other(kind: str, *, seed: int, width: int = 1080, dark: bool = False) -> Image.Image:
    """Draw an unknown page, of one of `OTHER_KINDS`.

    Raises:
        ValueError: There is no such kind.
    """
    return take_other(kind, str(seed), Shot(width=width, dark=dark), tuple(PAGES), number=seed)


def take_other(
    kind: str,
    seed: str,
    shot: Shot,
    labels: tuple[str, ...],
    *,
    number: int = 0,
    overlay: Overlay | None = None,
) -> Image.Image:
    """Take a screenshot of an unknown page; `labels` are those whose twins may be shown."""
    rng = random.Random(f"{kind} {seed}")
    values = Values(f"{kind} {seed}")
    if kind == "other_whitelabel":
        return _take_twin(rng, seed, shot, labels, number)
    if kind == "other_lookalike":
        return take(lookalikes.lookalike(values, invented(rng)), shot, overlay)
    if kind == "other_finance":
        builder = finance.FINANCE[number % len(finance.FINANCE)]
        return take(builder(values, invented(rng)), shot, overlay)
    if kind == "other_unrelated":
        return _take_unrelated(number, values, shot)
    raise ValueError(f"no kind {kind!r}: there are {', '.join(OTHER_KINDS)}")


def _take_twin(
    rng: random.Random, seed: str, shot: Shot, labels: tuple[str, ...], number: int
) -> Image.Image:
    """Take a screenshot of a twin on which its brand is visible; otherwise nothing would differ."""
    able = sorted((label for label in labels if label not in NO_TWIN), key=_amounts_first)
    if not able:
        raise ValueError(f"none of {', '.join(labels)} has a white-label twin: add another label")
    label = able[number % len(able)]
    other = twin(brand_of(label), rng)
    page, original = known_page(label, seed, brand=other), known_page(label, seed)
    for scroll in (shot.scroll, 0.0, 0.5, 1.0):
        at = replace(shot, scroll=scroll)
        image = take(page, at)
        if image.tobytes() != take(original, at).tobytes():
            return image
    raise AssertionError(f"{label} names its brand nowhere: give its page a line that does")


def _amounts_first(label: str) -> tuple[bool, str]:
    return not label.endswith("_amount"), label


def _take_unrelated(number: int, values: Values, shot: Shot) -> Image.Image:
    choice = number % (len(unrelated.SCENES) + len(unrelated.PAGES))
    if choice < len(unrelated.PAGES):
        return take(unrelated.PAGES[choice](values, shot), shot)
    theme = unrelated.PLAIN.darkened() if shot.dark else unrelated.PLAIN
    height = round(shot.width * shot.ratio)
    canvas = Canvas(shot.width, height, theme, font_scale=min(shot.font_scale, 1.1))
    unrelated.SCENES[choice - len(unrelated.PAGES)](values, canvas, shot)
    return canvas.image
