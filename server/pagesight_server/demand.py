"""Reading on demand: lines are read until no unread line could change the decision.

    boxes ──> which lines do the likely pages expect there? ──> most telling first
                   ┌────────────── read a fifth of the lines <──────────────┐
                   v                                                        │
    unread lines say nothing known ───────────────> decision ─┐             │
    unread lines say what page A shows there ─────> decision ─┼─ the same? ─┴─no
    unread lines say what page B shows there ─────> decision ─┘      └─yes──> that decision

Unread is unknown, never absent: each completion stands for what the unread lines might say, for
or against a page. A line of a known page may stand where a box of about its size is, at about its
distance from the edges, at any height, since pages are scrolled. The pages are the ones that look
or score most alike, a few of them, each by its best picture. That is no proof: a page outside
them, a line of another size, or a score that falls when a line is *known* is not thought of. What
it is worth was measured (docs/benchmarks.md, Reading on demand).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from rapidfuzz import fuzz

from pagesight_server.text import Box, Reading, TextLine, in_reading_order

ROUND = 0.2
"""Share of the lines that is read between two looks at the decision."""

SAME_LINE = 80
"""RapidFuzz ratio from which a line of a page has been read already."""

EDGE, WIDTH, HEIGHT = 0.08, 0.3, 0.35
"""How far a line may stand from where its page has it: its left edge, right edge or middle, as a
share of the picture's width; its width and height, as a share of the larger."""

STRANGE = "龘靐齉爩鱻麤龗灪吁龖厵滟爨癵籱饢驫鲡鹂鸾鬱"
"""Characters that no page shows: what a line says that speaks for none."""


class Judgement(Protocol):
    """What a completion is judged to be."""

    @property
    def label(self) -> str:
        """A known page or `other`."""


J = TypeVar("J", bound=Judgement)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """Where a screenshot has text, before any of it is read."""

    width_px: int
    height_px: int
    boxes: tuple[Box, ...]


Read = Callable[[Sequence[int]], Awaitable[Sequence[TextLine | None]]]
"""Reads the boxes of these numbers; None where no text was made out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A screenshot whose text was found and not yet read."""

    outline: Outline
    read: Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(Generic[J]):
    """A decision that unread lines would not change."""

    judgement: J
    """Of the lines that were read, unread ones speaking for no page: scores are what is certain."""
    reading: Reading
    """The lines that were read, alone."""
    unread: int
    """Lines that were not."""


async def settle(
    found: Found,
    judge: Callable[[Reading], Awaitable[J]],
    rivals: Callable[[J | None], Sequence[Reading]],
) -> Settled[J]:
    """Reads until the decision stands.

    Args:
        found: A screenshot.
        judge: What a page with these lines would be.
        rivals: The pages that it might be, after a judgement or before any.
    """
    outline = found.outline
    count = len(outline.boxes)
    order = _telling(outline, rivals(None))
    known: dict[int, TextLine | None] = {}
    while True:
        judgement = await judge(pessimistic(outline, known))
        if len(known) == count or await _stands(outline, known, judge, judgement, rivals):
            return Settled(
                judgement=judgement,
                reading=_reading(outline, known.values()),
                unread=count - len(known),
            )
        following = order[len(known) : len(known) + max(1, round(ROUND * count))]
        known |= zip(following, await found.read(following), strict=True)


async def _stands(
    outline: Outline,
    known: dict[int, TextLine | None],
    judge: Callable[[Reading], Awaitable[J]],
    judgement: J,
    rivals: Callable[[J | None], Sequence[Reading]],
) -> bool:
    for page in rivals(judgement):
        if (await judge(optimistic(outline, known, page))).label != judgement.label:
            return False
    return True


def pessimistic(outline: Outline, known: dict[int, TextLine | None]) -> Reading:
    """The lines that were read, and unread ones that say what no page shows."""
    strange = (
        TextLine(_strange(number, box), 1.0, box)
        for number, box in enumerate(outline.boxes)
        if number not in known
    )
    return _reading(outline, [*known.values(), *strange])


def optimistic(outline: Outline, known: dict[int, TextLine | None], page: Reading) -> Reading:
    """The lines that were read, and unread ones that say what a page shows, where they can.

    An unread line where the page has none of its size is left out: it might be anything.
    """
    said = [line for line in known.values() if line is not None]
    left = list(page.lines)
    for line in said:
        alike = max(left, key=lambda other: fuzz.ratio(line.text, other.text), default=None)
        if alike is not None and fuzz.ratio(line.text, alike.text) >= SAME_LINE:
            left.remove(alike)
    scale = outline.width_px / max(1, page.width_px)
    for number, box in enumerate(outline.boxes):
        if number in known:
            continue
        fits = [line for line in left if _fits(box, line.box, scale, outline.width_px)]
        if fits:
            nearest = min(fits, key=lambda line: abs(line.box.top * scale - box.top))
            left.remove(nearest)
            said.append(TextLine(nearest.text, 1.0, box))
    return _reading(outline, said)


def _telling(outline: Outline, pages: Sequence[Reading]) -> list[int]:
    """Boxes by how much their text would tell: where pages differ first, then the longest."""
    expected = [
        {
            line.text
            for page in pages
            for line in page.lines
            if _overlaps(box, line.box, outline.width_px / max(1, page.width_px))
        }
        for box in outline.boxes
    ]
    return sorted(
        range(len(outline.boxes)),
        key=lambda i: (-len(expected[i]), -_width(outline.boxes[i]) / _height(outline.boxes[i])),
    )


def _fits(box: Box, line: Box, scale: float, width_px: int) -> bool:
    """Whether a page's line, shown at another scale and scrolled, may be what a box holds."""
    left, right = line.left * scale, line.right * scale
    width, height = _width(line) * scale, _height(line) * scale
    ends = (box.left - left, box.right - right, (box.left + box.right - left - right) / 2)
    return (
        min(map(abs, ends)) <= EDGE * width_px
        and abs(width - _width(box)) <= WIDTH * max(width, _width(box)) + _height(box) / 2
        and abs(height - _height(box)) <= HEIGHT * max(height, _height(box)) + 2
    )


def _overlaps(box: Box, line: Box, scale: float) -> bool:
    """Whether a page has a line in the very place of a box."""
    left, top, right, bottom = (side * scale for side in line)
    width = min(box.right, right) - max(box.left, left)
    height = min(box.bottom, bottom) - max(box.top, top)
    shared = max(0.0, width) * max(0.0, height)
    return shared > 0.3 * (_width(box) * _height(box) + (right - left) * (bottom - top) - shared)


def _strange(number: int, box: Box) -> str:
    length = max(1, round(_width(box) / _height(box)))
    return "".join(STRANGE[(7 * number + 5 * i) % len(STRANGE)] for i in range(length))


def _reading(outline: Outline, lines: Collection[TextLine | None]) -> Reading:
    said = [line for line in lines if line is not None]
    return Reading(
        width_px=outline.width_px, height_px=outline.height_px, lines=in_reading_order(said)
    )


def _width(box: Box) -> int:
    return max(1, box.right - box.left)


def _height(box: Box) -> int:
    return max(1, box.bottom - box.top)
