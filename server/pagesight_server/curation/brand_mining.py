"""Which names may be the brand of a page, mined from the gallery for a person to confirm.

    lines ──> runs of characters (of words in Latin script), where they stand, what is around
          ──keep what no other app shows──> uses ──points for what only names do──> suggestions

    有钱花可用额度          有钱花: no other app shows it, and
      ^^^^ ^^^^             what follows is a phrase that others show too: a name fills the gap
    title, 《…协议》, 重庆度小满小额贷款有限公司, the same line with another name elsewhere

A name is told from a phrase by how pages use it: alone as a title, in the name of a company
or of an agreement, in several sentences, on several pages of one app, as the one block in
which a line differs from another app's. No single one suffices: "my limit" is a title too.
Which labels are of one app is read from their names, up to the first "_": `dxm_amount` and
`dxm_user_info`.

Recognition uses nothing of this: a phrase taken for a brand would reject every screenshot
of its page that is scrolled past it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import NamedTuple

from pagesight_server.gallery.snapshot import Picture, Snapshot, is_reserved
from pagesight_server.text.lines import lines_below_status_bar

MAX_PICTURES = 20
"""Pictures of a label that are read; what is stable shows in them."""

MAX_SUGGESTIONS = 4
"""Of one label."""

STABLE = 0.5
"""Share of a label's pictures that show a phrase of the page."""

FOREIGN_RATE = 0.34
"""Share of the pictures of another app's label that may show a brand: as the bank of a card."""

TITLE = 0.12
"""Share of the height, from the top, in which a line of its own is a title."""

MIN_CHARS, MAX_CHARS, MAX_WORDS = 2, 6, 3
"""Of a name: characters of Chinese, Japanese or Korean, or words in Latin script."""

ONE_SIDED = 0.8
"""Share of its places in which the same character stands beside a mere part of a name; the
rest are misread."""

MIN_POINTS = 3

_TOKEN = re.compile(r"[㐀-鿿぀-ヿ가-힯]|[^\W\d_㐀-鿿぀-ヿ가-힯]+|\d+|\S")
_CJK = re.compile(r"[㐀-鿿぀-ヿ가-힯]")
_COMPANY = re.compile(r".{0,12}?(?:有限公司|股份公司)|\W*(?:inc|ltd|llc|gmbh|bank)\b", re.I)
_BANK = "银行"

PLACES = frozenset(
    re.findall(
        "..",
        "北京上海天津重庆河北山西辽宁吉林江苏浙江安徽福建江西山东河南湖北湖南广东广西海南四川贵州云南"
        "西藏陕西甘肃青海宁夏新疆香港澳门台湾中国深圳广州杭州南京厦门成都武汉前海",
    )
)
"""With what the names of companies begin: no part of the brand."""


class Suggestion(NamedTuple):
    """A string that may be a brand."""

    text: str
    why: str
    """In words for a person."""
    pictures: int
    """Pictures of the label that show it."""


class _Line(NamedTuple):
    tokens: tuple[str, ...]
    text: str
    """The tokens in one string: what is compared."""
    middle: float
    """Where it stands on the page, 0 to 1 from the top."""


@dataclass(slots=True)
class _App:
    """All pages of one app, and what other apps show."""

    pages: dict[str, list[tuple[_Line, ...]]]
    """By label."""
    others: dict[str, list[tuple[_Line, ...]]]
    """Pages of the other apps, by label."""
    phrases: Set[str]
    """Pairs of characters and single words that are stable on a page of another app."""


@dataclass(slots=True)
class _Use:
    """How the pages of one app use one string."""

    text: str
    shown: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    """Pictures that show it, by label."""
    around: dict[tuple[str, str], set[tuple[str, int]]] = field(
        default_factory=lambda: defaultdict(set)
    )
    """What stands before and after it, and on which pictures."""
    before: Counter[str] = field(default_factory=Counter)
    """The character before it, and how often."""
    after: Counter[str] = field(default_factory=Counter)
    titles: int = 0
    filled: int = 0
    companies: int = 0
    agreements: int = 0


def suggest(
    snapshot: Snapshot, *, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, list[Suggestion]]:
    """Proposes brands for every label that can be an answer, the most likely first.

    Args:
        snapshot: The gallery.
        progress: Called with how many of how many apps are done, from 0 on.
    """
    pages = _pages(snapshot)
    stable = {label: _stable_phrases(shown) for label, shown in pages.items()}
    found: dict[str, list[Suggestion]] = {}
    apps = sorted({_app_of(label) for label in pages})
    for done, name in enumerate(apps):
        progress(done, len(apps))
        mine = {label for label in pages if _app_of(label) == name}
        app = _App(
            pages={label: pages[label] for label in sorted(mine)},
            others={label: shown for label, shown in pages.items() if label not in mine},
            phrases=set().union(*(stable[label] for label in pages if label not in mine)),
        )
        uses = _names(app)
        for label in app.pages:
            found[label] = _told(label, uses, app)
    progress(len(apps), len(apps))
    return found


def _app_of(label: str) -> str:
    return label.partition("_")[0]


# --- reading ------------------------------------------------------------------------------


def _pages(snapshot: Snapshot) -> dict[str, list[tuple[_Line, ...]]]:
    pages: defaultdict[str, list[tuple[_Line, ...]]] = defaultdict(list)
    for picture in snapshot.pictures:
        if not is_reserved(picture.label) and len(pages[picture.label]) < MAX_PICTURES:
            pages[picture.label].append(tuple(_lines(picture)))
    return dict(pages)


def _lines(picture: Picture) -> Iterator[_Line]:
    height = max(1, picture.reading.height_px)
    for line in lines_below_status_bar(picture.reading):
        tokens = tuple(_TOKEN.findall(unicodedata.normalize("NFKC", line.text)))
        yield _Line(tokens, _joined(tokens), (line.box.top + line.box.bottom) / 2 / height)


def _joined(tokens: Sequence[str]) -> str:
    """Tokens as the page shows them: words in Latin script apart, all else together."""
    text = ""
    for token in tokens:
        words = text[-1:].isalpha() and not _CJK.match(text[-1:]) and _is_word(token)
        text += f" {token}" if words else token
    return text


def _is_word(token: str) -> bool:
    return token[0].isalpha() and not _CJK.match(token)


def _phrases(tokens: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The smallest pieces that can be recognised as part of a phrase, with their places."""
    for at, token in enumerate(tokens):
        if _is_word(token):
            yield at, at + 1, token.lower()
        elif _CJK.match(token) and at + 1 < len(tokens) and _CJK.match(tokens[at + 1]):
            yield at, at + 2, token + tokens[at + 1]


def _stable_phrases(pages: Sequence[tuple[_Line, ...]]) -> set[str]:
    """The pieces of what a label's pictures mostly show."""
    counts: Counter[str] = Counter()
    for page in pages:
        counts.update({piece for line in page for _, _, piece in _phrases(line.tokens)})
    wanted = STABLE * len(pages)
    return {piece for piece, count in counts.items() if count >= wanted}


# --- finding ------------------------------------------------------------------------------


def _names(app: _App) -> list[tuple[int, _Use]]:
    """The strings of an app that are used like names, with their points, the best first."""
    uses: dict[str, _Use] = {}
    for label, pages in app.pages.items():
        for number, page in enumerate(pages):
            for line in page:
                _note(uses, label, number, line, app.phrases)
    likely = [use for use in uses.values() if _is_whole(use) and _is_stable(use, app)]
    scored = [(points, use) for use in likely if (points := _points(use, app)) >= MIN_POINTS]
    kept = [(points, use) for points, use in scored if _is_only_here(use.text, app)]
    kept.sort(key=lambda item: (-item[0], -len(item[1].text), item[1].text))
    shorter = [use.text for _, use in kept]
    return [
        (points, use)
        for points, use in kept
        # "provided by X" fills a gap as X does.
        if use.titles or use.agreements or not any(t != use.text and t in use.text for t in shorter)
    ]


def _note(uses: dict[str, _Use], label: str, number: int, line: _Line, phrases: Set[str]) -> None:
    tokens = line.tokens
    known = [not (token[0].isalpha() or _CJK.match(token)) for token in tokens]
    for begin, end, piece in _phrases(tokens):
        if piece in phrases or piece in PLACES:
            known[begin:end] = [True] * (end - begin)
            if tokens[end : end + 1] in {("市",), ("省",)}:
                known[end] = True
    for begin, end in _runs(tokens):
        text = _joined(tokens[begin:end])
        use = uses.get(text)
        if use is None:
            use = uses[text] = _Use(text)
        use.shown[label].add(number)
        before, after = "".join(tokens[max(0, begin - 2) : begin]), "".join(tokens[end : end + 2])
        use.around[before, after].add((label, number))
        use.before[before[-1:]] += 1
        use.after[after[:1]] += 1
        whole_line = end - begin == len(tokens)
        use.titles += whole_line and line.middle <= TITLE
        fills = (
            not any(known[begin:end])
            and (begin == 0 or known[begin - 1])
            and (end == len(tokens) or known[end])
        )
        if fills and not whole_line:
            use.filled += 1
            use.companies += bool(_COMPANY.match("".join(tokens[end:])))
        use.agreements += before[-1:] == "《"


def _runs(tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where runs begin and end that could be names by their script and length."""
    for begin, first in enumerate(tokens):
        if _CJK.match(first):
            for end in range(begin + 1, min(len(tokens), begin + MAX_CHARS) + 1):
                if not _CJK.match(tokens[end - 1]):
                    break
                if end - begin >= MIN_CHARS:
                    yield begin, end
        elif _is_word(first):
            for end in range(begin + 1, min(len(tokens), begin + MAX_WORDS) + 1):
                if not _is_word(tokens[end - 1]):
                    break
                if end - begin > 1 or len(first) > 2:
                    yield begin, end


def _is_whole(use: _Use) -> bool:
    """Whether it is no mere part of a longer string: what is beside it changes or ends."""
    if use.filled:
        return True
    for side in (use.before, use.after):
        beside, times = side.most_common(1)[0]
        if _CJK.match(beside or " ") and times > ONE_SIDED * side.total():
            return False
    return True


def _is_stable(use: _Use, app: _App) -> bool:
    """Whether the pictures of some label mostly show it."""
    return any(len(seen) >= STABLE * len(app.pages[label]) for label, seen in use.shown.items())


def _settings(use: _Use, app: _App) -> int:
    """In how many sentences it stands that are no accident of one picture."""
    least = {
        label: 1 if len(pages) == 1 else max(2, math.ceil(len(pages) / 3))
        for label, pages in app.pages.items()
    }
    return sum(
        any(count >= least[label] for label, count in Counter(label for label, _ in seen).items())
        for seen in use.around.values()
    )


def _points(use: _Use, app: _App) -> int:
    """How much speaks for a name; only what names alone do makes it one."""
    enough = 1 if max(len(seen) for seen in use.shown.values()) == 1 else 2
    named = 2 * sum(n >= enough for n in (use.titles, use.companies, use.agreements))
    gap, siblings = use.filled >= enough, len(use.shown) > 1
    sentences = min(2, max(0, _settings(use, app) - 1))
    # A gap alone may be any word that only this app uses.
    return named + gap + siblings + sentences if named or (gap and siblings and sentences) else 0


def _is_only_here(text: str, app: _App) -> bool:
    return all(
        sum(any(text in line.text for line in page) for page in pages) <= FOREIGN_RATE * len(pages)
        for pages in app.others.values()
    )


# --- telling ------------------------------------------------------------------------------


def _told(label: str, names: Sequence[tuple[int, _Use]], app: _App) -> list[Suggestion]:
    told: list[Suggestion] = []
    for _, use in names:
        seen = len(use.shown.get(label, ()))
        if seen and len(told) < MAX_SUGGESTIONS:
            told.append(Suggestion(text=_written(use), why=_why(use, label, app), pictures=seen))
    return told


def _written(use: _Use) -> str:
    """The name as a person would write it: 招商 of 招商银行 is no name."""
    followed = sum(len(seen) for (_, after), seen in use.around.items() if after == _BANK)
    always = followed > STABLE * sum(map(len, use.around.values()))
    return use.text + _BANK * always


def _why(use: _Use, label: str, app: _App) -> str:
    reasons = [f"on {len(use.shown[label])} of {len(app.pages[label])} pictures"]
    if use.titles:
        reasons.append("a title")
    if use.companies:
        reasons.append("in the name of a company")
    if use.agreements:
        reasons.append("begins the name of an agreement")
    settings = _settings(use, app)
    if settings > 1:
        reasons.append(f"in {settings} different sentences")
    if use.filled:
        reasons.append("fills a gap between phrases that other apps show too")
    if others := [other for other in use.shown if other != label]:
        reasons.append(f"also on {', '.join(others[:3])}")
    return "; ".join(reasons)
