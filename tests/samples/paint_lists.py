"""Painters of list items, figures side by side and the name card.

Importing this module registers them with `paint`.
"""

from tests.samples import blocks as b
from tests.samples.canvas import Canvas
from tests.samples.paint import Spot, paint, tag
from tests.samples.theme import mix


@paint.register
def _pairs(block: b.Pairs, c: Canvas, s: Spot) -> float:
    step = s.w / len(block.pairs)
    small, large = c.line_height(12), c.line_height(16)
    for number, (name, value) in enumerate(block.pairs):
        middle = s.x + step * (number + 0.5)
        first, second = (10.0, 12 + large) if block.value_first else (14 + small, 10.0)
        c.text(middle, s.y + first, value, 16, s.ink(c), bold=True, align="middle", max_w=step - 8)
        c.text(middle, s.y + second, name, 12, s.sub(c), align="middle", max_w=step - 6)
        if number:
            c.rect(
                s.x + step * number,
                s.y + 18,
                0.8,
                large + small - 12,
                mix(c.theme.line, s.ink(c), 0.12),
            )
    return 24 + small + large


@paint.register
def _item(block: b.Item, c: Canvas, s: Spot) -> float:
    first, second = c.line_height(15), c.line_height(11.5)
    height = 24 + first + (second if block.sub else 4)
    x, right, middle = s.x, s.x + s.w, s.y + height / 2
    colour = block.colour or c.theme.accent
    if block.icon:
        c.rect(x, middle - 18, 36, 36, mix(c.theme.card, colour, 0.15), radius=10)
        c.icon(block.icon, x + 18, middle, 20, colour)
        x += 48
    elif block.logo:
        c.disc(x + 18, middle, 18, colour)
        c.text(
            x + 18,
            middle - c.line_height(15) / 2,
            block.logo,
            15,
            (255, 255, 255),
            bold=True,
            align="middle",
        )
        x += 48
    if block.button:
        wide = c.text_width(block.button, 12.5) + 24
        c.rect(right - wide, middle - 14, wide, 28, c.theme.tint, radius=14)
        c.text(
            right - wide / 2,
            middle - c.line_height(12.5) / 2,
            block.button,
            12.5,
            c.theme.accent,
            align="middle",
        )
        right -= wide + 8
    top = s.y + 12
    edge = right
    if block.right:
        at = top if block.right_sub else middle - c.line_height(15.5) / 2
        edge -= (
            c.text(
                right,
                at,
                block.right,
                15.5,
                block.right_colour or c.theme.ink,
                align="right",
                bold=bool(block.right_colour),
            )
            + 10
        )
    if block.right_sub:
        c.text(right, top + first, block.right_sub, 11.5, c.theme.sub, align="right")
    c.text(x, top if block.sub else middle - first / 2, block.title, 15, max_w=edge - x)
    if block.sub:
        room = edge - x if not block.right_sub else s.x + s.w - x - 90
        c.text(x, top + first, block.sub, 11.5, c.theme.sub, max_w=room)
    c.rect(x, s.y + height - 0.8, s.x + s.w - x, 0.8, c.theme.line)
    return height


@paint.register
def _person(block: b.Person, c: Canvas, s: Spot) -> float:
    height = 76.0 + (c.font_scale - 1) * 20
    middle, ground = s.y + height / 2, s.on or c.theme.accent
    c.disc(s.x + 27, middle, 27, mix(ground, c.theme.card if s.on is None else c.theme.accent, 0.6))
    c.icon("user", s.x + 27, middle, 30, ground)
    top = middle - (c.line_height(19) + c.line_height(12.5)) / 2
    width = c.text(s.x + 66, top, block.name, 19, s.ink(c), bold=True, max_w=s.w * 0.5)
    if block.tag:
        tag(block.tag, c, s.x + 74 + width, top + c.line_height(19) / 2)
    room = s.w - 70 - (c.text_width(block.more, 12.5) + 24 if block.more else 16)
    c.text(s.x + 66, top + c.line_height(19) + 2, block.sub, 12.5, s.sub(c), max_w=room)
    right = s.x + s.w
    c.icon("next", right - 5, middle, 13, s.sub(c), weight=2)
    if block.more:
        c.text(
            right - 14, middle - c.line_height(12.5) / 2, block.more, 12.5, s.sub(c), align="right"
        )
    return height
