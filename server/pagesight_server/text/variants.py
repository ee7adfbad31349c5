"""Spelling variants: lines that are one line of a page, read or written a little differently.

    line ──its rarest characters or pairs──> candidates that have one ──RapidFuzz──> variants
    variants ──connected components──> in each, the commonest lines stand for the others

Two lines are spelling variants when RapidFuzz finds them 0.8 similar *and* they do not differ by
a word of two or more Chinese characters, exchanged, added or left out: that may be a brand inside
a longer line, and brands are what white-label pages differ in.

A gallery of 10,000 pictures has some 70,000 lines, too many to compare each with each. Lines
that are 0.8 similar share two thirds of the characters of either, so one of any third of them,
and one character more, is in both; and all but the shortest share neighbouring characters, too.
Only lines that have one of its rarest characters, or of its rarest pairs of neighbours, are
compared, whichever are fewer: pairs are the rarer, the more lines there are.

A changed gallery gets a new table, made from the one before. What a change touches is rebuilt
whole: the variants of a line that gained or lost one, and the spellings of a component with such
a line. The rest is shared. The outcome is that of a table made from nothing, and that is how one
is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from functools import cache, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

from pagesight_server.text.matching import cjk_count

ALIKE = 80.0
"""RapidFuzz ratio, of 100, from which two lines may be spelling variants: one character of five
misread."""

EQUAL = 100.0
"""RapidFuzz ratio of equal lines."""

MIN_WORD = 2
"""Chinese characters that make a word. A single one that differs is a misreading; two may be a
name, or all that tells one page's title from another's: 个人信息, 补充个人信息."""

PAIR_BUCKETS = 1 << 16
"""Numbers that stand for pairs of characters. There are more pairs than that, and a set for each
would take more memory than the lines; two that share a number cost a comparison."""

MAX_EXAMINED = 5
"""Most similar lines among which `find_variant` looks for one that does not differ by a word."""


MAX_RATIOS = 1 << 20
"""Ratios that `find_variants` holds at once: 8 MB."""


def differ_by_a_word(a: str, b: str) -> bool:
    """Whether two similar lines differ by a word: `MIN_WORD` CJK characters exchanged or added.

    An alignment depends on which line comes first. The answer must not, as the order is chance
    where tables are made: the lines are aligned in their order as strings.
    """
    a, b = min(a, b), max(a, b)
    for op in Levenshtein.opcodes(a, b):
        in_a = cjk_count(a[op.src_start : op.src_end])
        in_b = cjk_count(b[op.dest_start : op.dest_end])
        characters = min(in_a, in_b) if op.tag == "replace" else max(in_a, in_b)
        if op.tag != "equal" and characters >= MIN_WORD:
            return True
    return False


def variants_among(line: str, others: Collection[str]) -> dict[str, float]:
    """The spelling variants of a line among others, and the RapidFuzz ratio of each, 80 to 100.

    An equal line is a variant, too.
    """
    similar = process.extract(line, list(others), scorer=fuzz.ratio, score_cutoff=ALIKE, limit=None)
    return {other: ratio for other, ratio, _ in similar if not differ_by_a_word(line, other)}


def find_variant(line: str, others: Sequence[str]) -> int | None:
    """The index of the most similar spelling variant of a line; None when there is none."""
    similar = process.extract(
        line, others, scorer=fuzz.ratio, score_cutoff=ALIKE, limit=MAX_EXAMINED
    )
    return next((i for other, _, i in similar if not differ_by_a_word(line, other)), None)


def find_variants(
    lines: Iterable[str], pages: Sequence[Sequence[str]]
) -> dict[str, list[int | None]]:
    """For each line what `find_variant` finds on each of some pages.

    Pictures of one label show mostly the same lines, and each two strings are compared once.

    Args:
        lines: Any lines, in which equal ones count once.
        pages: The lines of each page.

    Returns:
        By line, for each page: the index of its most similar spelling variant; None without one.
    """
    places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    """The pages that show each string, and as which of their lines."""
    for page, shown in enumerate(pages):
        for index, other in enumerate(shown):
            places[other].append((page, index))
    strings = list(places)
    distinct = list(dict.fromkeys(lines))
    variants: dict[str, list[int | None]] = {line: [None] * len(pages) for line in distinct}
    if not strings:
        return variants
    at_once = max(1, MAX_RATIOS // len(strings))
    for first in range(0, len(distinct), at_once):
        some = distinct[first : first + at_once]
        # In calls of many lines, which run without the GIL.
        ratios = process.cdist(
            some, strings, scorer=fuzz.ratio, score_cutoff=ALIKE, dtype=np.float64
        )
        for line, row in zip(some, ratios, strict=True):
            differs = cache(partial(differ_by_a_word, line))
            nearest: defaultdict[int, list[tuple[float, int, str]]] = defaultdict(list)
            for at in np.flatnonzero(row).tolist():
                for page, index in places[strings[at]]:
                    nearest[page].append((-row[at], index, strings[at]))
            for page, near in nearest.items():
                examined = sorted(near)[:MAX_EXAMINED]
                variants[line][page] = next(
                    (index for _, index, other in examined if not differs(other)), None
                )
    return variants


def variant_similarities(lines: Sequence[str], others: Sequence[str]) -> NDArray[np.float64]:
    """How similar each line and each other are, 0.8 to 1, and 0 where they are no variants.

    Returns:
        Shape (lines, others).
    """
    if not others:
        return np.zeros((len(lines), 0))
    ratios = process.cdist(lines, others, scorer=fuzz.ratio, score_cutoff=ALIKE, dtype=np.float64)
    for i, j in np.argwhere((ratios > 0) & (ratios < 100)).tolist():
        if differ_by_a_word(lines[i], others[j]):
            ratios[i, j] = 0
    similarities: NDArray[np.float64] = ratios / 100
    return similarities


@cache
def pairs_to_look_up(length: int) -> int:
    """Of how many pairs of neighbours of a line at least one is in all its spelling variants.

    Of two lines of n and m characters with L of them in common, in order, at least
    3 L - n - m - 1 pairs of either stand in the other: a character that is missing costs two
    pairs, one that is added one more. A ratio of 0.8 is L >= 0.4 (n + m).

    Returns:
        0 where a variant may have no pair in common: for lines of fewer than four characters.
    """
    others = range(-(-2 * length // 3), 3 * length // 2 + 1)
    shared = min(3 * -(-2 * (length + m) // 5) - length - m - 1 for m in others)
    return max(0, length - shared) if length >= 4 and shared >= 1 else 0


class SpellingVariants:
    """A table of lines, each under the canonical spelling that stands for it; never changes.

    Args:
        counts: How many pictures show each line; none of the lines is empty.
        before: The table of an earlier revision, to share what the change does not touch.
    """

    def __init__(self, counts: Mapping[str, int], before: SpellingVariants | None = None) -> None:
        counts_before: Mapping[str, int] = before.counts if before else {}
        changed = {line for line, count in counts.items() if counts_before.get(line) != count}
        added = {line for line in changed if line not in counts_before}
        removed = {line for line in counts_before if line not in counts}
        self.counts: Mapping[str, int] = counts
        # Shallow copies: the values are shared with the table before and never changed.
        self._lines_with: dict[str, set[str]] = dict(before._lines_with) if before else {}
        """Inverted index: the lines that have each character."""
        self._lines_with_pair: dict[int, set[str]] = dict(before._lines_with_pair) if before else {}
        """The lines that have each pair of neighbours, by its number."""
        self._variants: dict[str, dict[str, float]] = dict(before._variants) if before else {}
        """The graph of variants: those of each line, itself not among them, with their ratios."""
        self._canonical: dict[str, str] = dict(before._canonical) if before else {}
        """The canonical spelling of each line."""
        gained = self._index(added, removed)
        bereft = self._link(added, removed, gained)
        self.respelled = frozenset(self._respell(changed | bereft, removed))
        """Lines with another canonical spelling than in the table before, or none any more."""

    def canonical(self, line: str) -> str:
        """The canonical spelling of a line of the table."""
        return self._canonical[line]

    def canonical_spellings(self) -> Iterable[str]:
        """All canonical spellings, in no order."""
        return (line for line, canonical in self._canonical.items() if line == canonical)

    def matches(self, line: str) -> list[tuple[str, float]]:
        """The canonical spellings that are variants of any line, in no order.

        Returns:
            Each with its similarity, 0.8 to 1.
        """
        canonical = self._canonical
        if line in canonical:
            known = {line: EQUAL, **self._variants[line]}
            ratios = {text: ratio for text, ratio in known.items() if canonical[text] == text}
        else:
            spellings = [text for text in self._candidates(line) if canonical[text] == text]
            ratios = variants_among(line, spellings)
        return [(text, ratio / 100) for text, ratio in ratios.items()]

    def _index(self, added: Set[str], removed: Set[str]) -> Mapping[str, dict[str, float]]:
        """Rebuilds the index of what an added or removed line has, in new sets.

        Each added line is compared with what is indexed before it, so no pair is compared twice.

        Returns:
            The variants that lines gained: of added lines all, of others the added ones.
        """
        for character in {c for line in added | removed for c in line}:
            self._lines_with[character] = self._lines_with.get(character, set()) - removed
        for pair in {pair for line in added | removed for pair in _pairs(line)}:
            self._lines_with_pair[pair] = self._lines_with_pair.get(pair, set()) - removed
        gained: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for line in added:
            for other, ratio in variants_among(line, self._candidates(line)).items():
                gained[line][other] = gained[other][line] = ratio
            for character in set(line):
                self._lines_with[character].add(line)
            for pair in set(_pairs(line)):
                self._lines_with_pair[pair].add(line)
        return gained

    def _link(
        self, added: Set[str], removed: Set[str], gained: Mapping[str, dict[str, float]]
    ) -> Set[str]:
        """Rebuilds the variants of each line that gained or lost one.

        Returns:
            The lines that lost one.
        """
        bereft = {other for line in removed for other in self._variants[line]} - removed
        for line in removed:
            del self._variants[line]
        for line in added | bereft | gained.keys():
            kept = {
                other: ratio
                for other, ratio in self._variants.get(line, {}).items()
                if other not in removed
            }
            self._variants[line] = kept | gained.get(line, {})
        return bereft

    def _respell(self, touched: Set[str], removed: Set[str]) -> Set[str]:
        """Rebuilds the spellings of each component of variants that has a touched line.

        Returns:
            The lines whose spelling is another one than before, removed ones included.
        """
        respelled = set(removed)
        for line in removed:
            del self._canonical[line]
        for component in self._components(touched):
            for line, canonical in self._choose_canonical(component):
                if self._canonical.get(line) != canonical:
                    self._canonical[line] = canonical
                    respelled.add(line)
        return respelled

    def _candidates(self, line: str) -> set[str]:
        """Finds lines with one of the line's rarest parts: all its variants are among them."""
        empty: set[str] = set()
        rarest_first = sorted((self._lines_with.get(c, empty) for c in line), key=len)
        # A line that is 0.8 similar lacks at most a third of the characters.
        fewest = rarest_first[: len(line) // 3 + 1]
        if wanted := pairs_to_look_up(len(line)):
            by_pair = sorted((self._lines_with_pair.get(p, empty) for p in _pairs(line)), key=len)
            fewest = min(fewest, by_pair[:wanted], key=lambda sets: sum(map(len, sets)))
        return empty.union(*fewest)

    def _components(self, lines: Iterable[str]) -> Iterable[set[str]]:
        """The connected components of the graph of variants that have one of some lines."""
        left = set(lines)
        while left:
            start = left.pop()
            component, edge = {start}, [start]
            while edge:
                beyond = self._variants[edge.pop()].keys() - component
                component |= beyond
                edge += beyond
            left -= component
            yield component

    def _choose_canonical(self, component: Iterable[str]) -> Iterable[tuple[str, str]]:
        """Maps each line of a component to its canonical spelling.

        The lines come commonest first. One that is no variant of a canonical line becomes
        canonical itself; another goes under the most similar canonical line.
        """
        rank: dict[str, int] = {}
        commonest_first = sorted(component, key=lambda line: (-self.counts[line], line))
        for place, line in enumerate(commonest_first):
            nearest = [
                (-ratio, rank[other], other)
                for other, ratio in self._variants[line].items()
                if other in rank
            ]
            if not nearest:
                rank[line] = place
            yield line, min(nearest)[2] if nearest else line


def _pairs(line: str) -> list[int]:
    """The numbers of a line's pairs of neighbours, in order."""
    codes = [ord(character) for character in line]
    return [(31 * a + b) % PAIR_BUCKETS for a, b in pairwise(codes)]
