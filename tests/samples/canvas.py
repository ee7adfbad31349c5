"""Drawing primitives: texts, cards, gradients and icons in dp, antialiased at any width.

A screen is 360 dp wide. Texts also grow with the phone's font scale, shapes do not.
A canvas that is measuring lays everything out and draws nothing: a card asks for the height
of its content before it paints its ground.
"""

import contextlib
import functools
from collections.abc import Iterator

from PIL import Image, ImageChops, ImageDraw

from tests.samples import icons
from tests.samples.fonts import Face, face
from tests.samples.theme import Rgb, Theme

SCREEN_DP = 360
LINE = 1.42
"""Line height, as a multiple of the font size."""


@functools.lru_cache(maxsize=256)
def _corner(px: int) -> Image.Image:
    big = Image.new("L", (px * 4, px * 4), 0)
    ImageDraw.Draw(big).ellipse((0, 0, px * 8 - 1, px * 8 - 1), fill=255)
    return big.resize((px, px), Image.Resampling.BOX)


@functools.lru_cache(maxsize=128)
def round_mask(w: int, h: int, r: int) -> Image.Image:
    """A rounded rectangle as an antialiased mask."""
    mask = Image.new("L", (w, h), 255)
    r = min(r, w // 2, h // 2)
    if r > 0:
        corner = _corner(r)
        right = corner.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for x, image in ((0, corner), (w - r, right)):
            mask.paste(image, (x, 0))
            mask.paste(image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), (x, h - r))
    return mask


class Canvas:
    """A drawing surface of a given width in pixels, with a theme."""

    def __init__(
        self, width_px: int, height_px: int, theme: Theme, *, font_scale: float = 1.0
    ) -> None:
        self.image = Image.new("RGB", (width_px, height_px), theme.bg)
        self.theme = theme
        self.scale = width_px / SCREEN_DP
        self.font_scale = font_scale
        self._draw = ImageDraw.Draw(self.image)
        self._dry = False

    @property
    def height_dp(self) -> float:
        """Height of the sheet in dp."""
        return self.image.height / self.scale

    def px(self, dp: float) -> int:
        """A length in dp as a whole number of pixels."""
        return round(dp * self.scale)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[None]:
        """Compute the layout without drawing."""
        before, self._dry = self._dry, True
        try:
            yield
        finally:
            self._dry = before

    def line_height(self, size: float) -> float:
        """Height in dp of a line of text of `size` dp."""
        return size * self.font_scale * LINE

    def text_width(self, text: str, size: float, *, bold: bool = False) -> float:
        """Width of a text in dp."""
        return self._face(size, bold=bold).length(text) / self.scale

    def _face(self, size: float, *, bold: bool) -> Face:
        return face(max(6, round(size * self.font_scale * self.scale)), bold=bold)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: Rgb | None = None,
        *,
        bold: bool = False,
        align: str = "left",
        max_w: float | None = None,
    ) -> float:
        """Write one line whose line box begins at `y`; return its width in dp.

        `align` says what `x` is: the left end, the middle or the right end. A text wider than
        `max_w` is set smaller, at most by a fifth, and then cut with an ellipsis.
        """
        middle = y + self.line_height(size) / 2
        if max_w is not None and self.text_width(text, size, bold=bold) > max_w:
            wanted = size * max_w / self.text_width(text, size, bold=bold)
            size = max(wanted * 0.99, size * 0.8)
            while len(text) > 1 and self.text_width(text, size, bold=bold) > max_w:
                text = text[:-2] + "…"
        width = self.text_width(text, size, bold=bold)
        left = x - width * {"left": 0.0, "middle": 0.5, "right": 1.0}[align]
        if not self._dry and text:
            baseline = middle + size * self.font_scale * 0.365
            self._face(size, bold=bold).draw(
                self._draw,
                (self.px(left), self.px(baseline)),
                text,
                self.theme.ink if colour is None else colour,
            )
        return width

    def wrapped(
        self,
        x: float,
        y: float,
        text: str,
        size: float,
        colour: Rgb | None = None,
        *,
        max_w: float,
        align: str = "left",
        bold: bool = False,
    ) -> float:
        """Write a paragraph, return its height in dp."""
        lines, line, width = [], "", 0.0
        for character in text:
            if character == "\n":
                lines.append(line)
                line, width = "", 0.0
                continue
            step = self.text_width(character, size, bold=bold)
            if width + step > max_w and character not in "，。、；：）》！？":
                lines.append(line)
                line, width = "", 0.0
            line, width = line + character, width + step
        lines.append(line)
        step = self.line_height(size)
        at = x + max_w / 2 if align == "middle" else x
        for number, line in enumerate(lines):
            self.text(at, y + number * step, line, size, colour, bold=bold, align=align)
        return step * len(lines)

    def rect(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: Rgb,
        *,
        radius: float = 0,
        to: Rgb | None = None,
        across: bool = False,
        alpha: float = 1.0,
    ) -> None:
        """Paint a rectangle, plain or running `to` another colour downwards or `across`."""
        if self._dry:
            return
        left, top = self.px(x), self.px(y)
        wide, high = self.px(x + w) - left, self.px(y + h) - top
        if wide <= 0 or high <= 0 or top >= self.image.height:
            return
        if to is None and radius <= 0 and alpha >= 1:
            self._draw.rectangle((left, top, left + wide - 1, top + high - 1), fill=fill)
            return
        mask = round_mask(wide, high, self.px(radius))
        if alpha < 1:
            mask = mask.point([round(value * alpha) for value in range(256)])
        if to is None:
            self.image.paste(fill, (left, top), mask)
        else:
            self.image.paste(_gradient(wide, high, fill, to, across), (left, top), mask)

    def frame(
        self, x: float, y: float, w: float, h: float, colour: Rgb, ground: Rgb, *, radius: float
    ) -> None:
        """Paint a rectangle with a thin border."""
        self.rect(x, y, w, h, colour, radius=radius)
        self.rect(x + 0.8, y + 0.8, w - 1.6, h - 1.6, ground, radius=max(0.0, radius - 0.8))

    def disc(self, x: float, y: float, radius: float, fill: Rgb, *, alpha: float = 1.0) -> None:
        """Paint a disc around a middle."""
        self.rect(x - radius, y - radius, 2 * radius, 2 * radius, fill, radius=radius, alpha=alpha)

    def sheen(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        discs: tuple[tuple[float, float, float, float], ...],
        *,
        radius: float,
    ) -> None:
        """Lighten discs (x, y, radius, alpha), clipped to a rounded rectangle."""
        if self._dry:
            return
        left, top = self.px(x), self.px(y)
        wide, high = self.px(x + w) - left, self.px(y + h) - top
        if top >= self.image.height:
            return
        ground = round_mask(wide, high, self.px(radius))
        for at_x, at_y, size, alpha in discs:
            side = self.px(2 * size)
            mask = Image.new("L", (wide, high), 0)
            disc = round_mask(side, side, side // 2)
            mask.paste(
                disc.point([round(value * alpha) for value in range(256)]),
                (self.px(at_x - size) - left, self.px(at_y - size) - top),
            )
            white = Image.new("RGB", (wide, high), (255, 255, 255))
            self.image.paste(white, (left, top), ImageChops.multiply(mask, ground))

    def icon(
        self, name: str, x: float, y: float, size: float, colour: Rgb, *, weight: float = 1.7
    ) -> None:
        """Draw an icon around a middle."""
        if not self._dry:
            self.stamp(icons.mask(name, self.px(size), weight), x, y, colour)

    def gauge(self, x: float, y: float, size: float, share: float, colour: Rgb) -> None:
        """Draw `share` of an open ring around a middle."""
        if not self._dry:
            image = icons.ring(self.px(size), round(share, 3), self.px(9))
            self.stamp(image, x, y, colour)

    def stamp(self, mask: Image.Image, x: float, y: float, colour: Rgb) -> None:
        """Put a colour through a mask whose middle is at (x, y)."""
        if not self._dry:
            at = (self.px(x) - mask.width // 2, self.px(y) - mask.height // 2)
            self.image.paste(colour, at, mask)

    def line(self, points: list[tuple[float, float]], colour: Rgb, width: float = 1.0) -> None:
        """Draw a line through points."""
        if not self._dry:
            at = [(x * self.scale, y * self.scale) for x, y in points]
            self._draw.line(at, fill=colour, width=max(1, self.px(width)), joint="curve")

    def polygon(self, points: list[tuple[float, float]], colour: Rgb) -> None:
        """Fill a polygon."""
        if not self._dry:
            self._draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill=colour)


def _gradient(w: int, h: int, top: Rgb, foot: Rgb, across: bool) -> Image.Image:
    ramp = Image.linear_gradient("L")
    if across:
        ramp = ramp.transpose(Image.Transpose.ROTATE_90)
    ramp = ramp.resize((w, h), Image.Resampling.BILINEAR)
    return Image.composite(Image.new("RGB", (w, h), foot), Image.new("RGB", (w, h), top), ramp)
