"""SigLIP 2 NaFlex: a vision tower as a graph that takes patches of any grid.

    patches uint8 ─ scale, mean, std ─ patch embedding ─┐
    shapes ─ row and column triangles ─ @ positions ────┴ + ─ layers ─ pooling ─ unit length
    mask ─── 0 or the least float, added to scores ──────────────┴────────┘

The model's own forward cannot be traced: it resizes the position embeddings in a loop over the
batch with an anti-aliased interpolation that has no ONNX operator. That interpolation is linear
and separable, so here each patch's row and column weights are computed from `shapes` in the
graph, and all pictures of a batch, whatever their grids, share one product with the position
table. The weights are PyTorch's (ATen `UpSampleKernel.cpp`, `_compute_indices_weights_aa`):
triangles of half-width `max(scale, 1)` around `(i + 0.5) * scale`, normalised.

In an FP16 graph positions, mask, softmax and the embedding's length stay FP32: an additive mask
overflows half floats, and half floats near 1 are 0.0005 apart.
"""

from __future__ import annotations

from typing import Any

import torch
from optimum.exporters.onnx.model_patcher import ModelPatcher
from transformers import AttentionInterface

AXES = {"patches": {0: "N", 1: "P"}, "mask": {0: "N", 1: "P"}, "shapes": {0: "N"}}
POSITIONS = "positions"
"""In the names of the nodes that make the position embeddings, so that INT8 leaves them alone."""
_ATTENTION = "pagesight"


class PixelScaling(torch.nn.Module):  # type: ignore[misc]  # torch is not installed for mypy
    """The processor's normalisation of pixels, `[..., patch_size * patch_size * 3]` uint8."""

    def __init__(self, patch_size: int, scale: float, mean: list[float], std: list[float]) -> None:
        """Repeat the channels' numbers for each pixel of a patch: channels are innermost."""
        super().__init__()
        self.scale = scale
        self.mean = torch.tensor(mean, dtype=torch.float32).repeat(patch_size * patch_size)
        self.std = torch.tensor(std, dtype=torch.float32).repeat(patch_size * patch_size)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Return the pixels in FP32, normalised as in the model's training."""
        return (patches.to(torch.float32) * self.scale - self.mean) / self.std


class Positions(torch.nn.Module):  # type: ignore[misc]  # as above
    """The position table, resized to each picture's own grid."""

    def __init__(self, table: torch.Tensor) -> None:
        """Keep the table, `[side * side, dimension]`, in FP32 whatever the model becomes."""
        super().__init__()
        self.table = table.detach().to(torch.float32).clone()
        self.side = int(table.shape[0] ** 0.5)

    def forward(self, shapes: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        """Return FP32 embeddings, `[N, count, dimension]`; those past a grid are any numbers.

        Args:
            shapes: Rows and columns of each picture's grid, int64 `[N, 2]`.
            count: Patches to a picture, padding included.
        """
        height, width = shapes.to(torch.float32).unsqueeze(1).unbind(2)
        index = torch.arange(count, device=shapes.device).to(torch.float32)
        # Half a patch keeps the quotient away from whole numbers, where rounding could tip it.
        row = torch.floor((index + 0.5) / width)
        column = index - row * width
        rows = self._triangles(torch.minimum(row, height - 1), height)
        columns = self._triangles(torch.minimum(column, width - 1), width)
        weights = (rows.unsqueeze(3) * columns.unsqueeze(2)).flatten(2)
        return torch.matmul(weights, self.table)

    def _triangles(self, at: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Weigh the table's rows, or columns, for each patch: `[N, count, side]`."""
        scale = self.side / cells
        centre = ((at + 0.5) * scale).unsqueeze(2)
        sources = torch.arange(self.side, dtype=torch.float32, device=at.device) + 0.5
        reach = self._reach(scale).unsqueeze(2)
        weights = torch.clamp(1 - torch.abs(sources - centre) / reach, min=0)
        return weights / weights.sum(2, keepdim=True)

    def _reach(self, scale: torch.Tensor) -> torch.Tensor:
        """Return the triangle's half-width: wider where the grid is coarser than the table."""
        return torch.clamp(scale, min=1)


class Tower(torch.nn.Module):  # type: ignore[misc]  # as above
    """A vision tower over the layers of a `Siglip2VisionModel`: patches in, embeddings out."""

    def __init__(self, vision: Any, scaling: PixelScaling) -> None:
        """Take the layers of `vision`, which is `Siglip2VisionModel.vision_model`."""
        super().__init__()
        self.scaling = scaling
        self.positions = Positions(vision.embeddings.position_embedding.weight)
        self.vision = vision
        self.config = vision.config

    def forward(
        self, patches: torch.Tensor, mask: torch.Tensor, shapes: torch.Tensor
    ) -> torch.Tensor:
        """Embed pictures; the tensors are those of the bundle format, the answer is FP32."""
        embed = self.vision.embeddings.patch_embedding
        tokens = embed(self.scaling(patches).to(embed.weight.dtype))
        tokens = tokens + self.positions(shapes, patches.shape[1]).to(tokens.dtype)
        bias = self.bias(mask)
        tokens = self.vision.encoder(tokens, bias).last_hidden_state
        pooled = _pool(self.vision.head, self.vision.post_layernorm(tokens), bias)
        return torch.nn.functional.normalize(pooled.to(torch.float32), dim=1)

    def bias(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the additive attention mask, FP32 `[N, 1, 1, P]`."""
        least = torch.finfo(torch.float32).min
        return (1 - mask.to(torch.float32)).unsqueeze(1).unsqueeze(1) * least


def _pool(head: Any, tokens: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Pool the tokens by the attention of the model's probe, as `nn.MultiheadAttention` does.

    That module takes no FP32 mask for FP16 scores, and its fast path cannot be traced.
    """
    linear = torch.nn.functional.linear
    size = tokens.shape[2]
    weight, offset = head.attention.in_proj_weight, head.attention.in_proj_bias
    parts = []
    for number, part in enumerate((head.probe, tokens, tokens)):
        rows = slice(number * size, (number + 1) * size)
        projected = linear(part, weight[rows], offset[rows])
        split = projected.unflatten(2, (head.num_heads, size // head.num_heads))
        parts.append(split.transpose(1, 2))
    scaling = (size // head.num_heads) ** -0.5
    query, key, value = parts
    attended, _ = _attend(head, query, key, value, bias, scaling=scaling)
    pooled = head.attention.out_proj(attended.flatten(2))
    return (pooled + head.mlp(head.layernorm(pooled)))[:, 0]


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    scaling: float,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention with FP32 scores; transformers calls it for each layer.

    The query is scaled before the product, not after: FP16 products stay within range.
    """
    del module
    scores = torch.matmul(query * scaling, key.transpose(2, 3)).to(torch.float32)
    shares = torch.softmax(scores + attention_mask, dim=-1).to(value.dtype)
    return torch.matmul(shares, value).transpose(1, 2), None


AttentionInterface.register(_ATTENTION, _attend)


class NaflexPatcher(ModelPatcher):  # type: ignore[misc]  # as above
    """Optimum's patcher that traces the layers with `_attend`, which takes an FP32 mask."""

    def __enter__(self) -> None:
        """Swap the attention."""
        super().__enter__()
        self._before = self._model.config._attn_implementation
        self._model.config._attn_implementation = _ATTENTION

    def __exit__(self, *error: object) -> None:
        """Put the model's own attention back."""
        self._model.config._attn_implementation = self._before
        super().__exit__(*error)
