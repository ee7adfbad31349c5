"""Painters of the prominent parts of a page: amounts, promotions, buttons.

Importing this module registers them with `paint`.
"""

from dataclasses import replace

from tests.samples import blocks as b
from tests.samples.canvas import Canvas
from tests.samples.paint import PAD, Spot, paint
from tests.samples.theme import BLACK, WHITE, Rgb, brightness, mix


@paint.register
def _hero(block: b.Hero, c: Canvas, s: Spot) -> float:
    if block.style in ("card", "filled"):
        filled = block.style == "filled"
        inner = Spot(
            s.x + PAD + 2, s.y + 12, s.w - 2 * PAD - 4, c.theme.on_accent if filled else None
        )
        with c.measuring():
            height = _hero_body(block, c, inner) + 24
        if filled:
            c.rect(
                s.x,
                s.y,
                s.w,
                height,
                c.theme.accent,
                to=c.theme.accent2,
                across=True,
                radius=c.theme.radius + 2,
            )
            discs = (
                (s.x + s.w - 46, s.y + 44, 44.0, 0.08),
                (s.x + s.w - 88, s.y + height - 30, 30.0, 0.06),
            )
            c.sheen(s.x, s.y, s.w, height, discs, radius=c.theme.radius + 2)
        else:
            c.rect(s.x, s.y, s.w, height, c.theme.card, radius=c.theme.radius + 2)
        _hero_body(block, c, inner)
        return height + 12
    if block.style == "gauge":
        return _hero_gauge(block, c, s)
    return _hero_body(block, c, s) + 10


def _hero_body(block: b.Hero, c: Canvas, s: Spot) -> float:
    middle = block.align == "middle"
    x = s.x + s.w / 2 if middle else s.x + 2
    y = s.y + 8
    width = c.text(x, y, block.caption, 13.5, s.sub(c), align=block.align, max_w=s.w - 20)
    edge = x + (width / 2 if middle else width)
    if block.tag:
        _hero_tag(block.tag, c, s, edge + 8, y + c.line_height(13.5) / 2)
    y += c.line_height(13.5)
    size = 40.0 if len(block.amount) < 10 else 35.0
    c.text(x, y, block.amount, size, s.ink(c), bold=True, align=block.align, max_w=s.w - 4)
    y += c.line_height(size)
    for line in block.lines:
        c.text(x, y, line, 12.5, s.sub(c), align=block.align, max_w=s.w - 4)
        y += c.line_height(12.5) + 2
    if block.pairs:
        y += paint(b.Pairs(block.pairs), c, replace(s, y=y + 2))
    if block.button:
        ground, ink = _button_colours(c, s.on)
        y += 10
        _button(block.button, c, replace(s, y=y, x=s.x + 6, w=s.w - 12), ground, ink)
        y += 52
    return y - s.y + 4


def _button_colours(c: Canvas, on: Rgb | None) -> tuple[Rgb, Rgb]:
    """Background and text colour of a button, chosen so that the text is legible."""
    if on is None or (brightness(on) < 128 and brightness(c.theme.accent) < 150):
        return c.theme.accent, c.theme.on_accent
    return on, c.theme.accent


def _hero_tag(text: str, c: Canvas, s: Spot, x: float, middle: float) -> None:
    colour = c.theme.warm if s.on is None or sum(s.on) < 380 else s.on
    w = c.text_width(text, 10.5) + 12
    if x + w > s.x + s.w:
        return
    h = c.line_height(10.5) + 3
    c.rect(x, middle - h / 2, w, h, colour, radius=h / 2, alpha=0.2)
    c.text(x + 6, middle - c.line_height(10.5) / 2, text, 10.5, colour)


def _hero_gauge(block: b.Hero, c: Canvas, s: Spot) -> float:
    size, middle = 216.0, s.x + s.w / 2
    ground = s.on or c.theme.accent
    behind = c.theme.accent if s.on else c.theme.card
    top = s.y + 4
    c.gauge(middle, top + size / 2, size, 1.0, mix(behind, ground, 0.22))
    c.gauge(middle, top + size / 2, size, block.share, ground)
    y = top + size / 2 - c.line_height(32) / 2 - c.line_height(13) - 2
    c.text(middle, y, block.caption, 13, s.sub(c), align="middle", max_w=150)
    c.text(
        middle,
        y + c.line_height(13),
        block.amount,
        32,
        s.ink(c),
        bold=True,
        align="middle",
        max_w=168,
    )
    y += c.line_height(13) + c.line_height(32)
    for line in block.lines:
        c.text(middle, y, line, 12, s.sub(c), align="middle", max_w=150)
        y += c.line_height(12)
    height = size - 16
    if block.pairs:
        height += paint(b.Pairs(block.pairs), c, replace(s, y=s.y + height))
    if block.button:
        ground, ink = _button_colours(c, s.on)
        spot = replace(s, y=s.y + height + 6, x=s.x + 26, w=s.w - 52)
        _button(block.button, c, spot, ground, ink)
        height += 60
    return height + 10


def _button(text: str, c: Canvas, s: Spot, ground: Rgb, ink: Rgb, to: Rgb | None = None) -> None:
    radius = 23.0 if c.theme.pill else min(8.0, c.theme.radius)
    c.rect(s.x, s.y, s.w, 46, ground, to=to, across=True, radius=radius)
    at = s.y + 23 - c.line_height(16.5) / 2
    c.text(s.x + s.w / 2, at, text, 16.5, ink, bold=True, align="middle", max_w=s.w - 16)


@paint.register
def _wide_button(block: b.Button, c: Canvas, s: Spot) -> float:
    y = s.y + 6
    if block.above:
        c.text(s.x + s.w / 2, y, block.above, 11, c.theme.sub, align="middle", max_w=s.w)
        y += c.line_height(11) + 5
    spot = replace(s, y=y)
    theme = c.theme
    if block.kind == "primary":
        _button(block.text, c, spot, theme.accent2, theme.on_accent, theme.accent)
    elif block.kind == "idle":
        _button(block.text, c, spot, mix(theme.card, theme.accent, 0.35), theme.on_accent)
    else:
        _button(block.text, c, spot, theme.accent, theme.accent)
        radius = 22.0 if theme.pill else min(7.0, theme.radius)
        c.rect(s.x + 1, y + 1, s.w - 2, 44, theme.card, radius=radius)
        c.text(
            s.x + s.w / 2,
            y + 23 - c.line_height(16.5) / 2,
            block.text,
            16.5,
            theme.accent,
            align="middle",
            max_w=s.w - 16,
        )
    return y - s.y + 54


@paint.register
def _banner(block: b.Banner, c: Canvas, s: Spot) -> float:
    height = 40 + c.line_height(17) + c.line_height(12) - 6
    first, second = block.colours
    if c.theme.dark:
        first, second = mix(first, BLACK, 0.35), mix(second, BLACK, 0.35)
    c.rect(s.x, s.y, s.w, height, first, to=second, across=True, radius=c.theme.radius)
    discs = (
        (s.x + s.w - 34, s.y + 10, 54.0, 0.12),
        (s.x + s.w - 90, s.y + height, 34.0, 0.10),
    )
    c.sheen(s.x, s.y, s.w, height, discs, radius=c.theme.radius)
    c.text(s.x + PAD, s.y + 16, block.title, 17, WHITE, bold=True, max_w=s.w - 118)
    c.text(s.x + PAD, s.y + 18 + c.line_height(17), block.sub, 12, WHITE, max_w=s.w - 118)
    middle = s.y + height / 2
    if block.button:
        wide = c.text_width(block.button, 12.5) + 24
        left = s.x + s.w - PAD - wide
        c.rect(left, middle - 15, wide, 30, WHITE, radius=15)
        c.text(
            left + wide / 2,
            middle - c.line_height(12.5) / 2,
            block.button,
            12.5,
            second,
            bold=True,
            align="middle",
        )
    else:
        c.icon(block.icon, s.x + s.w - 48, middle, 50, WHITE, weight=1.4)
    return height + 12
