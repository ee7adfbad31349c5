"""Generations on disk, so that a large gallery is trained once and not at every start.

    <store>.index/<gallery>.json         what they are, with the SHA-256 of both; written last
                  <gallery>-<hash>.vectors   fp16 vectors, then the 32 bytes of each id
                  <gallery>-<hash>.codes     the base, as faiss writes it

Each file is written beside, synced and renamed, so a kill leaves the old generation or the new
one. All of it is derived: what is missing, damaged or of another bundle is not used, and what
the store says otherwise counts as a change since.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagesight_server.index.ivfpq import IvfPqBase, Measured
from pagesight_server.index.vectors import Generation, Halves

log = logging.getLogger(__name__)

VERSION = 1
"""Of the files; others are made anew."""

Ids = NDArray[np.uint8]
"""Image ids, (pictures, 32): the SHA-256 of each."""


class Shelf:
    """The generations of one store.

    Args:
        folder: Where they lie; made when the first is put there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(
        self,
        gallery: str,
        bundle: str,
        ids: Ids,
        halves: Halves,
        build: Callable[[Halves], IvfPqBase],
    ) -> Generation:
        """Writes vectors down, builds a base over them as they lie there, and keeps both.

        Args:
            gallery: Whose they are.
            bundle: The encoder bundle that made them.
            ids: Of each vector.
            halves: The vectors.
            build: Makes the base.

        Raises:
            OSError: the disk is full; the old generation stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        key = _key(gallery, bundle)
        part = self.folder / f"{key}.vectors.part"
        codes_part = self.folder / f"{key}.codes.part"
        try:
            with part.open("wb") as file:
                for start in range(0, len(halves), 4_096):
                    file.write(np.ascontiguousarray(halves[start : start + 4_096]).tobytes())
                file.write(np.ascontiguousarray(ids, np.uint8).tobytes())
                file.flush()
                os.fsync(file.fileno())
            digest = _digest(part)
            vectors = self.folder / f"{key}-{digest[:12]}.vectors"
            mapped = _mapped(part, halves.shape)
            base = build(mapped)
            base.save(codes_part)
            with codes_part.open("rb+") as file:
                os.fsync(file.fileno())
            codes = self.folder / f"{key}-{digest[:12]}.codes"
            codes_digest = _digest(codes_part)
            part.replace(vectors)  # The mapping follows the file, not its name.
            codes_part.replace(codes)
        finally:
            part.unlink(missing_ok=True)
            codes_part.unlink(missing_ok=True)
        manifest = {
            "version": VERSION,
            "gallery": gallery,
            "bundle": bundle,
            "shape": list(halves.shape),
            "vectors": [vectors.name, digest],
            "codes": [codes.name, codes_digest],
            "measured": base.measured.to_dict(),
        }
        manifest_part = self.folder / f"{key}.json.part"
        with manifest_part.open("w") as text:
            json.dump(manifest, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        manifest_part.replace(self.folder / f"{key}.json")
        self._tidy(key, {vectors.name, codes.name})
        return Generation(halves=mapped, base=base)

    def take(self, gallery: str, bundle: str, device: str = "cpu") -> tuple[Ids, Generation] | None:
        """The generation of a gallery; None, with the reason in the log, where there is none."""
        path = self.folder / f"{_key(gallery, bundle)}.json"
        if not path.is_file():
            return None
        try:
            manifest: dict[str, Any] = json.loads(path.read_text())
            if manifest["version"] != VERSION:
                raise ValueError(f"version {manifest['version']}")
            count, dimension = manifest["shape"]
            vectors, codes = (self._whole(*manifest[part]) for part in ("vectors", "codes"))
            if vectors.stat().st_size != count * (2 * dimension + 32):
                raise ValueError(f"{vectors.name} has another size than {count} vectors")
            ids = np.memmap(vectors, np.uint8, "r", offset=2 * count * dimension, shape=(count, 32))
            base = IvfPqBase.load(codes, Measured(**manifest["measured"]), device)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            log.warning("the index of gallery %s is made anew: %s", gallery, error)
            return None
        return ids, Generation(halves=_mapped(vectors, (count, dimension)), base=base)

    def erase(self, gallery: str, bundle: str) -> None:
        """Deletes what is derived of a gallery, for a purge: the next start makes it anew."""
        key = _key(gallery, bundle)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / f"{key}.json").unlink()
        self._tidy(key, set())

    def _whole(self, name: str, digest: str) -> Path:
        path = self.folder / Path(name).name
        if _digest(path) != digest:
            raise ValueError(f"{name} is damaged")
        return path

    def _tidy(self, key: str, keep: set[str]) -> None:
        """Deletes older files; who has them mapped keeps what they hold until it lets go."""
        for path in self.folder.glob(f"{key}-*"):
            if path.name not in keep:
                path.unlink(missing_ok=True)


def _key(gallery: str, bundle: str) -> str:
    return hashlib.sha256(f"{gallery}\0{bundle}".encode()).hexdigest()[:16]


def _mapped(path: Path, shape: tuple[int, ...]) -> Halves:
    return np.memmap(path, np.float16, "r", shape=(shape[0], shape[1]))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
