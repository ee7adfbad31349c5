"""Atomic writing of a bundle: a folder with a manifest is always a whole bundle.

    contents -> disk space? -> .<name>.partial-* beside the target -> verify -> rename
    large files are made in a `scratch` folder beside the target and moved

The target changes only at the last step, so an export that fails or fills the disk leaves the
bundle that was there. One that is killed leaves hidden folders, which the next export of the same
target removes; between the two renames that replace a bundle, the old one is among them, and is put
back first. Folders that an export is still using are told by their locks, which end with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pagesight_export.bundle import MANIFEST, Manifest, sha256
from pagesight_export.errors import ExportError
from pagesight_export.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SPARE_BYTES = 16 * 2**20
"""Left free beyond the bundle itself: file systems fail in odd ways when full to the last byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A bundle before it is on disk."""

    manifest: Manifest
    """Complete but for `files`, which the writer fills in from `contents`."""
    contents: Mapping[str, bytes | Path]
    """Every file but the manifest, `golden.npz` included. A path is moved, not copied."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(
            body.stat().st_size if isinstance(body, Path) else len(body)
            for body in self.contents.values()
        )

    @property
    def new_bytes(self) -> int:
        """Bytes that are not on the disk yet."""
        return sum(len(body) for body in self.contents.values() if isinstance(body, bytes))


@contextmanager
def scratch(target: Path) -> Iterator[Path]:
    """Yield a temporary folder on the target's disk for files too large for memory.

    Raises:
        ExportError: the target is something else than a bundle, or its disk is read-only: found
            out before the long work, not after.
    """
    with _partial(Path(os.path.abspath(target))) as folder:
        yield folder


def need_space(folder: Path, size: int) -> None:
    """Raise an `ExportError` where the disk of `folder` has not `size` bytes to spare."""
    _need_space(folder, _free_bytes(folder), size)


def write(
    draft: Draft, target: Path, *, free_bytes: Callable[[Path], int] | None = None
) -> Manifest:
    """Write, verify and publish a bundle; replace what bundle was there only when all is well.

    Args:
        draft: What to write.
        target: The bundle's folder. Its parents are made.
        free_bytes: Tells the free space of a folder's disk; the operating system by default.

    Returns:
        The manifest as written.

    Raises:
        ExportError: the target is something else than a bundle, the disk is full or read-only,
            or the bundle does not verify.
    """
    target = Path(os.path.abspath(target))
    hashes = {name: _hash(body) for name, body in draft.contents.items()}
    manifest = replace(draft.manifest, files=dict(sorted(hashes.items())))
    with _partial(target) as partial:
        try:
            free = (free_bytes or _free_bytes)(target.parent)
            _need_space(target.parent, free, draft.new_bytes)
            partial.chmod(0o755)
            for name, body in draft.contents.items():
                _put(body, partial / name)
            text = json.dumps(manifest.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
            _write_through(partial / MANIFEST, f"{text}\n".encode())
            verify(partial).raise_if_wrong()
            _publish(partial, target)
        except OSError as error:
            raise ExportError(f"cannot write {target}: {error.strerror}") from error
    return manifest


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Yield a new hidden folder beside a target, and remove it if it is still there at the end."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _put_right(target)
        _refuse_strangers(target)
        folder, descriptor = _made(target)
    except OSError as error:
        raise ExportError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _made(target: Path) -> tuple[Path, int]:
    """Make a hidden folder and lock it; its descriptor must be closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            _locks(descriptor)
            if folder.exists():
                return folder, descriptor
            os.close(descriptor)
        # Another export took it for a dead one's, before it was locked.


def _put_right(target: Path) -> None:
    """Put back the bundle that a killed export had set aside, and remove what it had begun."""
    hidden = re.compile(rf"\.{re.escape(target.name)}\.(partial|replaced)-\w+")
    for path in target.parent.iterdir():
        if not hidden.fullmatch(path.name):
            continue
        # What is another user's, or gone meanwhile, is left as it is.
        with suppress(OSError), _open(path) as descriptor:
            if not _locks(descriptor, wait=False):
                continue  # an export is using it
            was_set_aside = ".replaced-" in path.name and (path / MANIFEST).is_file()
            if was_set_aside and not target.exists():
                path.rename(target)
            else:
                shutil.rmtree(path)


@contextmanager
def _open(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locks(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open folder until it is closed or the process ends; False where that cannot be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # another process has it, or the file system has no locks for folders
        return False
    return True


def _refuse_strangers(target: Path) -> None:
    """Replace a bundle or an empty folder, and nothing else that an operator may have there."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise ExportError(f"{target} is no folder: choose another --out")
    if any(target.iterdir()) and not (target / MANIFEST).is_file():
        raise ExportError(f"{target} holds something that is no bundle: choose another --out")


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _need_space(folder: Path, free: int, size: int) -> None:
    if free < size + _SPARE_BYTES:
        raise ExportError(
            f"{folder} has {free / 2**20:.0f} MiB free and the bundle needs"
            f" {(size + _SPARE_BYTES) / 2**20:.0f} MiB: free some space or choose another --out"
        )


def _hash(body: bytes | Path) -> str:
    return sha256(body) if isinstance(body, Path) else hashlib.sha256(body).hexdigest()


def _put(body: bytes | Path, path: Path) -> None:
    """Write or move one file of a draft, and wait until it is on the disk."""
    if not isinstance(body, Path):
        _write_through(path, body)
        return
    shutil.move(body, path)
    path.chmod(0o644)  # some writers make files that only their owner reads
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _write_through(path: Path, body: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


def _publish(partial: Path, target: Path) -> None:
    """Put the new folder in the old one's place; on failure put the old one back."""
    if not target.exists():
        partial.rename(target)
        return
    old = target.with_name(f".{target.name}.replaced-{partial.name.rpartition('-')[2]}")
    with _open(target) as descriptor:
        _locks(descriptor)
        target.rename(old)
        try:
            partial.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
