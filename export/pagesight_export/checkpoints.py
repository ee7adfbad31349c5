"""Loading a checkpoint from a folder or the hub: its tower and its processor's parameters.

--model ─ config: is it SigLIP 2 NaFlex? ─ weights: are all there? ─┐
                                                                    ├─> TorchEncoder
        └ processor: resize, scale, mean, std ──────────────────────┘
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PretrainedConfig, Siglip2ImageProcessor, Siglip2VisionModel
from transformers.utils import logging as transformers_logging

from pagesight_export.errors import SourceError
from pagesight_export.siglip2 import AXES, POSITIONS, NaflexPatcher, PixelScaling, Tower
from pagesight_export.torch_encoder import TorchEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from pagesight_export.golden import Picture

MODEL_TYPES = ("siglip2", "siglip2_vision_model")
"""In `config.json`: the whole model, or its vision tower alone."""
INTERPOLATIONS = {1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of its resampling filters, as a processor's configuration holds them."""
_IDENTIFYING = ("config.json", "preprocessor_config.json")


def siglip2(model: str, *, max_num_patches: int | None) -> TorchEncoder:
    """Load a SigLIP 2 NaFlex checkpoint's vision tower.

    Args:
        model: A folder as `save_pretrained` writes it, or a model's id on the hub.
        max_num_patches: Patches to a picture; the processor's own number when None.

    Raises:
        SourceError: nothing can be loaded from there, or it is no whole SigLIP 2 NaFlex tower.
    """
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = _config(model)
    processor = _processor(model)
    limit = max_num_patches or int(processor.max_num_patches)
    vision = _vision(model)
    patch_size = int(vision.config.patch_size)
    if patch_size != processor.patch_size:
        raise SourceError(
            f"{model}: the processor cuts patches of {processor.patch_size} pixels and the model"
            f" takes {patch_size}: repair preprocessor_config.json"
        )
    scaling = PixelScaling(
        patch_size, processor.rescale_factor, processor.image_mean, processor.image_std
    )
    return TorchEncoder(
        name=_name(model),
        source=_source(model, config),
        input={
            "geometry": "naflex",
            "patch_size": patch_size,
            "max_num_patches": limit,
            "layout": "patches",
            "dtype": "uint8",
            "channels": "RGB",
        },
        preprocessing={
            "resize": {"library": "pillow", "interpolation": INTERPOLATIONS[processor.resample]}
        },
        dimension=int(vision.config.hidden_size),
        model=Tower(vision.vision_model, scaling).eval(),
        example=_example(patch_size),
        axes=AXES,
        embed=_Source(vision, processor, limit),
        patcher=NaflexPatcher,
        keep_fp32=(POSITIONS,),
    )


class _Source:
    """The checkpoint as transformers runs it: processor, model, pooled output."""

    def __init__(self, vision: Any, processor: Any, limit: int) -> None:
        self.vision, self.processor, self.limit = vision, processor, limit

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        features = self.processor(
            images=list(pictures),
            max_num_patches=self.limit,
            input_data_format="channels_last",
            return_tensors="pt",
        )
        with torch.inference_mode():
            pooled = self.vision(**features).pooler_output
            unit = torch.nn.functional.normalize(pooled.to(torch.float32), dim=1)
        embeddings: NDArray[np.float32] = unit.numpy()
        return embeddings


def _config(model: str) -> dict[str, Any]:
    try:
        config, _ = PretrainedConfig.get_config_dict(model)
    except (OSError, ValueError) as error:
        raise _unreachable(model, error) from error
    kind = config.get("model_type")
    if kind not in MODEL_TYPES:
        raise SourceError(
            f"{model} is of type {kind!r}: --model takes SigLIP 2 NaFlex checkpoints"
            f" ({' or '.join(MODEL_TYPES)}); docs/bundles.md says how others enter"
        )
    return dict(config)


def _vision(model: str) -> Any:
    try:
        vision, report = Siglip2VisionModel.from_pretrained(
            model, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreachable(model, error) from error
    missing = [*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])]
    if missing:
        raise SourceError(
            f"{model} lacks {len(missing)} weights of the vision tower, {missing[0]} first:"
            " they would be random; get the whole checkpoint"
        )
    if not vision.vision_model.use_head:
        raise SourceError(f"{model} has no pooling head, so no embedding: take another checkpoint")
    return vision.eval().requires_grad_(False)


def _processor(model: str) -> Any:
    try:
        processor = Siglip2ImageProcessor.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise _unreachable(model, error) from error
    if not (processor.do_resize and processor.do_rescale and processor.do_normalize):
        raise SourceError(f"{model}: its processor must resize, rescale and normalise")
    if processor.resample not in INTERPOLATIONS:
        raise SourceError(f"{model}: resampling filter {processor.resample} is none of the format")
    return processor


def _unreachable(model: str, error: Exception) -> SourceError:
    reason = " ".join(str(error).split())[:200]
    if Path(model).exists():
        return SourceError(f"{model} is no complete checkpoint folder: {reason}")
    return SourceError(
        f"cannot get {model}: it is no folder here, and the hub did not give it ({reason});"
        " download the checkpoint and pass its folder"
    )


def _name(model: str) -> str:
    last = Path(model).resolve().name if Path(model).exists() else model.rpartition("/")[2]
    return last.replace("@", "-").replace(" ", "-")


def _source(model: str, config: dict[str, Any]) -> dict[str, str]:
    """Name the hub's commit, or for a folder hash what decides an embedding."""
    folder = Path(model)
    if not folder.is_dir():
        return {"checkpoint": model, "revision": str(config.get("_commit_hash"))}
    digest = hashlib.sha256()
    weights = sorted(path for kind in ("*.safetensors", "*.bin") for path in folder.glob(kind))
    for path in (*(folder / name for name in _IDENTIFYING), *weights):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return {"checkpoint": _name(model), "revision": digest.hexdigest()}


def _example(patch_size: int) -> dict[str, torch.Tensor]:
    """Make two pictures of different grids and an odd number of patches: no size is special."""
    shapes = torch.tensor([[2, 5], [3, 4]])
    return {
        "patches": torch.zeros(2, 13, patch_size * patch_size * 3, dtype=torch.uint8),
        "mask": torch.arange(13)[None] < shapes.prod(1, keepdim=True),
        "shapes": shapes,
    }
