"""Rates and shares as text, rounded so that no error disappears.

A figure below 1 never reads as 1, and one above 0 never as 0: 0.99996 is `>0.9999`.
"""

from __future__ import annotations


def rate(value: float | None, *, digits: int = 4, none: str = "–") -> str:
    """A rate with so many decimals, four as in published tables.

    Args:
        value: 0 to 1.
        digits: Decimals.
        none: The text of None.
    """
    return none if value is None else _rounded(value, digits, 1)


def percent(value: float | None, *, none: str = "–", unit: str = " %") -> str:
    """A share in per cent, with one decimal.

    Args:
        value: 0 to 1.
        none: The text of None.
        unit: Behind the number.
    """
    return none if value is None else _rounded(100 * value, 1, 100) + unit


def _rounded(value: float, digits: int, whole: int) -> str:
    text = f"{value:.{digits}f}"
    step = 10**-digits
    if value < whole and float(text) >= whole:
        return f">{whole - step:.{digits}f}"
    if value > 0 and float(text) == 0:
        return f"<{step:.{digits}f}"
    return text
