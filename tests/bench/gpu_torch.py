"""Baselines of the GPU check: a tower of the same shape in torch, and the GPU's peak throughput.

FP16, scaled dot product attention, eager mode, no autograd: what one gets without tuning. Weights
are random, which are equally fast. Imported only where torch is installed; it has run on a CPU, and
not on a GPU yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

SO400M = {"hidden": 1152, "inner": 4304, "layers": 27, "heads": 16, "patch": 16}
"""The sizes of the vision tower of google/siglip2-so400m-patch16-naflex."""


def tower(
    device: str, patches: int, batch: int, sizes: dict[str, int] = SO400M
) -> Callable[[], Any]:
    """Returns a function that runs the tower on a batch that is already on the device.

    Args:
        device: Device, `cpu` or `cuda`.
        patches: Patches of each picture.
        batch: Pictures in the batch.
        sizes: The sizes of the tower, named as in `SO400M`.
    """
    dtype = torch.float16 if device == "cuda" else torch.float32
    hidden, inner, heads = sizes["hidden"], sizes["inner"], sizes["heads"]

    def weights(*shape: int) -> Any:
        return 0.02 * torch.randn(*shape, device=device, dtype=dtype)

    def linear(values: int, results: int) -> tuple[Any, Any]:
        return weights(results, values), weights(results)

    def layer() -> dict[str, tuple[Any, Any]]:
        return {
            "norm1": (1 + weights(hidden), weights(hidden)),
            "queries_keys_values": linear(hidden, 3 * hidden),
            "out": linear(hidden, hidden),
            "norm2": (1 + weights(hidden), weights(hidden)),
            "wide": linear(hidden, inner),
            "narrow": linear(inner, hidden),
        }

    embed = linear(3 * sizes["patch"] ** 2, hidden)
    positions = weights(patches, hidden)
    layers = [layer() for _ in range(sizes["layers"])]
    norm = layer()["norm1"]
    pixels = torch.randn(batch, patches, 3 * sizes["patch"] ** 2, device=device, dtype=dtype)
    # The real model has a mask of padded patches, which decides the kernel of attention.
    mask = torch.zeros(batch, 1, patches, patches, device=device, dtype=dtype)

    def attended(x: Any, one: dict[str, tuple[Any, Any]]) -> Any:
        split = functional.linear(x, *one["queries_keys_values"])
        q, k, v = split.view(batch, patches, 3, heads, hidden // heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        joined = mixed.transpose(1, 2).reshape(batch, patches, hidden)
        return functional.linear(joined, *one["out"])

    def run() -> Any:
        with torch.inference_mode():
            x = functional.linear(pixels, *embed) + positions
            for one in layers:
                x = x + attended(functional.layer_norm(x, (hidden,), *one["norm1"]), one)
                wide = functional.layer_norm(x, (hidden,), *one["norm2"])
                wide = functional.gelu(functional.linear(wide, *one["wide"]), approximate="tanh")
                x = x + functional.linear(wide, *one["narrow"])
            pooled = functional.layer_norm(x, (hidden,), *norm).mean(dim=1)
            # Copied to the host, as ours is; this also waits for the GPU to finish.
            return pooled.float().cpu()

    return run


def matmul_flops(device: str, size: int = 8192, runs: int = 20) -> float:
    """Measures the FLOP/s of products of square FP16 matrices."""
    dtype = torch.float16 if device == "cuda" else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        a @ b
    wait()
    start_s = time.perf_counter()
    for _ in range(runs):
        a @ b
    wait()
    return float(2 * size**3 * runs / (time.perf_counter() - start_s))
