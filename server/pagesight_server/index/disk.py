"""Generations on disk, so that a large index is trained once and not at every start.

    <store>.index/<key>.json              the manifest, with the SHA-256 of all; written last
                  <key>-<hash>.vectors    fp16 vectors, then the 32 bytes of each image id
                  <key>-<hash>.codes      the base, as faiss writes it
                  <key>-<...>.part/       a generation that is being written
                  lock                    held by the process that writes one

<key> is made of the gallery's name and its encoder bundle. Each file is written beside, synced and
renamed, so a kill leaves the old generation or the new one. All of it is derived data: what is
missing, damaged or of another bundle is not used, and rows that differ from the store count as
changed since.
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

from pagesight_server.index.gpu import Gpu
from pagesight_server.index.ivf import IvfBase, Measured
from pagesight_server.index.vectors import BLOCK, Generation, Halves, HalvesByRow

log = logging.getLogger(__name__)

VERSION = 2
"""Format of the files; those of another version are not used."""

ID_BYTES = 32
"""An image id is a SHA-256."""

_MALFORMED = (ValueError, KeyError, TypeError, AttributeError)
"""Errors that reading a malformed manifest raises."""

Ids = NDArray[np.uint8]
"""Image ids: (pictures, 32)."""


class GenerationStore:
    """The generations of the galleries of one store, in a folder.

    Args:
        folder: Where the files lie; made with the first generation.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(
        self,
        gallery: str,
        bundle: str,
        ids: Ids,
        halves: Halves | HalvesByRow,
        build: Callable[[Halves], IvfBase],
        kept: Callable[[], tuple[Ids, Generation] | None] = lambda: None,
    ) -> Generation:
        """Writes vectors, builds a base over the mapped file, and replaces the old generation.

        Processes that share the folder take turns, however long that takes: two builds at once
        would need twice the memory and end no sooner.

        Args:
            gallery: Whose vectors they are.
            bundle: The encoder bundle that computed them.
            ids: The image id of each vector.
            halves: The vectors.
            build: Builds the base.
            kept: Reads the generation on disk, where it can be used. One of the same vectors is
                returned as it is: another process of the same gallery has built it meanwhile.

        Raises:
            OSError: the disk is full; the old generation stays.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _key(gallery, bundle)
        with self._locked():
            if self._count(key) == len(ids) and (present := kept()) is not None:
                present_ids, generation = present
                if np.array_equal(present_ids, ids) and _are_equal(generation.halves, halves):
                    return generation
            self._check_room(halves)
            # A folder of its own: a purge may delete it meanwhile, and another process begin anew.
            part = Path(tempfile.mkdtemp(prefix=f"{key}-", suffix=".part", dir=self.folder))
            try:
                return self._write(key, part, gallery, bundle, ids, halves, build)
            finally:
                shutil.rmtree(part, ignore_errors=True)

    def _write(
        self,
        key: str,
        part: Path,
        gallery: str,
        bundle: str,
        ids: Ids,
        halves: Halves | HalvesByRow,
        build: Callable[[Halves], IvfBase],
    ) -> Generation:
        with (part / "vectors").open("wb") as file:
            for start in range(0, len(halves), BLOCK):
                file.write(np.ascontiguousarray(halves[start : start + BLOCK]).tobytes())
            file.write(np.ascontiguousarray(ids, np.uint8).tobytes())
            file.flush()
            os.fsync(file.fileno())
        mapped = _mapped(part / "vectors", halves.shape)  # stays valid when the file is renamed
        base = build(mapped)
        base.save(part / "codes")
        with (part / "codes").open("rb+") as file:
            os.fsync(file.fileno())
        manifest: dict[str, Any] = {
            "version": VERSION,
            "gallery": gallery,
            "bundle": bundle,
            "shape": list(halves.shape),
            "measured": base.measured.to_dict(),
        }
        names = set()
        for kind in ("vectors", "codes"):
            digest = _file_sha256(part / kind)
            path = self.folder / f"{key}-{digest[:12]}.{kind}"
            (part / kind).replace(path)
            manifest[kind] = [path.name, digest]
            names.add(path.name)
        manifest["sha256"] = _manifest_sha256(manifest)
        with (part / "json").open("w") as text:
            json.dump(manifest, text, indent=1)
            text.flush()
            os.fsync(text.fileno())
        (part / "json").replace(self._manifest_path(key))
        self._delete_files(key, keep=names)
        return Generation(halves=mapped, base=base)

    def read(
        self, gallery: str, bundle: str, gpu: Gpu | None = None
    ) -> tuple[Ids, Generation] | None:
        """The generation of a gallery with its image ids; None, with a warning, if unusable.

        Args:
            gallery: Whose generation.
            bundle: The encoder bundle that computed its vectors.
            gpu: Where its base will be searched; None for the CPU.
        """
        path = self._manifest_path(_key(gallery, bundle))
        while True:
            try:
                text = path.read_text()
            except FileNotFoundError:
                return None
            try:
                return self._read(_parsed(text), gpu)
            except (OSError, RuntimeError, *_MALFORMED) as error:
                with contextlib.suppress(FileNotFoundError):
                    if path.read_text() != text:  # Another process has written a newer one since.
                        continue
                log.warning("the index of gallery %s is made anew: %s", gallery, error)
                return None

    def _read(self, manifest: dict[str, Any], gpu: Gpu | None) -> tuple[Ids, Generation]:
        count, dimension = manifest["shape"]
        vectors, codes = (self._verified(*manifest[kind]) for kind in ("vectors", "codes"))
        if vectors.stat().st_size != count * (2 * dimension + ID_BYTES):
            raise ValueError(f"{vectors.name} has another size than {count} vectors")
        ids = _mapped_ids(vectors, count, dimension)
        base = IvfBase.load(codes, Measured(**manifest["measured"]), gpu)
        return ids, Generation(halves=_mapped(vectors, (count, dimension)), base=base)

    def code_bytes(self) -> int:
        """Bytes of the codes of all galleries."""
        return sum(path.stat().st_size for path in self.folder.glob("*.codes"))

    def delete(self, gallery: str, bundle: str) -> None:
        """Deletes all files of a gallery, after a purge or with the gallery.

        Args:
            gallery: Whose files.
            bundle: The encoder bundle that computed its vectors.
        """
        self._delete_key(_key(gallery, bundle))

    def delete_all_but(self, galleries: Mapping[str, str]) -> bool:
        """Deletes the files of all galleries but some, such as of those deleted from the store.

        Args:
            galleries: The encoder bundle of each gallery to keep, by its name.

        Returns:
            Whether it was done: not while a process writes a generation, which may be one of a
            gallery that is newer than `galleries`.
        """
        kept = {_key(gallery, bundle) for gallery, bundle in galleries.items()}
        if not self.folder.is_dir():
            return True
        try:
            with self._locked(wait=False):
                keys = {path.name.partition(".")[0].partition("-")[0] for path in self._files()}
                for key in keys - kept:
                    self._delete_key(key)
        except OSError:
            return False
        return True

    def clean_up(self, gallery: str, bundle: str, purged: Collection[str]) -> None:
        """Deletes what a killed process left: half a generation, or one with a purged picture.

        Args:
            gallery: Whose files.
            bundle: The encoder bundle that computed its vectors.
            purged: Image ids of which nothing may be kept, in hexadecimal.
        """
        key = _key(gallery, bundle)
        manifest, names = self._manifest(key)
        if purged and manifest and self._holds_any(manifest, purged):
            log.warning("the index of gallery %s is made anew: it held a purged picture", gallery)
            # At once, whoever holds the lock: named by their contents, they are of no newer one.
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError), self._locked(wait=False):
            # Anew, as whoever held the lock may have written another generation meanwhile.
            _, names = self._manifest(key)
            if all((self.folder / name).exists() for name in names):
                self._delete_files(key, keep=names)
            else:
                self._delete_key(key)

    def _holds_any(self, manifest: dict[str, Any], image_ids: Collection[str]) -> bool:
        path = self.folder / Path(manifest["vectors"][0]).name
        searched = {bytes.fromhex(image_id) for image_id in image_ids}
        try:
            ids = _mapped_ids(path, *manifest["shape"])
        except (OSError, ValueError):
            return True  # It is missing or cut, and would not be used either.
        return any(bytes(image_id) in searched for image_id in ids)

    @contextlib.contextmanager
    def _locked(self, *, wait: bool = True) -> Iterator[None]:
        """Holds the folder's lock, which ends with its process, and deletes abandoned parts.

        Raises:
            OSError: another process holds it and `wait` is false, or there is no folder.
        """
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            for abandoned in self.folder.glob("*.part"):  # by a process that was killed
                shutil.rmtree(abandoned, ignore_errors=True)
            yield

    def _check_room(self, halves: Halves | HalvesByRow) -> None:
        """Refuses before any work where the disk has too little room.

        Codes and centroids take a tenth of what the vectors take at most.
        """
        count, dimension = halves.shape
        needed = int(1.1 * count * (2 * dimension + ID_BYTES))
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise OSError(
                errno.ENOSPC, f"{self.folder} needs {needed:,} bytes and has {free:,} left"
            )

    def _verified(self, name: str, digest: str) -> Path:
        """The path of a file whose SHA-256 is right.

        Raises:
            ValueError: it is damaged.
        """
        path = self.folder / Path(name).name
        if _file_sha256(path) != digest:
            raise ValueError(f"{name} is damaged")
        return path

    def _count(self, key: str) -> int:
        """How many vectors the generation on disk has; 0 where there is none that can be read."""
        try:
            return int(_parsed(self._manifest_path(key).read_text())["shape"][0])
        except (OSError, *_MALFORMED):
            return 0

    def _manifest(self, key: str) -> tuple[dict[str, Any], set[str]]:
        """The manifest on disk and the files it names; both empty where none can be read."""
        try:
            manifest = _parsed(self._manifest_path(key).read_text())
            return manifest, {Path(manifest[kind][0]).name for kind in ("vectors", "codes")}
        except (OSError, *_MALFORMED):
            return {}, set()

    def _manifest_path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _files(self) -> Iterator[Path]:
        """Finds the files of all generations."""
        for kind in ("json", "vectors", "codes"):
            yield from self.folder.glob(f"*.{kind}")

    def _delete_key(self, key: str) -> None:
        self._manifest_path(key).unlink(missing_ok=True)
        self._delete_files(key, keep=set())

    def _delete_files(self, key: str, *, keep: set[str]) -> None:
        """Deletes vectors and codes; a process that has them mapped keeps what it has."""
        for kind in ("vectors", "codes"):
            for path in self.folder.glob(f"{key}-*.{kind}"):
                if path.name not in keep:
                    path.unlink(missing_ok=True)


def _are_equal(one: Halves, other: Halves | HalvesByRow) -> bool:
    """Whether two sets of vectors have the same values, without a second copy in memory."""
    return one.shape == other.shape and all(
        np.array_equal(one[start : start + BLOCK], other[start : start + BLOCK])
        for start in range(0, len(one), BLOCK)
    )


def _key(gallery: str, bundle: str) -> str:
    return hashlib.sha256(f"{gallery}\0{bundle}".encode()).hexdigest()[:16]


def _parsed(text: str) -> dict[str, Any]:
    """Parses the contents of a manifest.

    Raises:
        ValueError: it is damaged, or of another version.
    """
    manifest: dict[str, Any] = json.loads(text)
    if manifest["version"] != VERSION:
        raise ValueError(f"version {manifest['version']}")
    if manifest.pop("sha256") != _manifest_sha256(manifest):
        raise ValueError("the manifest is damaged")
    return manifest


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mapped(path: Path, shape: tuple[int, ...]) -> Halves:
    """The vectors of a file, mapped."""
    return np.memmap(path, np.float16, "r", shape=(shape[0], shape[1]))


def _mapped_ids(path: Path, count: int, dimension: int) -> Ids:
    """The image ids of a file of vectors, mapped."""
    offset = 2 * count * dimension
    return np.memmap(path, np.uint8, "r", offset=offset, shape=(count, ID_BYTES))
