"""Colours and shapes of one app, light and dark, so that pages name roles, not colours."""

import dataclasses
from dataclasses import dataclass

Rgb = tuple[int, int, int]


def rgb(text: str) -> Rgb:
    """Parses `#RRGGBB` into red, green and blue, 0..255."""
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Blends two colours: `a` with a share of `b`, 0..1."""
    return (
        round(a[0] + (b[0] - a[0]) * share),
        round(a[1] + (b[1] - a[1]) * share),
        round(a[2] + (b[2] - a[2]) * share),
    )


def brightness(colour: Rgb) -> float:
    """Luma of a colour, 0..255, with the weights of ITU-R BT.601."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


WHITE, BLACK, DARK = rgb("#FFFFFF"), rgb("#000000"), rgb("#1F2329")


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colours and shapes of one app."""

    accent: Rgb
    accent2: Rgb
    on_accent: Rgb = WHITE
    bg: Rgb = (245, 246, 250)
    card: Rgb = WHITE
    ink: Rgb = (31, 35, 41)
    sub: Rgb = (134, 139, 148)
    faint: Rgb = (191, 196, 204)
    line: Rgb = (238, 240, 243)
    warm: Rgb = (255, 122, 48)
    radius: float = 12
    """Corner radius of cards, in dp."""
    pill: bool = True
    """Whether buttons have round ends, else the corner radius of cards."""
    dark: bool = False

    def darkened(self) -> "Theme":
        """The dark theme of the same app."""
        return dataclasses.replace(
            self,
            accent=mix(self.accent, BLACK, 0.12),
            accent2=mix(self.accent2, BLACK, 0.3),
            bg=rgb("#101114"),
            card=rgb("#1C1D22"),
            ink=rgb("#E6E7EA"),
            sub=rgb("#8B8F98"),
            faint=rgb("#5A5E66"),
            line=rgb("#2A2C32"),
            dark=True,
        )

    @property
    def tint(self) -> Rgb:
        """A faint tint of the accent, the background of chips and tags."""
        return mix(self.card, self.accent, 0.2 if self.dark else 0.1)


def theme(accent: str, accent2: str, **changes: object) -> Theme:
    """A light theme of two colours, `changes` overriding its other roles."""
    light = Theme(accent=rgb(accent), accent2=rgb(accent2))
    return dataclasses.replace(light, **changes)  # type: ignore[arg-type]
