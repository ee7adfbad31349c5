"""Fuzzing: random, often invalid inputs, reproducible by their seed.

    Fuzz(seed) ──> text      strings that break parsers, and names that exist
               ──> picture   picture files, damaged, truncated or with forged headers
               ──> message   any message of the API, with random values in its fields
               ──> wire      its serialized bytes, often corrupted

Values that exist (`know`) are reused as image id, label or page token, so that messages also get
past the first checks.
"""

from __future__ import annotations

import io
import os
import random
import struct
from collections import defaultdict
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from google.protobuf.message import Message
from PIL import Image

from tests.support.pictures import RED, encoded, shade, solid

M = TypeVar("M", bound=Message)

SEED = int(os.environ.get("PAGESIGHT_FUZZ_SEED", "1"))
"""Seed of the first sequence in the long versions of the tests; a failure names its own seed."""

KEPT = 200
"""Existing values of each kind that are reused; older ones may no longer exist."""

STRINGS = (
    "",
    " ",
    "a",
    "other",
    "other_x",
    "../../etc/passwd",
    "a/b",
    "\x00",
    "a\nb\r\n",
    "%s%n{0}",
    "' OR 1=1 --",
    "\u202eevil\u200b",
    "银行卡号",
    "é" * 40,
    "e\u0301" * 200,
    "\U0001f4a9" * 129,
    "\ufffd\uffff\U0010ffff",
    "x" * 128,
    "x" * 129,
    "x" * 5_000,
    "null",
    "-1",
    "９" * 70,
    "f" * 64,
    "F" * 64,
    "g" * 64,
    "0" * 63,
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "00-00000000000000000000000000000000-0000000000000000-ff",
    "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    "00-" + "a" * 4_000 + "-b-01",
    "W10=",
    "WzEsICIiXQ==",
    "Wy0xLCAiYSIsICJiIl0=",
    "W1tbW1tb",
)

_EDGES = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 7, 2**31 - 1, -(2**31), 1_000, 1_001),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2, 3, 2**63 - 1, -(2**63), 2**32),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2, 100, 101, 60_000, 2**31, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2**63, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 4, -1, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -0.0, 1e308, float("inf"), float("nan")),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, float("inf"), float("nan")),
}

_ORDINARY = {"deadline_ms": (0, 60_000), "expected_revision": (0,), "max_side_px": (0, 1, 64)}
"""Valid values of fields, by name, with which a message is not rejected by the first check."""

_POOLS = {"image_id": "id", "image_ids": "id", "label": "label", "page_token": "token"}
"""Kinds of existing values that fields take, by name."""


def files() -> list[bytes]:
    """Intact pictures of every supported format, and of some unsupported ones."""
    rgb = Image.new("RGB", (40, 56), RED)
    rgb.paste((10, 200, 30), (0, 0, 20, 28))
    exif = Image.Exif()
    exif[274], exif[0x010E] = 6, "a description"
    rgba = Image.new("RGBA", (20, 24), (9, 8, 7, 100))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (40, 56))]}
    return [
        encoded(rgb, "JPEG", exif=exif),
        encoded(rgb, "JPEG", progressive=True, comment=b"x" * 90),
        encoded(rgb, "JPEG", quality=5, subsampling=2, restart_marker_rows=1),
        encoded(rgb.convert("L"), "JPEG", icc_profile=b"i" * 500),
        encoded(rgb.convert("CMYK"), "JPEG"),
        encoded(rgb, "PNG", exif=exif),
        encoded(rgba),
        encoded(rgb.convert("P"), transparency=0),
        encoded(rgb.convert("1")),
        encoded(Image.new("I;16", (20, 20))),
        encoded(rgb, "PNG", **frames),
        encoded(rgb, "WEBP", exif=exif),
        encoded(rgba, "WEBP", lossless=True),
        encoded(rgb, "WEBP", **frames),
        *(encoded(rgb, kind) for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "MPO")),
        b"%PDF-1.7\n1 0 obj <<>> endobj",
        b"<svg xmlns='http://www.w3.org/2000/svg' width='9999999' height='9999999'/>",
        b"PK\x03\x04" + bytes(60),
        b"\x00\x00\x00\x20ftypavif" + bytes(60),
    ]


class Fuzz:
    """A sequence of random inputs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.known: defaultdict[str, list[str]] = defaultdict(list)
        self._files = files()
        self._small = [solid(shade(number), width=16, height=16) for number in range(64)]

    def know(self, kind: str, *values: str) -> None:
        """Adds existing values of the kind `id`, `label` or `token`."""
        pool = self.known[kind]
        pool.extend(values)
        del pool[:-KEPT]

    def text(self, kind: str = "") -> str:
        """A string; of a kind with existing values, often one of these."""
        pool = self.known[kind]
        if pool and self.random.random() < 0.7:
            return self.random.choice(pool)
        if self.random.random() < 0.8:
            return self.random.choice(STRINGS)
        points = (
            self.random.choice((self.random.randrange(128), 0x4E00, 0x1F600)) for _ in "x" * 9
        )
        return "".join(map(chr, points))

    def picture(self) -> bytes:
        """The bytes of a picture: often small and valid, else damaged or random."""
        draw = self.random.random()
        if draw < 0.3:
            return self.random.choice(self._small)
        if draw < 0.35:
            return self.random.randbytes(self.random.choice((0, 1, 3, 12, 30, 300, 3_000)))
        whole = self.random.choice(self._files)
        if draw < 0.4:
            return whole
        return self.resized(whole) if draw < 0.6 else self.damaged(whole)

    def damaged(self, data: bytes) -> bytes:
        """The file with some bytes flipped, replaced, removed, doubled or taken from another."""
        out = bytearray(data)
        for _ in range(self.random.choice((1, 1, 2, 5, 20))):
            at = self.random.randrange(len(out)) if out else 0
            # Decoders depend most on headers, so half of the damage is done there.
            at = at % 64 if self.random.random() < 0.5 else at
            length = self.random.choice((1, 2, 4, 16))
            match self.random.randrange(7):
                case 0 if at < len(out):
                    out[at] ^= 1 << self.random.randrange(8)
                case 1:
                    out[at : at + length] = self.random.randbytes(length)
                case 2:
                    out[at : at + length] = self.random.choice((b"\xff", b"\x00")) * length
                case 3:
                    del out[at : at + length]
                case 4:
                    out[at:at] = out[at : at + 64]
                case 5:
                    del out[max(at, 1) :]
                case _:
                    other = self.random.choice(self._files)
                    start = self.random.randrange(len(other))
                    out[at : at + 64] = other[start : start + 64]
        return bytes(out)

    def resized(self, data: bytes) -> bytes:
        """The file with another picture size in its header: tiny, huge or just wrong."""
        sides = (0, 1, 15, 16, 56, 40, 1_000, 32_767, 32_768, 65_535, 2**31 - 1)
        width, height = self.random.choice(sides), self.random.choice(sides)
        if data[:4] == b"\x89PNG":
            return data[:16] + struct.pack(">II", width, height) + data[24:]
        if data[:4] == b"RIFF" and data[12:16] == b"VP8X":
            three = width.to_bytes(4, "little")[:3] + height.to_bytes(4, "little")[:3]
            return data[:24] + three + data[30:]
        if data[:2] == b"\xff\xd8":
            for start in (b"\xff\xc0", b"\xff\xc2"):
                if (at := data.find(start)) > 0:
                    size = struct.pack(">HH", height % 65_536, width % 65_536)
                    return data[: at + 5] + size + data[at + 9 :]
        return self.damaged(data)

    def message(self, kind: type[M], **fields: Any) -> M:
        """A message with random values in its fields, except for those given."""
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            # For an optional field, being absent matters more than its value.
            optional = field.containing_oneof is not None and field.containing_oneof.name[0] == "_"
            if field.name not in fields and self.random.random() < (0.2 if optional else 0.7):
                self._fill(message, field)
        for name, value in fields.items():
            field = getattr(message, name)
            field.CopyFrom(value) if isinstance(value, Message) else setattr(message, name, value)
        return message

    def _fill(self, message: Message, field: Any) -> None:
        many = field.is_repeated
        count = self.random.choice((0, 1, 1, 2, 3, 40)) if many else 1
        if field.message_type is not None:
            for _ in range(count):
                place = getattr(message, field.name)
                inner = place.add() if many else place
                inner.CopyFrom(self.message(type(inner)))
            return
        values = [self._value(field) for _ in range(count)]
        if many:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])

    def _value(self, field: Any) -> Any:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self.picture()
        if field.name == "gallery":
            # Few names, so that few galleries come to exist: every change checks all of them.
            return self.random.choice(
                ("", "", "", "default", "b", "银行", "a/b", "x" * 129, "\x00")
            )
        if field.type == FieldDescriptor.TYPE_STRING:
            return self.text(_POOLS.get(field.name, ""))
        if field.name == "min_revision":
            # The server would wait for a revision that never comes until the call's deadline.
            return self.random.choice((0, 0, -1, -(2**63)))
        if self.random.random() < 0.7:
            return self.random.choice(_ORDINARY.get(field.name, (0, 1, 2)))
        return self.random.choice(_EDGES[field.cpp_type])

    def wire(self, message: Message) -> bytes:
        """The serialized bytes of a message, corrupted three times out of ten."""
        data = message.SerializeToString()
        draw = self.random.random()
        if draw < 0.7:
            return data
        if draw < 0.8:
            return self.damaged(data or b"\n")
        if draw < 0.87:
            # A string that is not valid UTF-8, as any of the first fields.
            broken = self.random.choice((b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xb0\xa1\xc4"))
            return data + self._tagged(self.random.randint(1, 8), 2, broken)
        if draw < 0.95:
            number = self.random.choice((9, 15, 16, 2_047, 19_000, 2**29 - 1))
            return data + self._tagged(number, self.random.randrange(8), self.random.randbytes(9))
        if draw < 0.97:
            return b"\x12" * self.random.randrange(1, 400) + data
        return self.random.randbytes(self.random.choice((0, 1, 5, 60)))

    @staticmethod
    def _tagged(number: int, wire_type: int, payload: bytes) -> bytes:
        tag: bytes = _VarintBytes(number << 3 | wire_type)
        return tag + (_VarintBytes(len(payload)) if wire_type == 2 else b"") + payload


def shown(data: bytes) -> str:
    """Bytes in hexadecimal, for the message of a failed test, by which they can be reproduced."""
    return f"{len(data)} bytes, {data[:600].hex()}{'...' if len(data) > 600 else ''}"


def many_scans(scans: int, side_px: int) -> bytes:
    """A progressive JPEG whose last scan is repeated `scans` times."""
    buffer = io.BytesIO()
    Image.new("RGB", (side_px, side_px)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]
