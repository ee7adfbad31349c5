"""Which generation each gallery is searched over, and when it gets another.

    snapshot read whole ──> a kept generation that still fits, else every vector in memory, exact
    after each change ──due?──> built in one slow thread beside ──adopted──> searched from then on

A base that finds too little is said and not used: the gallery stays on what it has until it
has grown by a tenth. Where the disk was full, the next change tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from pagesight_server.common.threads import step_back
from pagesight_server.index.disk import GenerationStore, Ids
from pagesight_server.index.ivfpq import IvfPqBase, RecallError, build, usable_device
from pagesight_server.index.layered import FlatBase
from pagesight_server.index.owner import Owner
from pagesight_server.index.policy import IndexSettings
from pagesight_server.index.vectors import (
    Generation,
    Halves,
    InOrder,
    Vectors,
    halves_at,
    laid_out,
)

log = logging.getLogger(__name__)

GROWN = 1.1
"""How much more a gallery must hold before a base that was refused is tried again."""


class IndexManager:
    """Makes and replaces generations.

    Args:
        settings: What an index is, and when.
        folder: Where large ones are kept; None keeps none, and none is large.

    Raises:
        SetupError: CUDA was asked for and faiss has none.
    """

    def __init__(self, settings: IndexSettings | None = None, folder: Path | None = None) -> None:
        self.settings = settings or IndexSettings()
        self._device = usable_device(self.settings.device)
        self._generations = None if folder is None else GenerationStore(folder)
        self._refused: dict[str, int] = {}
        """Pictures that a gallery had when its base found too little."""
        self._builder: Owner | None = None
        """Its thread begins with the first generation: most galleries never get one."""

    def vectors(
        self,
        gallery: str,
        bundle: str,
        ids: Sequence[str],
        halves: Halves,
        purged: Collection[str] = (),
    ) -> Vectors:
        """The vectors of a snapshot that was read whole; equal to what the store says.

        Args:
            gallery: Whose they are.
            bundle: The encoder bundle that made them.
            ids: Of each vector, in hexadecimal.
            halves: What the store says.
            purged: Pictures of which nothing may be kept.
        """
        if self._generations is not None:
            self._generations.let_go(gallery, bundle, purged)
            taken = self._take(gallery, bundle, halves)
            if taken is not None:
                return laid_out(taken[1], taken[0], halves, ids)
        return Vectors.fresh(Generation(halves=halves, base=FlatBase(halves)))

    def _take(self, gallery: str, bundle: str, halves: Halves) -> tuple[Ids, Generation] | None:
        """What was kept, if it would be made today."""
        if self._generations is None or self._kind(*halves.shape) != "ivfpq":
            return None
        taken = self._generations.take(gallery, bundle, self._device)
        if taken is None or taken[1].halves.shape[1] != halves.shape[1]:
            return None
        base = taken[1].base
        if isinstance(base, IvfPqBase) and base.measured.recall < self.settings.min_recall:
            log.warning(
                "the index of gallery %s is made anew: it finds %.3f, less than index.min_recall",
                gallery,
                base.measured.recall,
            )
            return None
        return taken

    def is_due(self, gallery: str, vectors: Vectors) -> bool:
        """Whether a gallery should get another generation."""
        kind = self._kind(*vectors.shape)
        generation = vectors.layout.generation
        if kind == "ivfpq" and len(vectors) <= GROWN * self._refused.get(gallery, 0):
            return False
        if kind != generation.base.kind:
            return True
        return self.settings.is_due(len(generation), vectors.changed)

    def rebuild(
        self, gallery: str, bundle: str, ids: Sequence[str], vectors: Vectors
    ) -> Future[bool]:
        """Builds a generation beside and has the vectors adopt it; gives whether they did.

        It may take minutes, so a process that ends does not wait for it.
        """
        self._builder = self._builder or Owner("index-builder", step_back)
        return self._builder.submit(lambda: self._rebuild(gallery, bundle, ids, vectors))

    def forget(self, gallery: str, bundle: str) -> None:
        """Deletes what is kept of a gallery, after a purge."""
        if self._generations is not None:
            self._generations.erase(gallery, bundle)

    def _kind(self, pictures: int, dimension: int) -> str:
        return "flat" if self._generations is None else self.settings.kind_for(pictures, dimension)

    def _rebuild(self, gallery: str, bundle: str, ids: Sequence[str], vectors: Vectors) -> bool:
        layout = vectors.layout
        if self._generations is None or self._kind(*vectors.shape) == "flat":
            halves = halves_at(layout, layout.slots)
            return vectors.adopt(Generation(halves=halves, base=FlatBase(halves)), layout)
        keys = np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, 32)
        try:
            generation = self._generations.put(
                gallery,
                bundle,
                keys,
                InOrder(layout),
                lambda mapped: build(mapped, self.settings, device=self._device, threads=1),
            )
        except (RecallError, OSError) as error:
            if isinstance(error, RecallError):
                self._refused[gallery] = len(ids)
            log.warning("gallery %s stays on its old index: %s", gallery, error)
            return False
        log.info("gallery %s is searched over %d pictures by codes", gallery, len(generation))
        return vectors.adopt(generation, layout)
