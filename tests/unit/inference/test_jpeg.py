"""The data of a JPEG's scan is looked through in parts: markers are found wherever those meet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagesight_server.inference import jpeg
from pagesight_server.inference.jpeg import Layout, _end_of_scan, layout

PART = jpeg._LOOKED_AT
"""Bytes that are looked through at once."""

START = 20
"""Place of the first byte of the scan's data."""

GOES_ON = [0x00, 0xFF, *range(0xD0, 0xD8)]
"""What follows an FF within a scan (ITU-T T.81, B.1.1.2 and F.1.2.3)."""


def plain(data: bytes, start: int) -> int | None:
    """Finds the first marker byte by byte."""
    for at in range(start, len(data) - 1):
        if data[at] == 0xFF and data[at + 1] not in GOES_ON:
            return at
    return None


def scan(marks: dict[int, bytes], length: int = 3 * PART) -> bytes:
    """The data of a scan with marks in some places, counted from its start."""
    data = bytearray(b"\x55" * (START + length))
    for at, mark in marks.items():
        data[START + at : START + at + len(mark)] = mark
    return bytes(data)


AROUND = [0, 1, PART - 2, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 3 * PART - 2]


@pytest.mark.parametrize("marker", [0xD9, 0xDA, 0xC4, 0x01, 0xCF, 0xD8, 0xFE])
@pytest.mark.parametrize("at", AROUND)
def test_a_marker_is_found_at_before_and_across_the_border_of_two_parts(
    at: int, marker: int
) -> None:
    data = scan({at: bytes([0xFF, marker])})
    assert _end_of_scan(data, START) == START + at == plain(data, START)


@pytest.mark.parametrize("follows", GOES_ON)
@pytest.mark.parametrize("at", AROUND)
def test_restarts_stuffed_and_filled_bytes_do_not_end_a_scan(at: int, follows: int) -> None:
    inside = bytes([0xFF, follows]) if follows != 0xFF else b"\xff\xff\x00"
    data = scan({at: inside}, length=3 * PART + 1)
    assert _end_of_scan(data, START) is None
    assert plain(data, START) is None
    behind = data + b"\xff\xd9"
    assert _end_of_scan(behind, START) == len(data) == plain(behind, START)


@pytest.mark.parametrize("at", AROUND)
def test_of_bytes_filled_up_with_ff_the_last_begins_the_marker(at: int) -> None:
    data = scan({at: b"\xff\xff\xff\xd9"}, length=3 * PART + 2)
    assert _end_of_scan(data, START) == START + at + 2 == plain(data, START)


@pytest.mark.parametrize("length", [0, 1, PART - 1, PART, PART + 1, 2 * PART])
def test_an_ff_at_the_end_of_a_file_is_no_marker(length: int) -> None:
    data = scan({}, length) + b"\xff"
    assert _end_of_scan(data, START) is None
    assert _end_of_scan(data[:-1], START) is None


@given(
    data=st.lists(
        st.sampled_from([0x00, 0x55, 0xD0, 0xD7, 0xD8, 0xD9, 0xFF]), min_size=1, max_size=24
    ).map(bytes),
    start=st.integers(0, 24),
    part=st.integers(1, 6),
)
def test_any_bytes_end_where_a_loop_over_them_says(data: bytes, start: int, part: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jpeg, "_LOOKED_AT", part)
        assert _end_of_scan(data, start) == plain(data, start)


@pytest.mark.parametrize("at", AROUND)
def test_the_end_mark_of_a_picture_is_seen_wherever_its_scan_ends(at: int) -> None:
    begins = b"\xff\xd8\xff\xda" + (START - 4).to_bytes(2, "big")
    data = begins.ljust(START, b"\1") + scan({at: b"\xff\xd9"})[START:]
    assert layout(data) == Layout(scans=1, has_end=True)
    assert layout(data[: START + at]) == Layout(scans=1, has_end=False)
