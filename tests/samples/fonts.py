"""The Chinese fonts, or a clear error: a page with missing glyphs would test nothing.

    wheel on PyPI -> package folder -> *.otf -> Face(weight, pixels)

Every character is looked up in the face before it is drawn. With libraqm the mainland
forms are used (the wheels hold the Taiwan default); without it the default ones.
"""

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

WHEELS = {
    False: ("cvttf_NotoSansCJK_Regular", "cvttf-notosanscjk-regular==1.0"),
    True: ("cvttf_NotoSansCJK_Bold", "cvttf-notosanscjk-bold==1.0"),
}
"""By bold or not: the package that contains the font, and the distribution to install."""

_UNASSIGNED = "\U0010ffff"


class FontMissingError(RuntimeError):
    """A font is not installed; the message names the package to install."""


class GlyphMissingError(RuntimeError):
    """A text contains a character that the font lacks."""


def font_path(*, bold: bool) -> Path:
    """Find the font's file.

    Raises:
        FontMissingError: The wheel is not installed, or holds no face.
    """
    package, wheel = WHEELS[bold]
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        for path in sorted(Path(folder).glob("*.otf")):
            return path
    raise FontMissingError(
        f"the sample pages need Noto Sans CJK, and {package} holds no face here: "
        f"run `python -m pip install {wheel}`"
    )


@functools.cache
def _mainland() -> bool:
    return bool(features.check("raqm")) and bool(features.check("fribidi"))


@dataclass(frozen=True)
class Face:
    """One weight at one size in pixels."""

    font: ImageFont.FreeTypeFont
    bold: bool

    def length(self, text: str) -> float:
        """Advance width of `text` in pixels."""
        return _length(self, text)

    def draw(
        self, draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, fill: tuple[int, ...]
    ) -> None:
        """Draw `text` with its left end on the baseline at `xy`.

        Raises:
            GlyphMissingError: The face lacks a character.
        """
        for character in text:
            if not _has(self.bold, character):
                raise GlyphMissingError(
                    f"Noto Sans CJK has no glyph for {character!r} (U+{ord(character):04X})"
                    f" in {text!r}: use another character"
                )
        language = "zh-Hans" if _mainland() else None
        draw.text(xy, text, font=self.font, fill=fill, anchor="ls", language=language)


@functools.lru_cache(maxsize=8192)
def _length(face: Face, text: str) -> float:
    return face.font.getlength(text, language="zh-Hans" if _mainland() else None)


@functools.lru_cache(maxsize=256)
def face(px: int, *, bold: bool = False) -> Face:
    """The font at a size of `px` pixels; fonts are cached, so equal calls give the same object."""
    engine = ImageFont.Layout.RAQM if _mainland() else ImageFont.Layout.BASIC
    return Face(ImageFont.truetype(font_path(bold=bold), px, layout_engine=engine), bold)


@functools.cache
def _has(bold: bool, character: str) -> bool:
    font = ImageFont.truetype(font_path(bold=bold), 24, layout_engine=ImageFont.Layout.BASIC)
    return bytes(font.getmask(character)) != bytes(font.getmask(_UNASSIGNED))
