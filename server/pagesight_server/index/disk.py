"""Generations on disk, so that a large gallery is trained once and not at every start.

    <store>.index/<gallery>.json         what they are, with the SHA-256 of all; written last
                  <gallery>-<hash>.vectors   fp16 vectors, then the 32 bytes of each id
                  <gallery>-<hash>.codes     the base, as faiss writes it
                  <gallery>-<...>.part/      one that is being made
                  lock                       held by the process that makes one

Each file is written beside, synced and renamed, so a kill leaves the old generation or the new
one. All of it is derived: what is missing, damaged or of another bundle is not used, and what
the store says otherwise counts as a change since.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pagesight_server.index.ivfpq import IvfPqBase, Measured
from pagesight_server.index.vectors import Generation, Halves, InOrder

log = logging.getLogger(__name__)

VERSION = 2
"""Of the files; others are made anew."""

_NONSENSE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading a manifest that is none raises."""

Ids = NDArray[np.uint8]
"""Image ids, (pictures, 32): the SHA-256 of each."""


class GenerationStore:
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
        halves: Halves | InOrder,
        build: Callable[[Halves], IvfPqBase],
    ) -> Generation:
        """Writes vectors down, builds a base over them as they lie there, and keeps both.

        Servers of one store take turns, however long that takes: two that build at once would
        need twice the memory for the same end.

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
        with self._alone():
            self._check_room(halves)
            # Of its own: a purge may delete the folder meanwhile, and another process begin anew.
            work = Path(tempfile.mkdtemp(prefix=f"{key}-", suffix=".part", dir=self.folder))
            try:
                return self._put(key, work, gallery, bundle, ids, halves, build)
            finally:
                shutil.rmtree(work, ignore_errors=True)

    def _put(
        self,
        key: str,
        work: Path,
        gallery: str,
        bundle: str,
        ids: Ids,
        halves: Halves | InOrder,
        build: Callable[[Halves], IvfPqBase],
    ) -> Generation:
        with (work / "vectors").open("wb") as file:
            for start in range(0, len(halves), 4_096):
                file.write(np.ascontiguousarray(halves[start : start + 4_096]).tobytes())
            file.write(np.ascontiguousarray(ids, np.uint8).tobytes())
            file.flush()
            os.fsync(file.fileno())
        mapped = _mapped(work / "vectors", halves.shape)  # follows the file, not its name
        base = build(mapped)
        base.save(work / "codes")
        with (work / "codes").open("rb+") as file:
            os.fsync(file.fileno())
        manifest: dict[str, Any] = {
            "version": VERSION,
            "gallery": gallery,
            "bundle": bundle,
            "shape": list(halves.shape),
            "measured": base.measured.to_dict(),
        }
        kept = set()
        for part in ("vectors", "codes"):
            digest = _digest(work / part)
            path = self.folder / f"{key}-{digest[:12]}.{part}"
            (work / part).replace(path)
            manifest[part] = [path.name, digest]
            kept.add(path.name)
        manifest["sha256"] = _sum(manifest)
        with (work / "json").open("w") as text:
            json.dump(manifest, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        (work / "json").replace(self.folder / f"{key}.json")
        self._tidy(key, kept)
        return Generation(halves=mapped, base=base)

    def take(self, gallery: str, bundle: str, device: str = "cpu") -> tuple[Ids, Generation] | None:
        """The generation of a gallery; None, with the reason in the log, where there is none."""
        path = self.folder / f"{_key(gallery, bundle)}.json"
        while True:
            try:
                text = path.read_text()
            except FileNotFoundError:
                return None
            try:
                return self._take(_checked(text), device)
            except (OSError, RuntimeError, *_NONSENSE) as error:
                with contextlib.suppress(FileNotFoundError):
                    if path.read_text() != text:  # Another server has put a newer one meanwhile.
                        continue
                log.warning("the index of gallery %s is made anew: %s", gallery, error)
                return None

    def _take(self, manifest: dict[str, Any], device: str) -> tuple[Ids, Generation]:
        count, dimension = manifest["shape"]
        vectors, codes = (self._whole(*manifest[part]) for part in ("vectors", "codes"))
        if vectors.stat().st_size != count * (2 * dimension + 32):
            raise ValueError(f"{vectors.name} has another size than {count} vectors")
        ids = np.memmap(vectors, np.uint8, "r", offset=2 * count * dimension, shape=(count, 32))
        base = IvfPqBase.load(codes, Measured(**manifest["measured"]), device)
        return ids, Generation(halves=_mapped(vectors, (count, dimension)), base=base)

    def erase(self, gallery: str, bundle: str) -> None:
        """Deletes what is derived of a gallery, for a purge: the next start makes it anew."""
        key = _key(gallery, bundle)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / f"{key}.json").unlink()
        self._tidy(key, set())

    def let_go(self, gallery: str, bundle: str, purged: Collection[str]) -> None:
        """Deletes what a killed process left: half a generation, or one with a purged picture.

        Args:
            gallery: Whose it is.
            bundle: The encoder bundle that made it.
            purged: Pictures of which nothing may be kept.
        """
        key = _key(gallery, bundle)
        try:
            manifest = _checked((self.folder / f"{key}.json").read_text())
            named = {Path(manifest[part][0]).name for part in ("vectors", "codes")}
        except (OSError, *_NONSENSE):
            manifest, named = {}, set()
        with contextlib.suppress(OSError), self._alone(wait=False):
            self._tidy(key, named)
        if purged and manifest and self._holds(manifest, purged):
            log.warning("the index of gallery %s is made anew: it held a purged picture", gallery)
            self.erase(gallery, bundle)

    def _holds(self, manifest: dict[str, Any], purged: Collection[str]) -> bool:
        count, dimension = manifest["shape"]
        path = self.folder / Path(manifest["vectors"][0]).name
        keys = {bytes.fromhex(image_id) for image_id in purged}
        try:
            ids = np.memmap(path, np.uint8, "r", offset=2 * count * dimension, shape=(count, 32))
        except (OSError, ValueError):
            return True  # It is missing or cut, and would not be used either.
        return any(bytes(image_id) in keys for image_id in ids)

    @contextlib.contextmanager
    def _alone(self, *, wait: bool = True) -> Iterator[None]:
        """One process at a time; a lock goes with the process that held it.

        Raises:
            OSError: another has it and we do not wait, or there is no folder.
        """
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            for left in self.folder.glob("*.part"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            yield

    def _check_room(self, halves: Halves | InOrder) -> None:
        """Refuses before any work; codes and centres are a tenth of the vectors at most."""
        count, dimension = halves.shape
        needed = int(1.1 * count * (2 * dimension + 32))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                errno.ENOSPC, f"{self.folder} needs {needed:,} bytes and has {free:,} left"
            )

    def _whole(self, name: str, digest: str) -> Path:
        path = self.folder / Path(name).name
        if _digest(path) != digest:
            raise ValueError(f"{name} is damaged")
        return path

    def _tidy(self, key: str, keep: set[str]) -> None:
        """Deletes older files; who has them mapped keeps what they hold until it lets go."""
        for kind in ("vectors", "codes"):
            for path in self.folder.glob(f"{key}-*.{kind}"):
                if path.name not in keep:
                    path.unlink(missing_ok=True)


def _key(gallery: str, bundle: str) -> str:
    return hashlib.sha256(f"{gallery}\0{bundle}".encode()).hexdigest()[:16]


def _checked(text: str) -> dict[str, Any]:
    """What a manifest says.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    manifest: dict[str, Any] = json.loads(text)
    if manifest["version"] != VERSION:
        raise ValueError(f"version {manifest['version']}")
    if manifest.pop("sha256") != _sum(manifest):
        raise ValueError("the manifest is damaged")
    return manifest


def _sum(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _mapped(path: Path, shape: tuple[int, ...]) -> Halves:
    return np.memmap(path, np.float16, "r", shape=(shape[0], shape[1]))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
