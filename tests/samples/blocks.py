"""The blocks of a page as plain data: contents and order, independent of how they are drawn.

Page ── title, theme, ground
  ├── blocks: Hero, Card(Rows …), Grid, Banner …      painted by paint_*.py
  └── foot:   Button, Foot or TabBar, fixed at the bottom
"""

from dataclasses import dataclass, field

from tests.samples.theme import Rgb, Theme


@dataclass(frozen=True)
class Block:
    """Anything that fills the page's width and has a height."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A label with its value, on one line."""

    label: str
    value: str = ""
    hint: bool = False
    """Whether the value is a placeholder such as 请选择."""
    arrow: bool = False
    icon: str = ""
    sub: str = ""
    tag: str = ""
    toggle: bool | None = None
    strong: bool = False


@dataclass(frozen=True)
class Rows(Block):
    """Rows with thin lines between them; `stacked` puts each value below its label."""

    rows: tuple[Row, ...]
    stacked: bool = False
    left: bool = False
    """Whether values are left-aligned in a column, as in forms, instead of right-aligned."""


@dataclass(frozen=True)
class Card(Block):
    """Blocks on a ground of their own; `flat` reaches from edge to edge."""

    blocks: tuple[Block, ...]
    flat: bool = False
    tinted: bool = False


@dataclass(frozen=True, kw_only=True)
class Heading(Block):
    """The heading of the following blocks."""

    text: str
    sub: str = ""
    more: str = ""
    bar: bool = False
    """Whether there is a short coloured bar before the text."""


@dataclass(frozen=True, kw_only=True)
class Hero(Block):
    """A large amount with its captions."""

    caption: str
    amount: str
    lines: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    button: str = ""
    tag: str = ""
    style: str = "plain"
    """Style: `plain` without a card, `card`, `filled` on a coloured card, or `gauge`."""
    align: str = "left"
    share: float = 0.7
    """Filled share of the gauge, 0..1."""


@dataclass(frozen=True)
class Pairs(Block):
    """Figures side by side, each with its name."""

    pairs: tuple[tuple[str, str], ...]
    value_first: bool = True


@dataclass(frozen=True, kw_only=True)
class Banner(Block):
    """An advertising banner."""

    title: str
    sub: str
    button: str = ""
    colours: tuple[Rgb, Rgb]
    icon: str = "gift"


@dataclass(frozen=True, kw_only=True)
class Notice(Block):
    """A coloured strip with one line."""

    text: str
    icon: str = "horn"
    arrow: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid(Block):
    """Icons with names below."""

    items: tuple[tuple[str, str], ...]
    columns: int = 4
    coloured: bool = False


@dataclass(frozen=True, kw_only=True)
class Item(Block):
    """A line of a list: picture, two texts, two texts at the right."""

    title: str
    sub: str = ""
    right: str = ""
    right_sub: str = ""
    icon: str = ""
    logo: str = ""
    colour: Rgb | None = None
    right_colour: Rgb | None = None
    button: str = ""


@dataclass(frozen=True, kw_only=True)
class Note(Block):
    """Small print."""

    text: str
    align: str = "middle"
    size: float = 11
    tick: bool = False


@dataclass(frozen=True, kw_only=True)
class Button(Block):
    """A wide button; `kind` is `primary`, `outline` or `idle`."""

    text: str
    kind: str = "primary"
    above: str = ""
    """Small print above the button."""


@dataclass(frozen=True)
class Tabs(Block):
    """Tabs, one of them active, underlined or as `chips`."""

    names: tuple[str, ...]
    active: int = 0
    chips: bool = False


@dataclass(frozen=True)
class Steps(Block):
    """Numbered stages of which some are done."""

    names: tuple[str, ...]
    done: int = 0


@dataclass(frozen=True, kw_only=True)
class Bar(Block):
    """A progress bar."""

    share: float
    left: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Person(Block):
    """The user: avatar, name, a line below."""

    name: str
    sub: str
    tag: str = ""
    more: str = ""
    on_ground: bool = False
    """Whether it is on the coloured ground, in the colour of its texts."""


@dataclass(frozen=True, kw_only=True)
class Chart(Block):
    """A line chart with its dates."""

    points: tuple[float, ...]
    dates: tuple[str, ...]
    colour: Rgb


@dataclass(frozen=True)
class Search(Block):
    """A search field."""

    hint: str


@dataclass(frozen=True)
class Gap(Block):
    """Empty space of a height in dp."""

    height: float = 12


@dataclass(frozen=True)
class TabBar:
    """The app's main sections at the bottom."""

    items: tuple[tuple[str, str], ...]
    active: int = 0


@dataclass(frozen=True)
class Foot:
    """Buttons fixed at the bottom, side by side."""

    buttons: tuple[Button, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of an app."""

    theme: Theme
    title: str
    blocks: tuple[Block, ...]
    foot: TabBar | Foot | None = None
    ground: tuple[Rgb, Rgb] | None = None
    """Colours of the head behind the first blocks; none for the plain background."""
    ground_h: float = 210
    title_at: str = "middle"
    """Alignment of the title: `middle`, `left` or `none`."""
    back: bool = True
    action: str = ""
    """A word, or the name of an icon, to the right of the title."""
    on_ground: Rgb = field(default=(255, 255, 255))
