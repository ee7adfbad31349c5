"""Entity names: whether a screenshot goes by the names of a label, or by another's.

    the operator's brands ──visible in the screenshot?──no──> missing brand, in nats
    lines of the screenshot ──`replaced_names.py`───────────> replaced names, each with a weight

Where the operator gave brand names (`labels.toml`), a screenshot without them is held against how
often the label's own pictures lack them, and one with them has no replaced names. Where not, only
replaced names speak against the label.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.recognition.replaced_names import (
    FOREIGN_SHARE,
    ReplacedName,
    confirm_names,
    find_candidates,
    joined,
    score_candidates,
)
from pagesight_server.text.lines import PageLine, Place, median_place, page_lines
from pagesight_server.text.matching import matching_key
from pagesight_server.text.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class NameEvidence:
    """Whether a screenshot goes by the names of a label."""

    visible_brand: str = ""
    """The first brand name of the label that the screenshot shows, as matching key; empty when it
    shows none or the operator gave none."""
    pictures_with_brand: int = 0
    """How many of `pictures` show a brand name of the label."""
    pictures: int = 0
    """Pictures of the label that were compared; 0 where the operator gave no brand names."""
    missing_nats: float = 0.0
    """Surprise, in nats, that no brand name is visible: -ln of the smoothed share of the label's
    pictures without one. 0 where one is visible or none is known."""
    replacements: tuple[ReplacedName, ...] = ()
    """Names that stand where the label's own should stand, weightiest first."""

    @property
    def replaced(self) -> float:
        """How many of the label's names are replaced: the sum of their weights."""
        return sum(name.weight for name in self.replacements)


@dataclass(frozen=True, slots=True, kw_only=True)
class _LabelLines:
    """The lines of one label's pictures, those that are compared."""

    readings: tuple[Reading, ...]
    pages: tuple[list[PageLine], ...]
    """The lines of each picture."""
    picture_texts: tuple[str, ...]
    """The matching keys of each picture, in one string."""
    text: str
    """The distinct matching keys of all pictures, in one string."""
    places: dict[str, Place]
    """Where each matching key mostly stands: the median over all pictures."""

    @staticmethod
    def of(readings: tuple[Reading, ...], pages: tuple[list[PageLine], ...]) -> _LabelLines:
        places: defaultdict[str, list[Place]] = defaultdict(list)
        for lines in pages:
            for line in lines:
                places[line.key].append(line.place)
        return _LabelLines(
            readings=readings,
            pages=pages,
            picture_texts=tuple(map(joined, pages)),
            text="|".join(places),
            places={key: median_place(of_key) for key, of_key in places.items()},
        )

    def without(self, picture: int) -> _LabelLines:
        return _LabelLines.of(
            (*self.readings[:picture], *self.readings[picture + 1 :]),
            (*self.pages[:picture], *self.pages[picture + 1 :]),
        )


class EntityNames:
    """The entity names of every known label of a snapshot; safe to ask from many threads.

    Args:
        snapshot: The gallery.
        before: The names of an earlier revision, to share those of labels that did not change.
    """

    def __init__(self, snapshot: Snapshot, before: EntityNames | None = None) -> None:
        self._brands: dict[str, tuple[str, ...]] = {}
        """The brand names of each label, as matching keys."""
        self._labels: dict[str, _LabelLines] = {}
        self._position: dict[int, tuple[str, int]] = {}
        """For each row that is compared, its label and its index among the label's pictures."""
        for label, rows in snapshot.sample.items():
            if is_reserved(label):
                continue
            self._position |= {row: (label, picture) for picture, row in enumerate(rows)}
            readings = tuple(snapshot.sampled_readings[row] for row in rows)
            lines = before._labels.get(label) if before else None
            if lines is None or lines.readings != readings:
                lines = _LabelLines.of(readings, tuple(map(page_lines, readings)))
            self._labels[label] = lines
            facts = snapshot.facts.get(label)
            keys = map(matching_key, facts.brands if facts else ())
            self._brands[label] = tuple(filter(None, keys))
        self._gallery_text = "|".join(lines.text for lines in self._labels.values())

    def weigh(
        self, label: str, lines: Sequence[PageLine], *, without: int | None = None
    ) -> NameEvidence:
        """Whether a screenshot goes by the names of a label.

        Args:
            label: A known label of the snapshot.
            lines: The screenshot, from `page_lines`.
            without: A row of the snapshot to leave out.
        """
        label_lines, brands = self._labels[label], self._brands[label]
        if without is not None and without in self._position:
            owner, picture = self._position[without]
            label_lines = label_lines.without(picture) if owner == label else label_lines
        pictures = len(label_lines.pages)
        if not pictures:
            return NameEvidence()
        if not brands:
            return NameEvidence(replacements=self._replaced_names(label, label_lines, lines))
        with_brand = sum(bool(_visible(brands, text)) for text in label_lines.picture_texts)
        if brand := _visible(brands, joined(lines)):
            return NameEvidence(
                visible_brand=brand, pictures_with_brand=with_brand, pictures=pictures
            )
        return NameEvidence(
            pictures_with_brand=with_brand,
            pictures=pictures,
            # The smoothed share (n + ½)/(N + 1) of the n pictures without one, of N.
            missing_nats=max(0.0, -math.log((pictures - with_brand + 0.5) / (pictures + 1))),
            replacements=self._replaced_names(label, label_lines, lines),
        )

    def _replaced_names(
        self, label: str, label_lines: _LabelLines, lines: Sequence[PageLine]
    ) -> tuple[ReplacedName, ...]:
        is_brand = partial(_is_brand, brands=self._brands[label])
        candidates = find_candidates(lines, label_lines.places, gallery_text=self._gallery_text)
        names = score_candidates(candidates, partial(self._name_weight, label, label_lines))
        return confirm_names(names, label_lines.picture_texts, is_brand=is_brand)

    def _name_weight(
        self, label: str, label_lines: _LabelLines, block: str, whole_line: bool
    ) -> float:
        """How surely a block is a name that the label's pages cannot do without, 0 to 1.

        The square of the block's document frequency, less half a picture as few pictures say
        little, and less by how many other labels show it. Squared, it is the chance that two
        pictures of the label both show the block, as the screenshot and the label's picture must
        before a name can be said to be replaced: on every picture it weighs nearly 1, on half of
        them a quarter.

        A brand of the label is one whatever other labels show, and in the midst of a line, whose
        rest the screenshot shows too, surely; a line that is nothing else may be what a customer
        entered, such as a bank.
        """
        brand = _is_brand(block, self._brands[label])
        if brand and not whole_line:
            return 1.0
        showing = sum(block in text for text in label_lines.picture_texts)
        others = [block in other.text for name, other in self._labels.items() if name != label]
        rarity = max(0.0, 1 - sum(others) / len(others) / FOREIGN_SHARE) if others else 1.0
        share = max(0.0, showing - 0.5) / len(label_lines.picture_texts)
        return (1.0 if brand else rarity) * share**2


def _visible(brands: Iterable[str], text: str) -> str:
    """The first brand name that a text shows; empty when it shows none."""
    return next((brand for brand in brands if brand in text), "")


def _is_brand(block: str, brands: Iterable[str]) -> bool:
    """Whether a block is, holds or is part of a brand name."""
    return any(brand in block or block in brand for brand in brands)
