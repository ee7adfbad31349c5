"""Reading of a checkpoint that `torch.save` wrote before PyTorch 1.6, without torch.

    magic | protocol | system | {name: tensor} | [storage key]   five pickles, one after the other
    count, values | count, values | ...                          a storage for each key, in order

A pickle is a program, so none runs here but one of a few instructions, and what that may call is
a tensor's description and an ordered dictionary. A tensor is a window on a storage with strides
of its own, which need not be contiguous: weights that were transposed keep their old order.
Nothing is allocated on the word of the file: a storage is a view of bytes that are there, and a
tensor has no more values than its storage.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pagesight_export.errors import SourceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Weights: TypeAlias = dict[str, NDArray[np.float32] | NDArray[np.int64]]
    """Name -> values, in the shape that the network has them in."""

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
"""Both of `torch/serialization.py`, where they are the first two pickles of the format."""
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_INSTRUCTIONS = {
    "PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE",
    "BUILD", "BINPERSID", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT",
    "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS", "NONE", "NEWTRUE", "NEWFALSE",
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE",
}  # fmt: skip
"""What the pickles of such a file consist of. Each allocates about as much as it is long, but for
`LONG_BINPUT`, which makes room for as many values as it says."""


class _Mapping(dict[str, Any]):
    """An `OrderedDict` that forgets the attributes which PyTorch gives to one."""

    def __setstate__(self, state: object) -> None:
        """Take what `BUILD` sets, the versions of modules, and keep none of it."""


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The arguments of `torch._utils._rebuild_tensor_v2`; the last two are of use in training."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool
    backward_hooks: object


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows tensors of float32 and int64, and ordered dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function: nothing that `BUILD` could change."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if (module, name) == ("collections", "OrderedDict"):
            return _Mapping
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the description of a storage; its values come after the pickles."""
        kind, dtype, key, _device, count = pid[:5]
        if kind != "storage" or dtype not in _DTYPES.values() or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("it refers to something other than a storage of numbers")
        return _Storage(key, np.dtype(dtype), count)


def read(data: bytes, name: str) -> Weights:
    """Read the tensors of a state dictionary.

    Args:
        data: The whole file.
        name: The file's name, for messages.

    Returns:
        A copy of each tensor, contiguous, float32 or int64, in the order of the file.

    Raises:
        SourceError: the file is damaged, of another format, or holds anything but such tensors.
    """
    try:
        return _read(data)
    except SourceError as error:
        raise SourceError(f"{name} cannot be read, {error}: reinstall its package") from None
    # Of a damaged pickle the standard library promises no more than `Exception`.
    except Exception as error:
        raise SourceError(f"{name} cannot be read ({error}): reinstall its package") from error


def _read(data: bytes) -> Weights:
    pickles = []
    start = 0
    for _ in range(5):
        end = _end_of_pickle(data, start)
        pickles.append(_Unpickler(io.BytesIO(data[start:end])).load())
        start = end
    magic, protocol, system, state, keys = pickles
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise SourceError("as it is no checkpoint in PyTorch's old format")
    if not system["little_endian"]:
        raise SourceError("as it was written on a big-endian machine")
    if type(state) is not _Mapping or not all(type(t) is _Tensor for t in state.values()):
        raise SourceError("as it holds more than a dictionary of tensors")
    storages = _storages(data, start, keys, {t.storage.key: t.storage for t in state.values()})
    return {str(name): _window(storages[t.storage.key], t) for name, t in state.items()}


def _end_of_pickle(data: bytes, start: int) -> int:
    """Return the end of the pickle at `start`, whose instructions are all known.

    The standard unpickler allocates what some instructions ask for before it reads; this looks at
    each first, and reads no more than there is.
    """
    stream = io.BytesIO(data)
    stream.seek(start)
    for instruction, argument, position in pickletools.genops(stream):
        if instruction.name not in _INSTRUCTIONS:
            raise SourceError(f"as it asks for {instruction.name}")
        # Places in the memo are numbered from 0 and each takes an instruction to fill.
        if instruction.name == "LONG_BINPUT" and int(argument or 0) > (position or 0) - start:
            raise SourceError("as it asks for more memory than it has bytes")
    return stream.tell()


def _storages(
    data: bytes, start: int, keys: list[str], described: dict[str, _Storage]
) -> dict[str, NDArray[Any]]:
    """Return a view of the values of each storage."""
    views: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = described[key]
        count = int.from_bytes(data[start : start + 8], "little")
        start += 8
        end = start + count * storage.dtype.itemsize
        if count != storage.count or end > len(data):
            raise SourceError(f"as storage {key} is not of {storage.count} values")
        views[key] = np.frombuffer(data, storage.dtype, count, start)
        start = end
    if start != len(data) or views.keys() != described.keys():
        raise SourceError("as its storages are not those of its tensors")
    return views


def _window(values: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Copy a tensor out of its storage."""
    numbers = (tensor.offset, *tensor.size, *tensor.stride)
    if len(tensor.size) != len(tensor.stride) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise SourceError(f"as a tensor has size {tensor.size} and stride {tensor.stride}")
    last = sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    count = math.prod(tensor.size)
    if count == 0 or count > values.size or tensor.offset + last >= values.size:
        raise SourceError(f"as a tensor of size {tensor.size} does not lie within its storage")
    window = np.lib.stride_tricks.as_strided(
        values[tensor.offset :],
        shape=tensor.size,
        strides=[step * values.itemsize for step in tensor.stride],
        writeable=False,
    )
    return window.copy(order="C")
