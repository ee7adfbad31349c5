"""Baselines of the GPU check: the same tower in torch, and the GPU's peak matmul throughput.

FP16, scaled dot product attention, eager mode, no autograd: what one gets without tuning.
Imported only where torch is installed; it has not run on a GPU yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Siglip2VisionConfig, Siglip2VisionModel

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_patches": 256,
    "patch_size": 16,
}
"""The vision configuration of google/siglip2-so400m-patch16-naflex."""


def tower(checkpoint: Path | None, device: str, patches: int, batch: int) -> Callable[[], Any]:
    """Returns a function that runs torch's tower on a batch that is already on the device.

    Args:
        checkpoint: Folder of the weights; None: random ones of so400m's shape, equally fast.
        device: Device, `cpu` or `cuda`.
        patches: Patches of each picture.
        batch: Pictures in the batch.
    """
    dtype = torch.float16 if device == "cuda" else torch.float32
    if checkpoint is None:
        config = Siglip2VisionConfig(**SO400M, attn_implementation="sdpa")
        model = Siglip2VisionModel(config)
    else:
        model = Siglip2VisionModel.from_pretrained(checkpoint, attn_implementation="sdpa")
    model = model.to(device, dtype).eval()
    side = int(patches**0.5)
    inputs = {
        "pixel_values": torch.randn(
            batch, patches, 3 * model.config.patch_size**2, device=device, dtype=dtype
        ),
        "pixel_attention_mask": torch.ones(batch, patches, device=device, dtype=torch.int32),
        "spatial_shapes": torch.tensor([[side, side]] * batch, device=device),
    }

    def run() -> Any:
        with torch.inference_mode():
            pooled = model(**inputs).pooler_output
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
