"""ICC profiles made from primaries and a curve, as phones and cameras embed them (ICC.1:2022)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

D65 = (0.3127, 0.3290)
_D50_XYZ = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65_536))


def _xyz(values: Sequence[float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


SRGB_CURVE = (
    b"para\0\0\0\0"
    + struct.pack(">HH", 3, 0)
    + b"".join(map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
)


def gamma(exponent: float) -> bytes:
    """A curve that is a power."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return (
        b"mluc\0\0\0\0"
        + struct.pack(">II", 1, 12)
        + b"enUS"
        + struct.pack(">II", len(encoded), 28)
        + encoded
    )


def _file(space: bytes, tags: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A version 4 display profile of these tags."""
    table, body, start = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, value in tags:
        padded = value + b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(padded))
        body += padded
    header = struct.pack(
        ">I4sI4s4s4s6H4s", start + len(body), b"none", 0x0430_0000, b"mntr", space, b"XYZ ",
        2024, 1, 1, 0, 0, 0, b"acsp",
    )  # fmt: skip
    header = header.ljust(68, b"\0") + b"".join(map(_fixed, _D50_XYZ))
    return header.ljust(128, b"\0") + table + body


def rgb_profile(
    primaries: Sequence[tuple[float, float]], curve: bytes, white: tuple[float, float] = D65
) -> bytes:
    """The profile of a display.

    Args:
        primaries: Chromaticities x, y of red, green and blue.
        curve: A curve type, for all three.
        white: Chromaticity of white.
    """

    def column(x: float, y: float) -> NDArray[np.float64]:
        return np.array([x / y, 1.0, (1 - x - y) / y])

    white_xyz = column(*white)
    cone_scale = np.diag((_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white_xyz))
    columns = np.stack([column(x, y) for x, y in primaries], axis=1)
    matrix = (
        np.linalg.inv(_BRADFORD)
        @ cone_scale
        @ _BRADFORD
        @ (columns * np.linalg.solve(columns, white_xyz))
    )
    return _file(
        b"RGB ",
        [
            (b"desc", _text("a display")),
            (b"cprt", _text("none")),
            (b"wtpt", _xyz(_D50_XYZ)),
            *((name, _xyz(matrix[:, at])) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))),
            *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
        ],
    )


def grey_profile(curve: bytes) -> bytes:
    """The profile of a grey display."""
    return _file(
        b"GRAY",
        [
            (b"desc", _text("grey")),
            (b"cprt", _text("none")),
            (b"wtpt", _xyz(_D50_XYZ)),
            (b"kTRC", curve),
        ],
    )


SRGB = rgb_profile(((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)), SRGB_CURVE)
DISPLAY_P3 = rgb_profile(((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)), SRGB_CURVE)
ADOBE_RGB = rgb_profile(((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)), gamma(563 / 256))
BT_2020 = rgb_profile(((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), gamma(2.4))
