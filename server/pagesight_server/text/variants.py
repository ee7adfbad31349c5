"""Which lines of text are the same, in a table that grows and shrinks with the gallery.

    line ──its rarest characters──> lines that have one of them ──RapidFuzz──> alike lines
    alike lines ──the commonest first, in each connected group──> one spelling stands for all

Two lines are the same when RapidFuzz finds them 0.8 alike *and* their difference
is no word of two or more Chinese characters, exchanged, added or left out: that may be
a brand inside a longer line, and brands are what white-label pages differ in.

A gallery of 10,000 pictures has some 70,000 lines, too many to compare each with each. Lines
that are 0.8 alike share two thirds of the characters of either, so one of any third of them,
and one character more, is in both: only lines that have one of its rarest are looked at. A
change compares what is new, and joins anew only the groups it touched; the outcome is that of
a table made whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from rapidfuzz import fuzz, process
from rapidfuzz.distance import Levenshtein

ALIKE = 80.0
"""RapidFuzz ratio from which two lines may be the same."""

_CJK = re.compile(r"[㐀-鿿]")


def differ_by_a_word(a: str, b: str) -> bool:
    """Whether two lines that are alike differ by a word: two CJK characters exchanged or added.

    One character is a misreading. Two may be a name, or all that tells one page's title from
    another's: 个人信息, 补充个人信息. Alignments depend on which line comes first, and that is
    chance where tables are made: so the answer must not.
    """
    a, b = min(a, b), max(a, b)
    for op in Levenshtein.opcodes(a, b):
        mine = len(_CJK.findall(a[op.src_start : op.src_end]))
        theirs = len(_CJK.findall(b[op.dest_start : op.dest_end]))
        told = min(mine, theirs) if op.tag == "replace" else max(mine, theirs)
        if op.tag != "equal" and told >= 2:
            return True
    return False


class Lines:
    """Lines of text, each under the spelling that stands for it; never changes.

    Args:
        counts: How many pictures show each line. None of them is empty.
        before: A table of which most is still true; only what differs is compared again.
    """

    def __init__(self, counts: Mapping[str, int], before: Lines | None = None) -> None:
        self.counts = counts
        old: Mapping[str, int] = before.counts if before else {}
        changed = [line for line, count in counts.items() if old.get(line) != count]
        removed = [line for line in old if line not in counts]
        self._having: dict[str, set[str]] = dict(before._having) if before else {}
        self._near: dict[str, dict[str, float]] = dict(before._near) if before else {}
        self._same: dict[str, str] = dict(before._same) if before else {}
        self._own: set[str] = set()
        """Keys of `_having` and `_near` whose values are not shared with the table before."""
        touched = set(changed)
        for line in removed:
            touched.update(self._near[line])
            self._remove(line)
        for line in changed:
            if line not in old:
                self._add(line)
        touched.difference_update(removed)
        self.moved = frozenset((*self._join(touched), *removed))
        """Lines that stand under another spelling than before, or no longer at all."""
        self._own = set()

    def spelling(self, line: str) -> str:
        """The spelling under which a line of the table stands."""
        return self._same[line]

    def spellings(self) -> Iterable[str]:
        """Those that stand for others or for themselves, in no order."""
        return (line for line, same in self._same.items() if line == same)

    def alike(self, line: str) -> list[tuple[str, float]]:
        """The spellings that are the same as any line, and how alike each is, 0.8 to 1."""
        near = self._compare(line, (text for text in self._sharing(line) if self._stands(text)))
        return [(text, ratio / 100) for text, ratio in near.items()]

    def _stands(self, line: str) -> bool:
        return self._same[line] == line

    def _sharing(self, line: str) -> set[str]:
        """Lines that share one of its rarest characters; all that are alike are among them."""
        nobody: set[str] = set()
        having = sorted((self._having.get(c, nobody) for c in line), key=len)
        # Of at most a third of its characters a line that is 0.8 alike has none.
        return nobody.union(*having[: len(line) // 3 + 1])

    @staticmethod
    def _compare(line: str, others: Iterable[str]) -> dict[str, float]:
        near = process.extract(
            line, list(others), scorer=fuzz.ratio, score_cutoff=ALIKE, limit=None
        )
        return {
            text: ratio
            for text, ratio, _ in near
            if ratio == 100 or not differ_by_a_word(line, text)
        }

    def _add(self, line: str) -> None:
        near = self._compare(line, self._sharing(line))
        for other, ratio in near.items():
            self._owned(other)[line] = ratio
        self._near[line] = near
        self._own.add(line)
        for character in set(line):
            self._owned_having(character).add(line)

    def _remove(self, line: str) -> None:
        for other in self._near.pop(line):
            if other in self._near:
                del self._owned(other)[line]
        for character in set(line):
            self._owned_having(character).discard(line)
        del self._same[line]

    def _owned(self, line: str) -> dict[str, float]:
        """Its neighbours, in a dictionary that no other table shares."""
        if line not in self._own:
            self._near[line] = dict(self._near[line])
            self._own.add(line)
        return self._near[line]

    def _owned_having(self, character: str) -> set[str]:
        key = f"having {character}"
        if key not in self._own:
            self._having[character] = set(self._having.get(character, ()))
            self._own.add(key)
        return self._having[character]

    def _join(self, touched: set[str]) -> list[str]:
        """Chooses the spellings anew in every group that has a touched line; gives what moved."""
        moved = []
        left = set(touched)
        while left:
            group = self._group(left.pop())
            left -= group
            standing: dict[str, int] = {}
            # The commonest first; each later line goes under the most alike that stands.
            for place, line in enumerate(sorted(group, key=lambda t: (-self.counts[t], t))):
                near = [
                    (-ratio, standing[other], other)
                    for other, ratio in self._near[line].items()
                    if other in standing
                ]
                if not near:
                    standing[line] = place
                same = min(near)[2] if near else line
                if self._same.get(line) != same:
                    self._same[line] = same
                    moved.append(line)
        return moved

    def _group(self, line: str) -> set[str]:
        group, edge = {line}, [line]
        while edge:
            for other in self._near[edge.pop()]:
                if other not in group:
                    group.add(other)
                    edge.append(other)
        return group
