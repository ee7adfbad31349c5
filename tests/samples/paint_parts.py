"""Painters of grids, tabs, steps, bars, charts and search fields.

Importing this module registers them with `paint`.
"""

from tests.samples import blocks as b
from tests.samples.canvas import Canvas
from tests.samples.paint import ICON_COLOURS, Spot, paint
from tests.samples.theme import WHITE, mix


@paint.register
def _grid(block: b.Grid, c: Canvas, s: Spot) -> float:
    step = s.w / block.columns
    high = 56 + c.line_height(12)
    for number, (icon, name) in enumerate(block.items):
        middle = s.x + step * (number % block.columns + 0.5)
        top = s.y + 10 + high * (number // block.columns)
        colour = ICON_COLOURS[(number * 3 + len(name)) % len(ICON_COLOURS)]
        if block.coloured:
            c.rect(middle - 19, top, 38, 38, colour, to=mix(colour, WHITE, 0.3), radius=13)
            c.icon(icon, middle, top + 19, 22, WHITE)
        else:
            c.icon(icon, middle, top + 19, 27, c.theme.accent, weight=1.5)
        c.text(middle, top + 42, name, 12, align="middle", max_w=step - 4)
    rows = -(-len(block.items) // block.columns)
    return high * rows + 12


@paint.register
def _tabs(block: b.Tabs, c: Canvas, s: Spot) -> float:
    step = s.w / len(block.names)
    size = 14.5
    high = c.line_height(size) + 20
    for number, name in enumerate(block.names):
        middle, active = s.x + step * (number + 0.5), number == block.active
        if block.chips:
            ground = c.theme.tint if active else mix(c.theme.card, c.theme.ink, 0.04)
            edge = c.theme.accent if active else ground
            c.frame(middle - step / 2 + 4, s.y + 5, step - 8, high - 8, edge, ground, radius=8)
        ink = (s.on or c.theme.accent) if active else s.sub(c)
        c.text(middle, s.y + 11, name, size, ink, bold=active, align="middle", max_w=step - 12)
        if active and not block.chips:
            c.rect(middle - 11, s.y + high - 5, 22, 3, ink, radius=1.5)
    return high + 4


@paint.register
def _steps(block: b.Steps, c: Canvas, s: Spot) -> float:
    step = s.w / len(block.names)
    off = mix(c.theme.card, c.theme.ink, 0.14)
    for number in range(1, len(block.names)):
        left = s.x + step * (number - 0.5) + 16
        c.rect(left, s.y + 20, step - 32, 1.6, c.theme.accent if number <= block.done else off)
    for number, name in enumerate(block.names):
        middle, done = s.x + step * (number + 0.5), number <= block.done
        c.disc(middle, s.y + 21, 11, c.theme.accent if done else off)
        if number < block.done:
            c.icon("check", middle, s.y + 21, 13, c.theme.on_accent, weight=2.4)
        else:
            at = s.y + 21 - c.line_height(12) / 2
            c.text(middle, at, str(number + 1), 12, c.theme.on_accent, bold=True, align="middle")
        ink = c.theme.accent if number == block.done else c.theme.sub
        c.text(middle, s.y + 37, name, 12, ink, align="middle", max_w=step - 6)
    return 48 + c.line_height(12)


@paint.register
def _bar(block: b.Bar, c: Canvas, s: Spot) -> float:
    c.rect(s.x, s.y + 10, s.w, 8, mix(c.theme.card, c.theme.accent, 0.15), radius=4)
    c.rect(
        s.x,
        s.y + 10,
        max(8.0, s.w * block.share),
        8,
        c.theme.accent2,
        to=c.theme.accent,
        across=True,
        radius=4,
    )
    c.text(s.x, s.y + 23, block.left, 12, s.sub(c), max_w=s.w * 0.5)
    c.text(s.x + s.w, s.y + 23, block.right, 12, s.sub(c), align="right", max_w=s.w * 0.48)
    return 30 + c.line_height(12)


@paint.register
def _chart(block: b.Chart, c: Canvas, s: Spot) -> float:
    high, low, peak = 130.0, min(block.points), max(block.points)
    for number in range(4):
        c.rect(s.x, s.y + 12 + number * high / 3, s.w, 0.7, c.theme.line)
    step = s.w / (len(block.points) - 1)
    span = (peak - low) or 1
    line = [
        (s.x + number * step, s.y + 12 + high * (0.95 - 0.9 * (point - low) / span))
        for number, point in enumerate(block.points)
    ]
    foot = s.y + 12 + high
    under = mix(c.theme.card, block.colour, 0.12)
    c.polygon([(s.x, foot), *line, (s.x + s.w, foot)], under)
    c.line(line, block.colour, 1.6)
    for number, date in enumerate(block.dates):
        align = ("left", "middle", "right")[min(number, 2)]
        c.text(s.x + s.w * number / 2, foot + 4, date, 10.5, c.theme.sub, align=align)
    return high + 26 + c.line_height(10.5)


@paint.register
def _search(block: b.Search, c: Canvas, s: Spot) -> float:
    c.rect(s.x, s.y + 4, s.w, 36, mix(c.theme.bg, c.theme.ink, 0.05), radius=18)
    c.icon("search", s.x + 20, s.y + 22, 16, c.theme.sub)
    at = s.y + 22 - c.line_height(13.5) / 2
    c.text(s.x + 36, at, block.hint, 13.5, c.theme.sub, max_w=s.w - 60)
    return 48
