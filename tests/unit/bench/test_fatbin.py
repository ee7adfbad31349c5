"""Code for GPUs in shared libraries, on a few made-up bytes laid out like theirs."""

from __future__ import annotations

import struct

import pytest

from tests.bench.fatbin import CUBIN, PTX, Entry, FatbinError, entries, keep_only, sections


def entry(kind: int, architecture: int, code: bytes, header: int = 64) -> bytes:
    fields = struct.pack(
        "<HHIQIIHHI", kind, 0x101, header, len(code), len(code), 0, 8, 1, architecture
    )
    return fields.ljust(header, b"\xee") + code


def container(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def elf(fatbin: bytes, name: bytes = b".nv_fatbin") -> bytearray:
    """A file with that section, a table of names, and a section without bytes in the file."""
    names = b"\0" + name + b"\0.shstrtab\0.bss\0"
    fatbin_at = 64
    names_at = fatbin_at + len(fatbin)
    table = names_at + len(names)

    def header(name_at: int, kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQIIQQ", name_at, kind, 0, 0, offset, size, 0, 0, 1, 0)

    start = len(name) + 2
    headers = (
        header(0, 0, 0, 0)
        + header(1, 1, fatbin_at, len(fatbin))
        + header(start, 3, names_at, len(names))
        + header(start + len(b".shstrtab") + 1, 8, 10**9, 10**9)
    )
    first = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    first += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 4, 2)
    return bytearray(first + fatbin + names + headers)


TWO = container(
    entry(CUBIN, 80, b"a" * 24), entry(CUBIN, 90, b"b" * 40), entry(PTX, 90, b"c" * 8, header=80)
)
OLD = container(entry(CUBIN, 75, b"d" * 16))
ALL = TWO + OLD + bytes(16) + TWO


def test_sections_are_found_by_their_names() -> None:
    image = elf(ALL)
    found = sections(image)
    assert found[".nv_fatbin"] == (64, len(ALL))
    assert found[".bss"] == (10**9, 10**9)


def test_every_container_tells_what_it_has() -> None:
    image = elf(ALL)
    read = list(entries(image, *sections(image)[".nv_fatbin"]))
    assert [[(one.kind, one.architecture) for one in each] for each in read] == [
        [(CUBIN, 80), (CUBIN, 90), (PTX, 90)],
        [(CUBIN, 75)],
        [(CUBIN, 80), (CUBIN, 90), (PTX, 90)],
    ]
    assert read[0][1] == Entry(CUBIN, 90, 64 + 16 + 64 + 24 + 64, 40)
    assert bytes(image[read[0][1].start :][:40]) == b"b" * 40


def test_only_the_code_of_one_architecture_is_kept() -> None:
    image = elf(ALL)
    before = bytes(image)
    assert keep_only(image, 90) == 2 * (24 + 8)
    assert len(image) == len(before)
    # All but the zeroed code is as it was, headers and offsets too.
    assert bytes(image) == before.replace(b"a" * 24, bytes(24)).replace(b"c" * 8, bytes(8))


def test_a_container_without_that_architecture_keeps_all_it_has() -> None:
    image = elf(ALL)
    keep_only(image, 90)
    assert b"d" * 16 in image


def test_an_architecture_that_nobody_has_is_refused_and_nothing_changed() -> None:
    image = elf(ALL)
    with pytest.raises(FatbinError, match=r"no code for architecture 100, only for \[75, 80, 90\]"):
        keep_only(image, 100)
    assert image == elf(ALL)


@pytest.mark.parametrize(
    ("fatbin", "message"),
    [
        pytest.param(b"\x50\xed\x55\xba" + ALL[4:20], "ends after its section", id="cut off"),
        pytest.param(b"nonsense" * 4, "no container of version 1", id="something else"),
        pytest.param(ALL[:4] + b"\x02" + ALL[5:], "no container of version 1", id="newer"),
        pytest.param(container(entry(7, 90, b"x" * 8)), "is of kind 7", id="another kind"),
        pytest.param(container(entry(2, 90, b"x" * 8)[:40]), "ends after its", id="short entry"),
        pytest.param(container(b"x" * 8), "8 bytes at 80 are no entry", id="no entry"),
    ],
)
def test_what_does_not_add_up_is_refused_and_left_alone(fatbin: bytes, message: str) -> None:
    image = elf(fatbin)
    before = bytes(image)
    with pytest.raises(FatbinError, match=message):
        keep_only(image, 90)
    assert image == before


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"MZ" + bytes(80), "not a 64-bit little-endian ELF"),
        (bytes(elf(ALL)[:200]), "not a whole ELF file"),
        (bytes(elf(ALL, b".text")), r"no section \.nv_fatbin"),
    ],
)
def test_a_file_without_code_for_gpus_says_so(image: bytes, message: str) -> None:
    with pytest.raises(FatbinError, match=message):
        keep_only(bytearray(image), 90)
