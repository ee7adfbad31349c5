"""A SigLIP 2 NaFlex checkpoint small enough to make in a test: random weights, real classes.

Random weights as they are initialised make all pictures embed alike, and then no cosine proves
anything; so the weights that tell pictures and positions apart are enlarged until the parity
pictures spread (median cosine of two below 0.9; `Parity.spread`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2TextConfig,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)

PATCHES = 64
"""The processor's `max_num_patches`; the position table is 8 x 8."""
SMALL: dict[str, int] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_patches": 64,
    "patch_size": 16,
}


def enlarge(vision: Any, *, patches: float = 4, positions: float = 4, attention: float = 3) -> None:
    """Multiply the weights that pictures, positions and attention depend on."""
    with torch.no_grad():
        vision.embeddings.patch_embedding.weight.mul_(patches)
        vision.embeddings.position_embedding.weight.mul_(positions)
        for layer in vision.encoder.layers:
            layer.self_attn.q_proj.weight.mul_(attention)
            layer.self_attn.k_proj.weight.mul_(attention)
        size = vision.config.hidden_size
        vision.head.attention.in_proj_weight[: 2 * size].mul_(attention)


def vision_checkpoint(folder: Path, **gains: float) -> Path:
    """Save a vision tower and its processor; the weights are the same every time."""
    torch.manual_seed(0)
    model = Siglip2VisionModel(Siglip2VisionConfig(**SMALL)).eval()
    enlarge(model.vision_model, **gains)
    model.save_pretrained(folder)
    Siglip2ImageProcessor(max_num_patches=PATCHES).save_pretrained(folder)
    return folder


def whole_checkpoint(folder: Path, vision: Path) -> Path:
    """Save a model with a text tower too, as the published ones are, around the same vision."""
    text = Siglip2TextConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=32,
    )
    model = Siglip2Model(Siglip2Config(text_config=text.to_dict(), vision_config=dict(SMALL)))
    tower = Siglip2VisionModel.from_pretrained(vision)
    model.vision_model.load_state_dict(tower.vision_model.state_dict())
    model.save_pretrained(folder)
    Siglip2ImageProcessor(max_num_patches=PATCHES).save_pretrained(folder)
    return folder
