"""The normal forms in which texts of two pictures are compared, and the lines that both show.

    text ──NFKC, lower case, no spaces, digits and masks to "#"──> normalised line
                          └──letters and "#" alone──> matching key
    text ──NFKC, lower case, letters and digits alone──> letters and digits

There are three forms because there are three questions. *Is this the same line of the page?* is
asked of single lines, by their matching keys: punctuation is what OCR misreads most and says
nothing of the page. *How similar are the texts of two pictures?* is asked of all text at once, by
normalised lines: punctuation still counts there, because the weights of evidence were chosen
with it. *Do two pictures show the same data?* needs the digits, which the other forms mask.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from pagesight_server.text.reading import Reading

LINE_MATCH = 0.8
"""RapidFuzz ratio of two normalised lines from which a person is shown them as matching; as
`variants.ALIKE`, so that what is shown agrees with what is counted."""

MIN_INFORMATIVE = 2
"""Characters other than "#" from which a matching key says something of the page. A single one
is an icon that was read as a letter, or a unit beside an amount."""

MIN_WORD_BESIDE_NUMBERS = 3
"""Letters of an alphabet that make a word where a line has numbers, too: MB and PM are none."""

_VARIABLE = re.compile(r"[\d*#]+")
"""Digits, and the asterisks and hashes with which apps mask them."""

_CJK = re.compile(r"[㐀-鿿]")


@lru_cache(maxsize=8192)
def normalised_line(text: str) -> str:
    """Normalises what varies between pictures of one page: case, width, spaces, digits, masks.

    Every run of digits and masks becomes one "#"; punctuation stays.

    >>> normalised_line("可用额度 12,800.00 元")
    '可用额度#,#.#元'
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return _VARIABLE.sub("#", "".join(text.split()))


def normalised_text(reading: Reading) -> str:
    """All lines of a reading, normalised, joined by one space."""
    return " ".join(normalised_line(line.text) for line in reading.lines)


@lru_cache(maxsize=8192)
def matching_key(text: str) -> str:
    """The normalised line without punctuation: what two pictures of a page's line share.

    >>> matching_key("可用额度 12,800.00 元")
    '可用额度#元'
    """
    kept = "".join(c for c in normalised_line(text) if c == "#" or _is_letter_or_digit(c))
    return re.sub("#+", "#", kept)


def informative(key: str) -> int:
    """The number of characters of a matching key that do not vary: all but "#"."""
    return len(key) - key.count("#")


def has_word(key: str) -> bool:
    """Whether a matching key says something to a person: a word, and not just a value.

    Beside digits or masks, single characters and two letters of an alphabet are a unit or a date;
    two characters of another script, as Chinese or Korean, are a word. Scores count such lines for
    what they are; a person who is shown "825.3 MB" beside "270.8 MB" takes it for a fault.

    >>> [has_word(key) for key in ("#", "#mb", "#月#日", "额度#", "#days", "ok")]
    [False, False, False, True, True, True]
    """
    if "#" not in key:
        return informative(key) >= MIN_INFORMATIVE
    return any(
        len(word) >= MIN_WORD_BESIDE_NUMBERS
        or (len(word) >= MIN_INFORMATIVE and all(unicodedata.category(c) == "Lo" for c in word))
        for word in key.split("#")
    )


def cjk_count(text: str) -> int:
    """The number of Chinese characters in a text."""
    return len(_CJK.findall(text))


def letters_and_digits(text: str) -> str:
    """The letters and digits of a text in lower case, digits as they are.

    >>> letters_and_digits("可用额度 12,800.00 元")
    '可用额度1280000元'
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if _is_letter_or_digit(c))


def _is_letter_or_digit(character: str) -> bool:
    return unicodedata.category(character)[0] in "LN"
