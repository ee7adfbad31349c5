"""The CUDA runtime's four functions, with a library that has no GPU behind it."""

from __future__ import annotations

import ctypes
import gc
from typing import Any

import numpy as np
import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.inference.cuda import Cuda, load
from tests.support.cuda import FakeLibrary


def test_the_free_memory_is_what_the_driver_says() -> None:
    assert Cuda(FakeLibrary()).free_bytes() == 3_000_000_000


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 3), np.float32), ((4, 1, 5), np.uint8), ((7,), np.bool_), ((), np.int64), ((0, 3), "f2")],
)
def test_pinned_memory_is_an_array_like_any_other(shape: tuple[int, ...], dtype: Any) -> None:
    array = Cuda(FakeLibrary()).pinned(shape, dtype)
    assert (array.shape, array.dtype) == (shape, np.dtype(dtype))
    array[...] = 1
    assert (array == 1).all()


def test_pinned_memory_is_freed_with_its_last_view() -> None:
    library = FakeLibrary()
    view = Cuda(library).pinned((4, 4), np.float32)[1:, ::2]
    gc.collect()
    assert len(library.held) == 1
    del view
    gc.collect()
    assert library.held == {}


def test_what_cuda_refuses_is_told_with_its_number() -> None:
    # 2 is cudaErrorMemoryAllocation, 100 is cudaErrorNoDevice.
    with pytest.raises(SetupError, match=r"CUDA error 100: .*nvidia-smi"):
        Cuda(FakeLibrary(error=100)).free_bytes()
    with pytest.raises(SetupError, match="CUDA error 2:"):
        Cuda(FakeLibrary(error=2)).pinned((1,), np.uint8)


def test_a_machine_without_cuda_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(SetupError, match=r"libcudart\.so\.12.*extra `gpu`"):
        load()
