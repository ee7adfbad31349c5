"""Which kind of index a gallery gets by its size, and when its base is rebuilt.

pictures <= flat_up_to ──> flat        exact, 4 bytes per value
pictures >  flat_up_to ──> ivfrabitq   on a CPU: a bit per value
                       └─> ivfpq       on a GPU: m bytes from the dimension
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

Kind = Literal["flat", "ivfpq", "ivfrabitq"]

SUBQUANTIZERS = (96, 64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8)
"""Code sizes in bytes, one for each subquantizer, that faiss has GPU kernels for; largest first."""

MIN_TRAINING = 512
"""Fewest pictures of a base of codes: those of IVF-PQ have 256 centroids, which need as many
vectors, and an eighth of the pictures is held out to measure recall."""

MIN_CHANGES = 1_000
"""Changes up to which no base is rebuilt: so few are cheap to search exactly."""

MIN_PER_LIST = 30
"""Fewest vectors that a list is trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """The section `[index]` of the settings."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}

    kind: Literal["auto", "flat", "ivfpq", "ivfrabitq"] = "auto"
    """`auto` is flat, that is exact, up to `flat_up_to` pictures; above, IVF-RaBitQ on a CPU and
    IVF-PQ on a GPU, which has no other."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where an IVF-PQ base is searched; `auto` is CUDA where faiss has a GPU."""

    gpu_temporary_mb: int = 256
    """Temporary GPU memory of searches, in MB, for all galleries together. A batch that needs more
    is searched in parts, of eight queries at least: faiss then takes up to 512 MB beside it."""

    flat_up_to: int = 50_000
    """Pictures up to which every query is compared with each of them."""

    min_recall: float = 0.98
    """Recall@5 on held-out queries that a base of codes must reach before it serves."""

    rebuild_share: float = 0.05
    """Share of a base that may have been added or removed since, and more than 1 000 pictures,
    before it is rebuilt."""

    def __post_init__(self) -> None:
        if self.kind == "ivfrabitq" and self.device == "cuda":
            raise ValueError(
                "index.kind = ivfrabitq is searched on the CPU only: set index.device to auto or "
                "cpu, or index.kind to ivfpq"
            )
        if self.flat_up_to < 1:
            raise ValueError(f"index.flat_up_to must be 1 or more, got {self.flat_up_to}")
        if self.gpu_temporary_mb < 1:
            raise ValueError(
                f"index.gpu_temporary_mb must be 1 or more, got {self.gpu_temporary_mb}"
            )
        if not 0 < self.min_recall <= 1:
            raise ValueError(f"index.min_recall must be above 0, at most 1, got {self.min_recall}")
        if not 0 < self.rebuild_share <= 1:
            raise ValueError(f"index.rebuild_share must be in 0 to 1, got {self.rebuild_share}")

    def kind_for(self, pictures: int, dimension: int, *, gpu: bool = False) -> Kind:
        """The kind of index over so many pictures of this dimension.

        Args:
            pictures: How many pictures.
            dimension: Values of an embedding.
            gpu: Whether indexes are searched on a GPU.
        """
        if self.kind == "flat" or pictures < MIN_TRAINING:
            return "flat"
        if self.kind == "auto" and pictures <= self.flat_up_to:
            return "flat"
        if self.kind == "ivfpq" or (self.kind == "auto" and gpu):
            return "ivfpq" if code_bytes(dimension) else "flat"
        return "ivfrabitq"

    def is_due(self, base: int, changed: int) -> bool:
        """Whether a base over `base` pictures is to be rebuilt after so many changes."""
        return changed > max(MIN_CHANGES, self.rebuild_share * base)


def code_bytes(dimension: int) -> int:
    """Bytes of an IVF-PQ code: the most subquantizers that divide the dimension; 0 if none does."""
    return next((m for m in SUBQUANTIZERS if dimension % m == 0), 0)


def list_count(pictures: int) -> int:
    """How many inverted lists: the greatest power of two up to 4 sqrt(pictures).

    faiss recommends 4 to 16 sqrt(n) lists and at least 30 vectors for the training of each
    (its wiki, "Guidelines to choose an index").
    """
    lists = 1
    while 2 * lists <= 4 * pictures**0.5 and 2 * lists * MIN_PER_LIST <= pictures:
        lists *= 2
    return lists
