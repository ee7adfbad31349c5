"""Tokens and n-grams of lines of text in Chinese, Japanese, Korean and Latin script.

text ──NFKC──> tokens: CJK characters, words, numbers, signs
                 ├── pieces: CJK bigrams and words, by which phrases are recognised
                 └── n-grams of one script, as long as a name can be
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

MIN_CHARS, MAX_CHARS, MAX_WORDS = 2, 6, 3
"""Length of a name: Chinese, Japanese or Korean characters, or at most so many Latin words."""

_TOKEN = re.compile(r"[㐀-鿿぀-ヿ가-힯]|[^\W\d_㐀-鿿぀-ヿ가-힯]+|\d+|\S")
_CJK = re.compile(r"[㐀-鿿぀-ヿ가-힯]")


def tokenize(text: str) -> tuple[str, ...]:
    """Splits a text into CJK characters, words, numbers and single signs, after NFKC."""
    return tuple(_TOKEN.findall(unicodedata.normalize("NFKC", text)))


def is_cjk(token: str) -> bool:
    """Whether it begins with a Chinese, Japanese or Korean character."""
    return bool(_CJK.match(token))


def joined(tokens: Sequence[str]) -> str:
    """Tokens as one string: Latin words separated by spaces, everything else without."""
    text = ""
    for token in tokens:
        words = text[-1:].isalpha() and not is_cjk(text[-1:]) and is_word(token)
        text += f" {token}" if words else token
    return text


def is_word(token: str) -> bool:
    """Whether it is a word of letters that are not CJK."""
    return token[0].isalpha() and not is_cjk(token)


def pieces(tokens: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The smallest parts of phrases, Latin words and CJK bigrams: (begin, end, text)."""
    for begin, token in enumerate(tokens):
        if is_word(token):
            yield begin, begin + 1, token.lower()
        elif is_cjk(token) and begin + 1 < len(tokens) and is_cjk(tokens[begin + 1]):
            yield begin, begin + 2, token + tokens[begin + 1]


def ngrams(tokens: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Begin and end of every n-gram of one script whose length a name can have."""
    for begin, first in enumerate(tokens):
        if is_cjk(first):
            for end in range(begin + 1, min(len(tokens), begin + MAX_CHARS) + 1):
                if not is_cjk(tokens[end - 1]):
                    break
                if end - begin >= MIN_CHARS:
                    yield begin, end
        elif is_word(first):
            for end in range(begin + 1, min(len(tokens), begin + MAX_WORDS) + 1):
                if not is_word(tokens[end - 1]):
                    break
                if end - begin > 1 or len(first) > 2:
                    yield begin, end
