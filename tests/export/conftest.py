"""What all checkpoint tests share, made once: it takes some seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from pagesight_export import checkpoints, encoders
from pagesight_export.encoders import Reference
from pagesight_export.torch_encoder import TorchEncoder
from tests.export import models


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.vision_checkpoint(tmp_path_factory.mktemp("checkpoints") / "small-naflex")


@pytest.fixture(scope="session")
def source(checkpoint: Path) -> TorchEncoder:
    """The checkpoint, loaded; not to be halved or changed."""
    return checkpoints.siglip2(str(checkpoint), max_num_patches=None)


@pytest.fixture(scope="session")
def reference(source: TorchEncoder) -> Reference:
    return encoders.refer(source, lambda step: None)
