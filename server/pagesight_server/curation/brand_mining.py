"""Brand mining: proposes brand names from the texts of a gallery, for a person to confirm.

    lines ──tokenize──> n-grams with their contexts ──> usage of each n-gram within one app
          ──keep complete, frequent, specific to the app──> score of name-like uses ──> suggestions

    有钱花可用额度          有钱花 fills a gap: no other app shows it, while what follows,
      ^^^^ ^^^^             可用额度, is a phrase that other apps show too
    other name-like uses: as a title, in 《…协议》, in 重庆度小满小额贷款有限公司

A name is distinguished from a phrase by its contexts: alone as a title, in the name of a company
or an agreement, in several sentences, on several labels of one app, or as the only segment in
which a line differs from other apps' lines (a gap). None suffices alone: "my limit" is a title,
too. Labels belong to the same app when their names agree up to the first "_": `dxm_amount` and
`dxm_user_info`.

Recognition does not use the suggestions: a phrase mistaken for a brand would reject every
screenshot of its page that is scrolled past it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from pagesight_server.curation.ngrams import is_cjk, joined, ngrams, pieces, tokenize
from pagesight_server.gallery.snapshot import Snapshot, is_reserved
from pagesight_server.text.lines import lines_below_status_bar
from pagesight_server.text.reading import Reading

MAX_PICTURES = 20
"""Most pictures of a label whose text is used: enough to see which phrases are stable."""

MAX_SUGGESTIONS = 4
"""Most suggestions for one label: a page has one or two brands, and a person reads the list."""

STABLE = 0.5
"""Least share of a label's pictures that show a phrase for it to belong to the page, not to the
user's data."""

FOREIGN_RATE = 0.34
"""Largest share of the pictures of any other app's label that may show a brand: a page of one app
may name another, such as the bank of a card."""

TITLE = 0.12
"""Height of the title area from the top, as a share of the page: status bar and one title bar."""

ONE_SIDED = 0.8
"""Share of its occurrences with the same neighbouring character above which an n-gram is a fragment
of a longer string. Less than 1, as OCR misreads some of the neighbours."""

MIN_POINTS = 3
"""Least score of a suggestion: more than one kind of name-like use, which counts 2."""

_COMPANY = re.compile(r".{0,12}?(?:有限公司|股份公司)|\W*(?:inc|ltd|llc|gmbh|bank)\b", re.I)
"""The rest of a company's name after the brand: trade, at most 12 characters, and legal form."""
_BANK = "银行"

PLACES = frozenset(
    re.findall(
        "..",
        "北京上海天津重庆河北山西辽宁吉林江苏浙江安徽福建江西山东河南湖北湖南广东广西海南四川贵州云南"
        "西藏陕西甘肃青海宁夏新疆香港澳门台湾中国深圳广州杭州南京厦门成都武汉前海",
    )
)
"""Places with which the names of Chinese companies begin, and which are not part of the brand."""


class Suggestion(NamedTuple):
    """A string that may be a brand of a label."""

    text: str
    why: str
    """The observations that support it, in words for a person."""
    pictures: int
    """Number of pictures of the label that show it."""


class _Line(NamedTuple):
    """Holds one line of text, tokenized."""

    tokens: tuple[str, ...]
    text: str
    """The tokens as one normalized string, in which names are searched."""
    middle: float
    """Vertical position of the line's centre, 0 (top of the page) to 1."""


_Pages: TypeAlias = dict[str, list[tuple[_Line, ...]]]
"""The lines of each picture of each label."""


@dataclass(slots=True)
class _App:
    """The pages of one app, with those of all others as background."""

    pages: _Pages
    """Pages of the app's own labels."""
    others: _Pages
    """Pages of the labels of all other apps."""
    phrases: Set[str]
    """Character bigrams and words that are stable on a page of another app: common language."""


@dataclass(slots=True)
class _Usage:
    """Occurrences and contexts of one n-gram on the pages of one app."""

    text: str
    pictures: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Numbers of the pictures that show it, by label."""
    contexts: dict[tuple[str, str], set[tuple[str, int]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """Each pair of neighbouring tokens before and after it, with the pictures (label, number)."""
    before: Counter[str] = field(default_factory=Counter)
    """Frequency of each character that precedes it; "" at the beginning of a line."""
    after: Counter[str] = field(default_factory=Counter)
    """Frequency of each character that follows it; "" at the end of a line."""
    titles: int = 0
    """Occurrences as a whole line in the title area."""
    gaps: int = 0
    """Occurrences as the only unknown segment between common phrases."""
    companies: int = 0
    """Occurrences as a gap in the name of a company."""
    agreements: int = 0
    """Occurrences at the beginning of the name of an agreement, 《…》."""


def suggest(
    snapshot: Snapshot, *, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, list[Suggestion]]:
    """Proposes brands for every label that is not reserved for unknown pages.

    Args:
        snapshot: The gallery; the order of its pictures decides which of them are read.
        progress: Called with the number of apps done, from 0 on, and of apps in all.

    Returns:
        At most `MAX_SUGGESTIONS` for each label, the best supported first.
    """
    pages = _pages(snapshot)
    stable = {label: _stable_phrases(pictures) for label, pictures in pages.items()}
    suggestions: dict[str, list[Suggestion]] = {}
    apps = sorted({_app_of(label) for label in pages})
    for done, name in enumerate(apps):
        progress(done, len(apps))
        own_labels = {label for label in pages if _app_of(label) == name}
        app = _App(
            pages={label: pages[label] for label in sorted(own_labels)},
            others={
                label: pictures for label, pictures in pages.items() if label not in own_labels
            },
            phrases=set().union(*(stable[label] for label in pages if label not in own_labels)),
        )
        names = _names(app)
        for label in app.pages:
            suggestions[label] = _suggestions(label, names, app)
    progress(len(apps), len(apps))
    return suggestions


def _app_of(label: str) -> str:
    """The prefix of a label that its app's labels share."""
    return label.partition("_")[0]


def _pages(snapshot: Snapshot) -> _Pages:
    """The tokenized lines of the first `MAX_PICTURES` pictures of each label."""
    return {
        label: [tuple(_lines(snapshot.sampled_readings[row])) for row in rows]
        for label, rows in snapshot.sample.first(MAX_PICTURES).items()
        if not is_reserved(label)
    }


def _lines(reading: Reading) -> Iterator[_Line]:
    height = max(1, reading.height_px)
    for line in lines_below_status_bar(reading):
        tokens = tokenize(line.text)
        yield _Line(tokens, joined(tokens), (line.box.top + line.box.bottom) / 2 / height)


def _stable_phrases(pages: Sequence[tuple[_Line, ...]]) -> set[str]:
    """The pieces that at least a share `STABLE` of a label's pictures show."""
    document_frequency: Counter[str] = Counter()
    for page in pages:
        document_frequency.update({piece for line in page for _, _, piece in pieces(line.tokens)})
    least = STABLE * len(pages)
    return {piece for piece, count in document_frequency.items() if count >= least}


def _names(app: _App) -> list[tuple[int, _Usage]]:
    """The n-grams of an app that are used like names, with their scores, the best first."""
    usages: dict[str, _Usage] = {}
    for label, pages in app.pages.items():
        for number, page in enumerate(pages):
            for line in page:
                _count(usages, label, number, line, app.phrases)
    frequent = [use for use in usages.values() if _is_complete(use) and _is_stable(use, app)]
    scored = [(points, use) for use in frequent if (points := _points(use, app)) >= MIN_POINTS]
    specific = [(points, use) for points, use in scored if _is_specific(use.text, app)]
    specific.sort(key=lambda item: (-item[0], -len(item[1].text), item[1].text))
    texts = [use.text for _, use in specific]
    return [
        (points, use)
        for points, use in specific
        # "provided by X" fills the same gap as X: of such strings only the shorter one stays.
        if use.titles or use.agreements or not any(t != use.text and t in use.text for t in texts)
    ]


def _count(
    usages: dict[str, _Usage], label: str, number: int, line: _Line, phrases: Set[str]
) -> None:
    """Adds the occurrences of all n-grams of a line to their usages."""
    tokens = line.tokens
    is_common = _common_tokens(tokens, phrases)
    for begin, end in ngrams(tokens):
        text = joined(tokens[begin:end])
        use = usages.get(text)
        if use is None:
            use = usages[text] = _Usage(text)
        use.pictures[label].add(number)
        before, after = "".join(tokens[max(0, begin - 2) : begin]), "".join(tokens[end : end + 2])
        use.contexts[before, after].add((label, number))
        use.before[before[-1:]] += 1
        use.after[after[:1]] += 1
        whole_line = end - begin == len(tokens)
        use.titles += whole_line and line.middle <= TITLE
        is_gap = (
            not any(is_common[begin:end])
            and (begin == 0 or is_common[begin - 1])
            and (end == len(tokens) or is_common[end])
        )
        if is_gap and not whole_line:
            use.gaps += 1
            use.companies += bool(_COMPANY.match("".join(tokens[end:])))
        use.agreements += before[-1:] == "《"


def _common_tokens(tokens: Sequence[str], phrases: Set[str]) -> list[bool]:
    """Whether each token is common language: part of a phrase or place, or not a letter."""
    is_common = [not (token[0].isalpha() or is_cjk(token)) for token in tokens]
    for begin, end, piece in pieces(tokens):
        if piece in phrases or piece in PLACES:
            is_common[begin:end] = [True] * (end - begin)
            if tokens[end : end + 1] in {("市",), ("省",)}:
                is_common[end] = True
    return is_common


def _is_complete(use: _Usage) -> bool:
    """Whether it is no fragment of a longer string: its neighbouring characters vary."""
    if use.gaps:
        return True
    for side in (use.before, use.after):
        neighbour, count = side.most_common(1)[0]
        if is_cjk(neighbour or " ") and count > ONE_SIDED * side.total():
            return False
    return True


def _is_stable(use: _Usage, app: _App) -> bool:
    """Whether at least a share `STABLE` of some label's pictures show it."""
    return any(
        len(pictures) >= STABLE * len(app.pages[label]) for label, pictures in use.pictures.items()
    )


def _context_count(use: _Usage, app: _App) -> int:
    """Number of distinct contexts, counting those that a third of some label's pictures show.

    At least two pictures must show a context where there are two: on one alone it may be an OCR
    error.
    """
    least = {
        label: 1 if len(pages) == 1 else max(2, math.ceil(len(pages) / 3))
        for label, pages in app.pages.items()
    }
    return sum(
        any(
            count >= least[label]
            for label, count in Counter(label for label, _ in pictures).items()
        )
        for pictures in use.contexts.values()
    )


def _points(use: _Usage, app: _App) -> int:
    """Score of name-like use; 0 without evidence that only names give.

    Title, company and agreement count 2 each, as phrases rarely occur there; a gap, a second label
    of the app, and each of up to two more contexts count 1.
    """
    # Two occurrences, so that one OCR error is not enough; but where every label has it on a
    # single picture there may be no second one.
    enough = 1 if max(map(len, use.pictures.values())) == 1 else 2
    as_name = 2 * sum(n >= enough for n in (use.titles, use.companies, use.agreements))
    gap, siblings = use.gaps >= enough, len(use.pictures) > 1
    contexts = min(2, max(0, _context_count(use, app) - 1))
    # A gap alone may be any word that only this app uses.
    return as_name + gap + siblings + contexts if as_name or (gap and siblings and contexts) else 0


def _is_specific(text: str, app: _App) -> bool:
    """Whether no other app's label shows it on more than a share `FOREIGN_RATE` of its pictures."""
    return all(
        sum(any(text in line.text for line in page) for page in pages) <= FOREIGN_RATE * len(pages)
        for pages in app.others.values()
    )


def _suggestions(label: str, names: Sequence[tuple[int, _Usage]], app: _App) -> list[Suggestion]:
    """The best names of an app that one of its labels shows."""
    suggestions: list[Suggestion] = []
    for _, use in names:
        pictures = len(use.pictures.get(label, ()))
        if pictures and len(suggestions) < MAX_SUGGESTIONS:
            suggestions.append(
                Suggestion(text=_full_name(use), why=_why(use, label, app), pictures=pictures)
            )
    return suggestions


def _full_name(use: _Usage) -> str:
    """The name, with 银行 (bank) where that mostly follows it: 招商 alone is not a bank's name."""
    before_bank = sum(
        len(pictures) for (_, after), pictures in use.contexts.items() if after == _BANK
    )
    is_bank = before_bank > STABLE * sum(map(len, use.contexts.values()))
    return use.text + _BANK * is_bank


def _why(use: _Usage, label: str, app: _App) -> str:
    """The observations that support a name, in words for a person."""
    reasons = [f"on {len(use.pictures[label])} of {len(app.pages[label])} pictures"]
    if use.titles:
        reasons.append("a title")
    if use.companies:
        reasons.append("in the name of a company")
    if use.agreements:
        reasons.append("begins the name of an agreement")
    contexts = _context_count(use, app)
    if contexts > 1:
        reasons.append(f"in {contexts} different sentences")
    if use.gaps:
        reasons.append("fills a gap between phrases that other apps show too")
    if others := [other for other in use.pictures if other != label]:
        reasons.append(f"also on {', '.join(others[:3])}")
    return "; ".join(reasons)
