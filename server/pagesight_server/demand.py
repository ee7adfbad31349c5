"""Reading on demand: lines are read until no unread line could change the decision.

    boxes ──> which lines do the likely pages expect there? ──> most telling first
                   ┌────────────── read a fifth of the lines <──────────────┐
                   v                                                        │
    unread lines say nothing known ───────────────> decision ─┐             │
    unread lines say what page A shows there ─────> decision ─┼─ the same? ─┴─no
    unread lines say what page B shows there ─────> decision ─┘      └─yes──> that decision

Unread is unknown, never absent: each completion stands for what the unread lines might say, for
or against a page; `laid.py` says which line of a page may stand where. The pages are the ones that
look or score most alike, a few of them, each by its best picture. That is no proof: a page outside
them, a line of another shape, or a score that falls when a line is *known* is not thought of. What
it is worth was measured (docs/benchmarks.md, Reading on demand).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from pagesight_server.laid import Laid
from pagesight_server.text import Box, Reading, TextLine, in_reading_order

ROUND = 0.2
"""Share of the lines that is read between two looks at the decision."""

STRANGE = "龘靐齉爩鱻麤龗灪吁龖厵滟爨癵籱饢驫鲡鹂鸾鬱"
"""Characters that no page shows: what a line says that speaks for none."""


class Judgement(Protocol):
    """What a completion is judged to be."""

    @property
    def label(self) -> str:
        """A known page or `other`."""


J = TypeVar("J", bound=Judgement)

Known: TypeAlias = Mapping[int, TextLine | None]
"""Lines that were read, by the number of their box."""


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
    laid: dict[int, Laid] = {}
    """By identity of the page, which what is laid keeps alive."""

    def lay(pages: Sequence[Reading]) -> list[Laid]:
        for page in pages:
            if id(page) not in laid:
                laid[id(page)] = Laid(page, outline.boxes, outline.width_px)
        return [laid[id(page)] for page in pages]

    order = _telling(outline, lay(rivals(None)))
    known: dict[int, TextLine | None] = {}
    while True:
        judgement = await judge(pessimistic(outline, known))
        if len(known) == count or await _stands(
            outline, known, judge, judgement, lay(rivals(judgement))
        ):
            return Settled(
                judgement=judgement,
                reading=_reading(outline, known.values()),
                unread=count - len(known),
            )
        following = order[len(known) : len(known) + max(1, round(ROUND * count))]
        known |= zip(following, await found.read(following), strict=True)


async def _stands(
    outline: Outline,
    known: Known,
    judge: Callable[[Reading], Awaitable[J]],
    judgement: J,
    pages: Sequence[Laid],
) -> bool:
    for page in pages:
        if (await judge(optimistic(outline, known, page))).label != judgement.label:
            return False
    return True


def pessimistic(outline: Outline, known: Known) -> Reading:
    """The lines that were read, and unread ones that say what no page shows."""
    strange = (
        TextLine(_strange(number, box), 1.0, box)
        for number, box in enumerate(outline.boxes)
        if number not in known
    )
    return _reading(outline, [*known.values(), *strange])


def optimistic(outline: Outline, known: Known, page: Laid) -> Reading:
    """The lines that were read, and unread ones that say what a page shows, where they can.

    An unread line where the page has none that fits is left out: it might be anything.
    """
    said = [line for line in known.values() if line is not None]
    return _reading(outline, [*said, *page.lines([line.text for line in said], known)])


def _telling(outline: Outline, pages: Sequence[Laid]) -> list[int]:
    """Boxes by how much their text would tell: where pages differ first, then the longest."""

    def tells(number: int) -> tuple[int, float]:
        box = outline.boxes[number]
        expected = {text for page in pages for text in page.expected[number]}
        return -len(expected), -_width(box) / _height(box)

    return sorted(range(len(outline.boxes)), key=tells)


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
