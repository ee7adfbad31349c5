"""Code for GPUs in a shared library, and how to keep that of one architecture alone.

    ELF file ──sections──> .nv_fatbin: container, container, ...
                             container: header, entry, entry, ...
                               entry: header (kind, architecture, size), code, often compressed

CUDA's driver picks one entry of each container, so the code of the others may be zeros: headers and
offsets stay as they are, and the file compresses to a fraction. The layout of containers is not
documented by NVIDIA; the fields used here are those that `cuobjdump --list-elf` shows and that
public readers of it agree on. Whatever does not add up is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_CONTAINER = struct.Struct("<IHHQ")
"""Magic number, version, bytes of this header, bytes of the entries that follow."""
_ENTRY = struct.Struct("<HHIQIIHHI")
"""Kind, flags, bytes of this header, bytes of the code, and further down the architecture."""
_MAGIC = 0xBA55ED50
_VERSION = 1
_ALIGNMENT = 8

PTX, CUBIN = 1, 2
"""Kinds of entries: assembler for any later architecture, and code for one."""


class FatbinError(ValueError):
    """A file is not laid out as this module knows it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The code of one container for one architecture."""

    kind: int
    """`PTX` or `CUBIN`."""
    architecture: int
    """Compute capability times ten: 90 is Hopper."""
    start: int
    """Offset of its code in the file."""
    size: int
    """Bytes of its code."""


def sections(image: bytes | bytearray) -> dict[str, tuple[int, int]]:
    """Offset and size of each section of a 64-bit little-endian ELF file, by name.

    Raises:
        FatbinError: it is none, or is cut off.
    """
    if image[:6] != b"\x7fELF\x02\x01":
        raise FatbinError("not a 64-bit little-endian ELF file")
    try:
        (table,) = struct.unpack_from("<Q", image, 40)
        size, count, names_at = struct.unpack_from("<HHH", image, 58)
        headers = [
            struct.unpack_from("<IIQQQQ", image, table + number * size) for number in range(count)
        ]
        names = headers[names_at][4]
        found = {}
        for name, kind, _flags, _address, offset, length in headers:
            end = image.index(b"\0", names + name)
            # Sections of kind 8 have no bytes in the file.
            if kind != 8 and offset + length > len(image):
                raise FatbinError("a section ends after the file")
            found[bytes(image[names + name : end]).decode("ascii")] = (offset, length)
    except (struct.error, IndexError, ValueError) as error:
        raise FatbinError(f"not a whole ELF file: {error}") from None
    return found


def entries(image: bytes | bytearray, start: int, size: int) -> Iterator[list[Entry]]:
    """The entries of each container of a section `.nv_fatbin`.

    Args:
        image: The file.
        start: Offset of the section.
        size: Its bytes.

    Raises:
        FatbinError: a container is of another version, or its sizes do not add up.
    """
    at, end = start, start + size
    while at < end:
        # Between containers lie zeros, up to a multiple of eight.
        if not any(image[at : at + _ALIGNMENT]):
            at += _ALIGNMENT
            continue
        if end - at < _CONTAINER.size:
            raise FatbinError(f"{end - at} bytes at {at} are no container")
        magic, version, header, length = _CONTAINER.unpack_from(image, at)
        if (magic, version) != (_MAGIC, _VERSION):
            raise FatbinError(f"no container of version {_VERSION} at {at}")
        last = at + header + length
        if header < _CONTAINER.size or last > end:
            raise FatbinError(f"the container at {at} ends after its section")
        yield list(_of_container(image, at + header, last))
        at = last


def _of_container(image: bytes | bytearray, at: int, end: int) -> Iterator[Entry]:
    while at < end:
        if end - at < _ENTRY.size:
            raise FatbinError(f"{end - at} bytes at {at} are no entry")
        kind, _, header, size, _, _, _, _, architecture = _ENTRY.unpack_from(image, at)
        if kind not in (PTX, CUBIN) or header < _ENTRY.size or at + header + size > end:
            raise FatbinError(f"the entry at {at} is of kind {kind}, or ends after its container")
        yield Entry(kind, architecture, at + header, size)
        at += header + size


def keep_only(image: bytearray, architecture: int) -> int:
    """Overwrites the code of all other architectures with zeros; returns how many bytes.

    A container that has no code for it keeps all it has, so that the driver still finds what it
    would have taken: PTX, or code of an older one of the same generation.

    Args:
        image: A shared library; changed in place.
        architecture: Compute capability times ten.

    Raises:
        FatbinError: it has no code for GPUs, none for this architecture, or is laid out otherwise.
    """
    where = sections(image).get(".nv_fatbin")
    if where is None:
        raise FatbinError("it has no section .nv_fatbin")
    # Read whole before anything is changed, so that an error leaves the file as it was.
    containers = list(entries(image, *where))
    if not any(_has(container, architecture) for container in containers):
        known = sorted({entry.architecture for container in containers for entry in container})
        raise FatbinError(f"it has no code for architecture {architecture}, only for {known}")
    zeroed = 0
    for container in containers:
        if not _has(container, architecture):
            continue
        for entry in container:
            if (entry.kind, entry.architecture) != (CUBIN, architecture):
                image[entry.start : entry.start + entry.size] = bytes(entry.size)
                zeroed += entry.size
    return zeroed


def _has(container: list[Entry], architecture: int) -> bool:
    return any((entry.kind, entry.architecture) == (CUBIN, architecture) for entry in container)
