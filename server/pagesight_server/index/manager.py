"""Which generation each gallery is searched over, and when the next one is built.

    snapshot read whole ──> the generation on disk if it still fits, else all in memory, exact
    after each change ──due?──> built in one low-priority thread ──adopted──> searched from then on

A base whose recall is too low is logged and not used: the gallery stays on what it has until it
has grown by a tenth. Where the disk was full, the next change tries again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from pagesight_server.common.threads import lower_priority
from pagesight_server.index.disk import ID_BYTES, GenerationStore, Ids
from pagesight_server.index.gpu import MEGABYTE, Gpu, usable_device
from pagesight_server.index.ivf import IvfBase, RecallError, build
from pagesight_server.index.layered import FlatBase
from pagesight_server.index.owner import OwnerThread
from pagesight_server.index.policy import IndexSettings, Kind
from pagesight_server.index.vectors import (
    Generation,
    Halves,
    HalvesByRow,
    Vectors,
    halves_at,
    vectors_over,
)

log = logging.getLogger(__name__)

RETRY_GROWTH = 1.1
"""Growth of a gallery after which a base that was refused is tried again: building one takes
minutes, and a few pictures more would end like the last time."""


class IndexManager:
    """Builds, replaces and deletes the generations of the galleries of one store.

    Args:
        settings: Which kind of index a gallery gets, and when it is rebuilt.
        folder: Where generations of codes are kept; None: every index is flat and in memory.

    Raises:
        SetupError: CUDA is configured and faiss has no GPU.
    """

    def __init__(self, settings: IndexSettings | None = None, folder: Path | None = None) -> None:
        self.settings = settings or IndexSettings()
        on_gpu = _on_gpu(self.settings) and folder is not None
        self._gpu = Gpu(self.settings.gpu_temporary_mb) if on_gpu else None
        self._generations = None if folder is None else GenerationStore(folder)
        self._refused_at: dict[str, int] = {}
        """Pictures that a gallery had when the recall of its base was too low."""
        self._builder: OwnerThread | None = None
        """Builds bases of codes; started with the first, as most galleries never need one."""

    def vectors(
        self,
        gallery: str,
        bundle: str,
        ids: Sequence[str],
        halves: Halves,
        purged: Collection[str] = (),
    ) -> Vectors:
        """The vectors of a snapshot that was read whole, ready to be searched.

        Their values are the store's, also where a generation from the disk is used.

        Args:
            gallery: Whose vectors they are.
            bundle: The encoder bundle that computed them.
            ids: The image id of each vector, in hexadecimal.
            halves: The store's vectors, by row.
            purged: Image ids of which nothing may be kept on disk.
        """
        if self._generations is not None:
            self._generations.clean_up(gallery, bundle, purged)
            kept = self._read(gallery, bundle, halves.shape)
            if kept is not None:
                generation_ids, generation = kept
                return vectors_over(generation, generation_ids, halves, ids)
        return Vectors.of_generation(Generation(halves=halves, base=FlatBase(halves)))

    def _read(
        self, gallery: str, bundle: str, shape: tuple[int, int]
    ) -> tuple[Ids, Generation] | None:
        """The generation on disk, unless another one would be built today."""
        kind = self._kind(*shape)
        if self._generations is None or kind == "flat":
            return None
        kept = self._generations.read(gallery, bundle, self._gpu)
        if kept is None or kept[1].halves.shape[1] != shape[1]:
            return None
        base = kept[1].base
        if base.kind != kind:
            log.info("the index of gallery %s is made anew: it is %s", gallery, base.kind)
            return None
        if isinstance(base, IvfBase) and base.measured.recall < self.settings.min_recall:
            log.warning(
                "the index of gallery %s is made anew: it finds %.3f, less than index.min_recall",
                gallery,
                base.measured.recall,
            )
            return None
        return kept

    def is_due(self, gallery: str, vectors: Vectors) -> bool:
        """Whether the next generation of a gallery should be built now."""
        kind = self._kind(*vectors.shape)
        generation = vectors.layout.generation
        if kind != "flat" and len(vectors) <= RETRY_GROWTH * self._refused_at.get(gallery, 0):
            return False
        if kind != generation.base.kind:
            return True
        return self.settings.is_due(len(generation), vectors.changed)

    def rebuild(
        self, gallery: str, bundle: str, ids: Sequence[str], vectors: Vectors
    ) -> Future[bool]:
        """Builds the next generation and has the vectors adopt it; the result is whether they did.

        It may take minutes, so a process that ends does not wait for it.

        Args:
            gallery: Whose vectors they are.
            bundle: The encoder bundle that computed them.
            ids: The image id of each row, in hexadecimal.
            vectors: What the generation is built over.
        """
        self._builder = self._builder or OwnerThread("index-builder", lower_priority)
        return self._builder.submit(lambda: self._rebuild(gallery, bundle, ids, vectors))

    def forget(self, gallery: str, bundle: str) -> None:
        """Deletes the files of a gallery, after a purge or with the gallery."""
        if self._generations is not None:
            self._generations.delete(gallery, bundle)

    def forget_all_but(self, galleries: Mapping[str, str]) -> bool:
        """Forgets all galleries but some, such as those deleted while no server ran.

        Args:
            galleries: The encoder bundle of each gallery to keep, by its name.

        Returns:
            Whether their files are deleted: not while a process writes a generation.
        """
        self._refused_at = {
            gallery: pictures
            for gallery, pictures in self._refused_at.items()
            if gallery in galleries
        }
        return self._generations is None or self._generations.delete_all_but(galleries)

    def close(self) -> None:
        """Ends the threads, after what they were told to do; nothing is searched on the GPU then.

        A manager that nobody holds any more does so by itself.
        """
        if self._builder is not None:
            self._builder.close()
        if self._gpu is not None:
            self._gpu.close()

    def _kind(self, pictures: int, dimension: int) -> Kind:
        if self._generations is None:
            return "flat"
        return self.settings.kind_for(pictures, dimension, gpu=self._gpu is not None)

    def _rebuild(self, gallery: str, bundle: str, ids: Sequence[str], vectors: Vectors) -> bool:
        layout, kind = vectors.layout, self._kind(*vectors.shape)
        if self._generations is None or kind == "flat":
            halves = halves_at(layout, layout.slots)
            return vectors.adopt(Generation(halves=halves, base=FlatBase(halves)), layout)
        try:
            generation = self._generations.write(
                gallery,
                bundle,
                np.frombuffer(bytes.fromhex("".join(ids)), np.uint8).reshape(-1, ID_BYTES),
                HalvesByRow(layout),
                lambda mapped: build(mapped, self.settings, kind=kind, gpu=self._gpu, threads=1),
                kept=lambda: self._read(gallery, bundle, vectors.shape),
            )
        except (RecallError, OSError) as error:
            if isinstance(error, RecallError):
                self._refused_at[gallery] = len(ids)
            log.warning("gallery %s stays on its old index: %s", gallery, error)
            return False
        log.info("gallery %s is searched over %d pictures by codes", gallery, len(generation))
        return vectors.adopt(generation, layout)


def gpu_mb(settings: IndexSettings, folder: Path) -> int:
    """GPU memory in MB that the indexes of a store take; 0 where they are searched on the CPU.

    Codes count twice: an index lies beside the one that it replaces.

    Args:
        settings: Where indexes are searched.
        folder: Where the generations are kept.

    Raises:
        SetupError: CUDA is configured and faiss has no GPU.
    """
    if not _on_gpu(settings):
        return 0
    return settings.gpu_temporary_mb + 2 * GenerationStore(folder).code_bytes() // MEGABYTE


def _on_gpu(settings: IndexSettings) -> bool:
    """Whether indexes are searched on a GPU: where faiss has one and searches this kind there.

    Raises:
        SetupError: CUDA is configured and faiss has no GPU.
    """
    return usable_device(settings.device) == "cuda" and settings.kind != "ivfrabitq"
