"""Painters of the plain parts of a page: cards, rows, list items, texts.

    paint(block, canvas, spot) -> height in dp      one painter per kind of block

A painter knows its block and its spot and nothing of the page around it.
"""

import functools
from dataclasses import dataclass, replace

from tests.samples import blocks as b
from tests.samples.canvas import Canvas
from tests.samples.theme import Rgb, mix

PAD = 14.0
"""Space in dp between the screen's edge and a card, and between a card and its content."""

ICON_COLOURS: tuple[Rgb, ...] = (
    (255, 122, 69),
    (64, 128, 255),
    (19, 194, 194),
    (250, 173, 20),
    (245, 90, 122),
    (114, 90, 240),
    (82, 186, 70),
    (0, 160, 233),
)


@dataclass(frozen=True)
class Spot:
    """The position of a block; `on` is the colour of texts on a coloured ground."""

    x: float
    y: float
    w: float
    on: Rgb | None = None

    def ink(self, c: Canvas) -> Rgb:
        """Colour of important texts."""
        return self.on or c.theme.ink

    def sub(self, c: Canvas) -> Rgb:
        """Colour of the other texts."""
        return mix(self.on, c.theme.accent, 0.2) if self.on else c.theme.sub


@functools.singledispatch
def paint(block: b.Block, c: Canvas, s: Spot) -> float:
    """Draw a block, return its height in dp."""
    raise TypeError(f"no painter for {type(block).__name__}: register one with paint.register")


def paint_all(blocks: tuple[b.Block, ...], c: Canvas, s: Spot) -> float:
    """Draw blocks below each other, return their height."""
    y = s.y
    for block in blocks:
        y += paint(block, c, replace(s, y=y))
    return y - s.y


def measure(blocks: tuple[b.Block, ...], c: Canvas, s: Spot) -> float:
    """The height `paint_all` would return, drawing nothing."""
    with c.measuring():
        return paint_all(blocks, c, s)


@paint.register
def _gap(block: b.Gap, c: Canvas, s: Spot) -> float:
    return block.height


@paint.register
def _card(block: b.Card, c: Canvas, s: Spot) -> float:
    inset = 0.0 if block.flat else PAD
    x, w = (0.0, s.w + 2 * s.x) if block.flat else (s.x, s.w)
    inner = Spot(x + PAD, s.y + 4, w - 2 * PAD)
    height = measure(block.blocks, c, inner) + 8
    ground = mix(c.theme.card, c.theme.accent, 0.06) if block.tinted else c.theme.card
    if not block.flat and not c.theme.dark:
        shade = mix(c.theme.bg, c.theme.ink, 0.03)
        c.rect(x, s.y + 1.5, w, height, shade, radius=c.theme.radius)
    c.rect(x, s.y, w, height, ground, radius=0 if block.flat else c.theme.radius)
    paint_all(block.blocks, c, inner)
    return height + (10 if block.flat or inset else 0)


@paint.register
def _rows(block: b.Rows, c: Canvas, s: Spot) -> float:
    y = s.y
    for number, row in enumerate(block.rows):
        if number:
            c.rect(s.x, y - 0.4, s.w, 0.8, c.theme.line)
        y += _row(row, c, replace(s, y=y), block)
    return y - s.y


def _row(row: b.Row, c: Canvas, s: Spot, block: b.Rows) -> float:
    value_size = 15.0 if not row.strong else 16.0
    ink = c.theme.faint if row.hint else c.theme.ink
    if row.strong and not row.hint:
        ink = c.theme.accent
    if block.stacked:
        top = c.line_height(12.5) + 9
        c.text(s.x, s.y + 9, row.label, 12.5, c.theme.sub, max_w=s.w - 20)
        c.text(s.x, s.y + top, row.value, value_size, ink, max_w=s.w - 24)
        height = top + c.line_height(value_size) + 9
        if row.arrow:
            c.icon("next", s.x + s.w - 6, s.y + height / 2, 13, c.theme.faint, weight=2)
        return height
    two = bool(row.sub)
    height = 22 + c.line_height(15) + (c.line_height(11.5) if two else 0) + 4
    top = s.y + (height - c.line_height(15) - (c.line_height(11.5) if two else 0)) / 2
    x = s.x
    if row.icon:
        c.icon(row.icon, x + 10, s.y + height / 2, 20, c.theme.accent)
        x += 30
    label_w = c.text(x, top, row.label, 15, c.theme.ink, max_w=s.w * 0.62)
    if row.tag:
        tag(row.tag, c, x + label_w + 6, top + c.line_height(15) / 2)
    if two:
        c.text(x, top + c.line_height(15), row.sub, 11.5, c.theme.sub, max_w=s.w * 0.72)
    right = s.x + s.w
    if row.toggle is not None:
        _toggle(c, right, s.y + height / 2, on=row.toggle)
        return height
    if row.arrow:
        c.icon("next", right - 5, s.y + height / 2, 13, c.theme.faint, weight=2)
        right -= 16
    at = s.y + (height - c.line_height(value_size)) / 2
    if block.left:
        names = [c.text_width(other.label, 15) for other in block.rows]
        left = max(s.x + 96 * max(1.0, c.font_scale * 0.95), x + max(names) + 12)
        c.text(left, at, row.value, value_size, ink, max_w=right - left)
    else:
        room = right - (x + label_w) - 14 - (40 if row.tag else 0)
        muted = c.theme.sub if ink == c.theme.ink and row.arrow and not row.strong else ink
        c.text(right, at, row.value, value_size, muted, align="right", max_w=room)
    return height


def tag(text: str, c: Canvas, x: float, middle: float, colour: Rgb | None = None) -> float:
    """A small coloured label; returns its width."""
    colour = colour or c.theme.warm
    w = c.text_width(text, 10.5) + 10
    h = c.line_height(10.5) + 2
    c.rect(x, middle - h / 2, w, h, mix(c.theme.card, colour, 0.14), radius=3)
    c.text(x + 5, middle - c.line_height(10.5) / 2, text, 10.5, colour)
    return w


def _toggle(c: Canvas, right: float, middle: float, *, on: bool) -> None:
    ground = c.theme.accent if on else mix(c.theme.card, c.theme.ink, 0.15)
    c.rect(right - 42, middle - 12, 42, 24, ground, radius=12)
    c.disc(right - 12 if on else right - 30, middle, 10, (255, 255, 255))


@paint.register
def _heading(block: b.Heading, c: Canvas, s: Spot) -> float:
    height = c.line_height(16) + 18
    x = s.x
    if block.bar:
        c.rect(x, s.y + height / 2 - 8, 3.5, 16, c.theme.accent, radius=2)
        x += 10
    width = c.text(x, s.y + 9, block.text, 16, s.ink(c), bold=True, max_w=s.w * 0.7)
    right = s.x + s.w
    if block.more:
        c.icon("next", right - 5, s.y + height / 2, 12, c.theme.faint, weight=2)
        right -= 14
        right -= c.text(right, s.y + 11, block.more, 12.5, c.theme.sub, align="right")
    if block.sub:
        at = s.y + height / 2 - c.line_height(12) / 2
        c.text(x + width + 8, at, block.sub, 12, s.sub(c), max_w=right - x - width - 16)
    return height


@paint.register
def _note(block: b.Note, c: Canvas, s: Spot) -> float:
    x, w = s.x + 4, s.w - 8
    if block.tick:
        c.disc(x + 6, s.y + 6 + c.line_height(block.size) / 2, 6, c.theme.accent)
        c.icon("check", x + 6, s.y + 6 + c.line_height(block.size) / 2, 9, (255, 255, 255))
        x, w = x + 17, w - 17
    colour = c.theme.sub if block.size > 11.5 else mix(c.theme.sub, c.theme.faint, 0.4)
    height = c.wrapped(x, s.y + 6, block.text, block.size, colour, max_w=w, align=block.align)
    return height + 12


@paint.register
def _notice(block: b.Notice, c: Canvas, s: Spot) -> float:
    height = c.line_height(12.5) + 14
    ground = mix(c.theme.card, c.theme.warm, 0.11)
    c.rect(0, s.y, s.w + 2 * s.x, height, ground)
    c.icon(block.icon, s.x + 8, s.y + height / 2, 15, c.theme.warm)
    room = s.w - 26 - (16 if block.arrow else 0)
    c.text(s.x + 22, s.y + 7, block.text, 12.5, c.theme.warm, max_w=room)
    if block.arrow:
        c.icon("next", s.x + s.w - 4, s.y + height / 2, 12, c.theme.warm, weight=2)
    return height + 10
