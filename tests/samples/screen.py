"""A page as the phone shows it: status bar, title, scrolled content, foot, system bar.

Page + Shot ─> content on a long sheet ─> cut at the scroll offset ─> bars and overlay
"""

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from tests.samples import blocks as b
from tests.samples import (  # noqa: F401  (they register painters)
    paint_heads,
    paint_lists,
    paint_parts,
)
from tests.samples.canvas import SCREEN_DP, Canvas
from tests.samples.paint import PAD, Spot, measure, paint
from tests.samples.theme import BLACK, WHITE, Rgb, mix

STATUS_DP, TITLE_DP = 30.0, 46.0


@dataclass(frozen=True, kw_only=True)
class Shot:
    """The phone, its settings and the moment of a screenshot."""

    width: int = 1080
    ratio: float = 20 / 9
    """Aspect ratio of the screen, height divided by width."""
    dark: bool = False
    font_scale: float = 1.0
    scroll: float = 0.0
    """Scroll position, 0 (top) to 1 (end)."""
    time: str = "9:41"
    battery: int = 80
    carrier: str = ""
    percent: bool = False
    """Whether the battery level is also shown as a number."""
    system: str = "gesture"
    """The system bar: `gesture`, `buttons` or `none`."""
    status: bool = True
    """Whether there is a status bar; False: the picture is cropped below it."""


Overlay = Callable[[Canvas, float], None]
"""Draws over a finished screen, given the height above the system bar in dp."""


def take(page: b.Page, shot: Shot, overlay: Overlay | None = None) -> Image.Image:
    """Draw a page as it appears in a screenshot."""
    theme = page.theme.darkened() if shot.dark else page.theme
    height = round(shot.width * shot.ratio)
    sheet = Canvas(shot.width, height * 2, theme, font_scale=shot.font_scale)
    head = STATUS_DP + (0 if page.title_at == "none" else TITLE_DP)
    system = {"gesture": 18.0, "buttons": 40.0, "none": 0.0}[shot.system]
    foot = _foot_height(page.foot, sheet)
    content = _content(page, sheet, head)
    height_dp = height / sheet.scale
    spare = max(0.0, content + foot + system + 16 - height_dp)
    offset = sheet.px(min(spare * shot.scroll, sheet.height_dp - height_dp))
    screen = Canvas(shot.width, height, theme, font_scale=shot.font_scale)
    screen.image.paste(sheet.image.crop((0, offset, shot.width, offset + height)), (0, 0))
    _head(page, shot, screen, head, scrolled=offset > screen.px(12))
    _foot(page, screen, height_dp - system - foot, foot)
    _system(page, shot, screen, system)
    if overlay is not None:
        overlay(screen, height_dp - system)
    image = screen.image
    if not shot.status:
        image = image.crop((0, screen.px(STATUS_DP), image.width, image.height))
    return image


def _content(page: b.Page, c: Canvas, head: float) -> float:
    ground_h = page.ground_h + head if page.ground else 0.0
    if page.ground:
        top, end = page.ground
        if c.theme.dark:
            bright = sum(top) > 540
            top = mix(top, c.theme.bg, 0.75) if bright else mix(top, BLACK, 0.3)
            end = mix(end, c.theme.bg, 0.95 if bright else 0.6)
        c.rect(0, 0, SCREEN_DP, ground_h, top, to=end)
    y = head + 6
    for block in page.blocks:
        spot = Spot(PAD, y, SCREEN_DP - 2 * PAD)
        tall = measure((block,), c, spot)
        if page.ground and y + tall / 2 < ground_h and not isinstance(block, b.Card):
            spot = Spot(spot.x, y, spot.w, _readable(page, c))
        y += paint(block, c, spot)
    return y


def _readable(page: b.Page, c: Canvas) -> Rgb:
    """The colour of texts on the page's coloured ground, which is dark in the dark theme."""
    return WHITE if c.theme.dark else page.on_ground


def _head(page: b.Page, shot: Shot, c: Canvas, head: float, *, scrolled: bool) -> None:
    over_ground = page.ground is not None and not scrolled
    ink = _readable(page, c) if over_ground else c.theme.ink
    if scrolled or (page.ground is None and page.title_at != "none"):
        c.rect(0, 0, SCREEN_DP, head, c.theme.card)
    status_bar(c, shot, ink)
    if page.title_at == "none":
        return
    middle = STATUS_DP + TITLE_DP / 2
    top = middle - c.line_height(17.5) / 2
    if page.back:
        c.icon("back", 22, middle, 20, ink, weight=2)
    if page.title_at == "middle":
        c.text(SCREEN_DP / 2, top, page.title, 17.5, ink, bold=True, align="middle", max_w=200)
    else:
        c.text(44 if page.back else 16, top, page.title, 18, ink, bold=True, max_w=220)
    if page.action in ("more", "gear", "bell", "chat", "search", "scan", "close", "plus", "info"):
        c.icon(page.action, SCREEN_DP - 24, middle, 20, ink)
    elif page.action:
        at = middle - c.line_height(14) / 2
        c.text(SCREEN_DP - 16, at, page.action, 14, ink, align="right", max_w=90)


def status_bar(c: Canvas, shot: Shot, ink: Rgb) -> None:
    """Draw time, carrier, network and battery."""
    scale, c.font_scale = c.font_scale, 1.0
    middle = STATUS_DP / 2 + 1
    top = middle - c.line_height(12.5) / 2
    x = 18 + c.text(18, top, shot.time, 12.5, ink, bold=True)
    if shot.carrier:
        c.text(x + 7, top + 1, shot.carrier, 10.5, ink)
    right = SCREEN_DP - 18.0
    c.frame(right - 23, middle - 5.5, 21, 11, ink, ink, radius=3)
    inner = mix(ink, WHITE if sum(ink) < 380 else BLACK, 0.75)
    c.rect(right - 21.5, middle - 4, 18, 8, inner, radius=2)
    c.rect(right - 21.5, middle - 4, max(2.0, 18 * shot.battery / 100), 8, ink, radius=2)
    c.rect(right - 1.5, middle - 2, 1.8, 4, ink)
    right -= 29
    if shot.percent:
        right -= c.text(right, top, f"{shot.battery}%", 10.5, ink, align="right") + 5
    c.icon("wifi", right - 8, middle - 1, 17, ink, weight=2.4)
    for bar in range(4):
        rise = 3 + bar * 2.4
        c.rect(right - 37 + bar * 4.6, middle + 5 - rise, 3, rise, ink, radius=0.8)
    c.text(right - 42, top + 0.5, "5G", 10.5, ink, bold=True, align="right")
    c.font_scale = scale


def _foot_height(foot: b.TabBar | b.Foot | None, c: Canvas) -> float:
    if isinstance(foot, b.TabBar):
        return 52.0
    if isinstance(foot, b.Foot):
        return 8 + max(measure((button,), c, Spot(0, 0, 332)) for button in foot.buttons)
    return 0.0


def _foot(page: b.Page, c: Canvas, y: float, height: float) -> None:
    if page.foot is None:
        return
    c.rect(0, y, SCREEN_DP, 200, c.theme.card)
    c.rect(0, y, SCREEN_DP, 0.7, c.theme.line)
    if isinstance(page.foot, b.Foot):
        step = (SCREEN_DP - 2 * PAD + 10) / len(page.foot.buttons)
        for number, button in enumerate(page.foot.buttons):
            paint(button, c, Spot(PAD + number * step, y + 4, step - 10))
        return
    step = SCREEN_DP / len(page.foot.items)
    scale, c.font_scale = c.font_scale, 1.0
    for number, (icon, name) in enumerate(page.foot.items):
        ink = c.theme.accent if number == page.foot.active else c.theme.sub
        c.icon(icon, step * (number + 0.5), y + 19, 23, ink)
        c.text(step * (number + 0.5), y + 32, name, 10.5, ink, align="middle", max_w=step)
    c.font_scale = scale


def _system(page: b.Page, shot: Shot, c: Canvas, height: float) -> None:
    bottom = c.height_dp
    ground = c.theme.bg if page.foot is None else c.theme.card
    ink = mix(ground, c.theme.ink, 0.75)
    if shot.system == "gesture":
        c.rect(SCREEN_DP / 2 - 60, bottom - 9, 120, 4, ink, radius=2)
    elif shot.system == "buttons":
        middle = bottom - height / 2
        c.rect(0, bottom - height, SCREEN_DP, height + 1, ground)
        c.rect(84, middle - 6.5, 13, 13, ink, radius=2)
        c.rect(85.5, middle - 5, 10, 10, ground, radius=1)
        c.disc(SCREEN_DP / 2, middle, 7.5, ink)
        c.disc(SCREEN_DP / 2, middle, 6, ground)
        c.icon("back", 270, middle, 18, ink)
