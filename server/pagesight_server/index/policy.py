"""When an index stops being exact, and what it is then.

pictures <= flat_up_to ──> flat      exact, 4 bytes a value
pictures >  flat_up_to ──> ivfpq     nlist by the number of pictures, m by the dimension
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["flat", "ivfpq"]

SUBQUANTIZERS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8)
"""Sizes of code that faiss has GPU kernels for, largest first."""

MIN_TRAINING = 512
"""Pictures without which 8-bit codes cannot be trained and measured: 256 values need as many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The section `[index]` of the settings."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["auto", "flat", "ivfpq"] = "auto"
    """`auto` is exact up to `flat_up_to` pictures."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where a large base is searched; `auto` is CUDA when faiss was built for it and finds one."""

    flat_up_to: int = 50_000
    """Pictures up to which every one is compared with every query."""

    min_recall: float = 0.98
    """Share of the five nearest that a base must find before it serves."""

    rebuild_share: float = 0.05
    """Share of a base that may have come or gone since, beyond 1 000, before it is built anew."""

    def __post_init__(self) -> None:
        if self.flat_up_to < 1:
            raise ValueError(f"index.flat_up_to must be 1 or more, got {self.flat_up_to}")
        if not 0 < self.min_recall <= 1:
            raise ValueError(f"index.min_recall must be above 0, at most 1, got {self.min_recall}")
        if not 0 < self.rebuild_share <= 1:
            raise ValueError(f"index.rebuild_share must be in 0 to 1, got {self.rebuild_share}")

    def kind_for(self, pictures: int, dimension: int) -> Kind:
        """What an index over so many pictures is."""
        if self.kind == "flat" or code_bytes(dimension) == 0 or pictures < MIN_TRAINING:
            return "flat"
        return "ivfpq" if self.kind == "ivfpq" or pictures > self.flat_up_to else "flat"

    def is_due(self, base: int, changed: int) -> bool:
        """Whether a base over `base` pictures is to be built anew after so many changes."""
        return changed > max(1_000, self.rebuild_share * base)


def code_bytes(dimension: int) -> int:
    """Bytes of a code: the largest number of parts that a vector divides into; 0 when none does."""
    return next((m for m in SUBQUANTIZERS if dimension % m == 0), 0)


def list_count(pictures: int) -> int:
    """How many lists to sort the pictures into: the power of two near 4 sqrt(pictures).

    Each is to be trained on 30 vectors or more, as faiss asks.
    """
    lists = 1
    while 2 * lists <= 4 * pictures**0.5 and 2 * lists * 30 <= pictures:
        lists *= 2
    return lists
