"""Reading on demand: lines are read until no unread line could change the decision.

    boxes ──> which lines do the likely pages expect there? ──> telling and short ones first
                   ┌────────────── read a tenth of the lines <──────────────┐
                   v                                                        │
    unread lines say nothing known ───────────────> decision ─┐             │
      the same, and every name that may be exchanged is ────> ┤             │
    unread lines say what page A shows there ─────> decision ─┼─ the same? ─┴─no
    unread lines say what page B shows there ─────> decision ─┘      └─yes──> that decision

Unread is unknown, never absent: each completion stands for what the unread lines might say, for
or against a page. Names are not imagined but bounded (`names.Unread`), for a page's looks and
words may all stand while its name, in one line, forbids or allows it: the page that a completion
speaks for has its names in unread lines, every other page has them exchanged there. Looks and
words are imagined; `laid.py` says which line of a page may stand where. The pages are the ones that
look or score most alike, a few of them, each by its best picture, so that this half is no proof: a
page outside them or a line of another shape is not thought of. So `other` stands only where every
page misses its threshold by a `MARGIN`. What it is worth was measured (docs/benchmarks.md, Reading
on demand).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeAlias, TypeVar

from pagesight_server.gallery.snapshot import OTHER
from pagesight_server.recognition.entity_names import Unread
from pagesight_server.text.laid import Laid
from pagesight_server.text.lines import page as page_lines
from pagesight_server.text.reading import STATUS_BAR, Box, Reading, TextLine, in_reading_order

ROUND = 0.1
"""Share of the lines that is read between two looks at the decision."""

ROOM = 2.0
"""Characters that a line has room for, for each of its heights in length. Of Chinese lines 999 in
1000 hold at most 1.9; names matter in Chinese alone (`names.py`)."""

MARGIN = 0.03
"""By how much a page laid over the unread lines must miss the threshold for `other` to stand: the
screenshot may say more of it. Without, 2 of 90 labels of a drawn set differed, of pages that
reading in full accepts by less than 0.02."""

NOBODY = ""
"""Whom names favour when unread lines are to speak against every page."""

STRANGE = "龘靐齉爩鱻麤龗灪吁龖厵滟爨癵籱饢驫鲡鹂鸾鬱"
"""Characters that no page shows: what a line says that speaks for none."""


class Judgement(Protocol):
    """What a completion is judged to be."""

    @property
    def label(self) -> str:
        """A known page or `other`."""

    @property
    def score(self) -> float:
        """Of the closest page."""

    @property
    def threshold(self) -> float:
        """From where on it is accepted."""


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
    judge: Callable[[Reading, Unread], Awaitable[J]],
    rivals: Callable[[J | None], Sequence[tuple[str, Reading]]],
) -> Settled[J]:
    """Reads until the decision stands.

    Args:
        found: A screenshot.
        judge: What a page with these lines would be, of which some are imagined.
        rivals: The pages that it might be and their labels, after a judgement or before any.
    """
    outline = found.outline
    count = len(outline.boxes)
    laid: dict[int, Laid] = {}
    """By identity of the page, which what is laid keeps alive."""

    def lay(pages: Sequence[tuple[str, Reading]]) -> list[tuple[str, Laid]]:
        for _, page in pages:
            if id(page) not in laid:
                laid[id(page)] = Laid(page, outline.boxes, outline.width_px)
        return [(label, laid[id(page)]) for label, page in pages]

    order = _telling(outline, [page for _, page in lay(rivals(None))])
    known: dict[int, TextLine | None] = {}
    threat: tuple[str, Laid | None] | None = None
    """What changed the decision last: it is most likely to change the next."""
    while True:
        strange, unread = pessimistic(outline, known), _unread(outline, known)
        judgement = await judge(strange, unread)
        label, stands = judgement.label, True
        threats: list[tuple[str, Laid | None]] = []
        if len(known) < count:
            threats = [(NOBODY, None), *lay(rivals(judgement))]
        for favoured, page in sorted(threats, key=lambda one: one != threat):
            if favoured == label:
                continue
            rest = strange.lines if label != OTHER else ()
            imagined = optimistic(outline, known, page, rest) if page else strange
            if _moved(await judge(imagined, replace(unread, favoured=favoured)), label):
                threat, stands = (favoured, page), False
                break
        if stands:
            return Settled(
                judgement=judgement,
                reading=_reading(outline, known.values()),
                unread=count - len(known),
            )
        following = order[len(known) : len(known) + max(1, round(ROUND * count))]
        known |= zip(following, await found.read(following), strict=True)


def _moved(judgement: Judgement, label: str) -> bool:
    """Whether a completion is judged otherwise, or is nearly accepted where none was."""
    nearly = judgement.score >= judgement.threshold - MARGIN
    return judgement.label != label or (label == OTHER and nearly)


def pessimistic(outline: Outline, known: Known) -> Reading:
    """The lines that were read, and unread ones that say what no page shows."""
    strange = (
        TextLine(_strange(number, box), 1.0, box)
        for number, box in enumerate(outline.boxes)
        if number not in known
    )
    return _reading(outline, [*known.values(), *strange])


def optimistic(
    outline: Outline, known: Known, page: Laid, rest: Sequence[TextLine] = ()
) -> Reading:
    """The lines that were read, and unread ones that say what a page shows, where they can.

    Args:
        outline: Where the screenshot has text.
        known: What was read of it.
        page: A page laid over it.
        rest: What unread lines say where the page has none that fits; else they are left out.
    """
    said = [line for line in known.values() if line is not None]
    shown = list(page.lines([line.text for line in said], known))
    taken = {line.box for line in (*said, *shown)}
    return _reading(outline, [*said, *shown, *(line for line in rest if line.box not in taken)])


def _telling(outline: Outline, pages: Sequence[Laid]) -> list[int]:
    """Boxes by how much their text tells for its cost: where pages differ first, then the shortest.

    A line costs as much as it is long, and tells hardly more.
    """

    def tells(number: int) -> tuple[int, float]:
        box = outline.boxes[number]
        expected = {text for page in pages for text in page.expected[number]}
        return -len(expected), _width(box) / _height(box)

    return sorted(range(len(outline.boxes)), key=tells)


def _unread(outline: Outline, known: Known) -> Unread:
    """What names must reckon with; what the phone says at the top is none of the page's."""
    top = STATUS_BAR * outline.height_px
    rooms = (
        round(ROOM * max(_width(box), _height(box)) / min(_width(box), _height(box)))
        for number, box in enumerate(outline.boxes)
        if number not in known and box.bottom > top
    )
    return Unread(
        lines=page_lines(_reading(outline, known.values())),
        rooms=tuple(room for room in rooms if room > 1),
    )


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
