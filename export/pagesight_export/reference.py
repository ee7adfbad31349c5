"""Comparison of a bundle with reference embeddings, made elsewhere with the same checkpoint.

    DIR/<name>.png + DIR/<name>.npy, or DIR/images/<name>.png + DIR/embeddings/<name>.npy
      ─> the bundle's own preprocessing and graph ─> cosine of each pair

For those who have the weights: `Findit-AI/siglip2-naflex` publishes twelve pictures with what
the base NaFlex checkpoint answers, in the second layout (`tests/fixtures`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pagesight_export import feeds
from pagesight_export.bundle import read_manifest
from pagesight_export.errors import BundleError, ExportError
from pagesight_export.parity import LIMITS
from pagesight_export.runtime import Graph

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCheck:
    """The comparison of one picture's embedding with its reference."""

    name: str
    cosine: float
    needed: float

    @property
    def ok(self) -> bool:
        """Whether the bundle gives the reference's embedding."""
        return self.cosine >= self.needed


def compare(bundle: Path, folder: Path) -> list[ReferenceCheck]:
    """Embed each reference picture with a bundle and compare.

    Raises:
        ExportError: the folder holds no pairs, or one of them cannot be read.
        BundleError: the bundle is no encoder, or its embeddings are of another length.
    """
    manifest = read_manifest(bundle)
    if manifest.kind != "encoder":
        raise BundleError(f"{bundle} is of kind {manifest.kind}: --reference checks encoders")
    graph = Graph(bundle / "model.onnx")
    checks = []
    for picture, expected in _pairs(folder):
        if expected.shape != (manifest.embedding_dim,):
            raise BundleError(
                f"{picture.stem}.npy holds {expected.shape}, {bundle} gives"
                f" ({manifest.embedding_dim},): they are of different checkpoints"
            )
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
        inputs = feeds.prepare(manifest.input, manifest.preprocessing, [pixels])
        embedding = graph.run(inputs)["embedding"][0].astype(np.float64)
        cosine = float(
            embedding @ expected / (np.linalg.norm(embedding) * np.linalg.norm(expected))
        )
        limit = LIMITS[manifest.dtype].cosine_min
        checks.append(ReferenceCheck(name=picture.name, cosine=cosine, needed=limit))
    return checks


def _pairs(folder: Path) -> Iterator[tuple[Path, NDArray[np.float64]]]:
    flat = not (folder / "images").is_dir()
    images, embeddings = (folder, folder) if flat else (folder / "images", folder / "embeddings")
    if not images.is_dir():
        raise ExportError(f"{folder} is no folder: --reference takes pictures with .npy files")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ExportError(f"{images} holds no {' '.join(SUFFIXES)} pictures")
    for picture in paths:
        path = embeddings / f"{picture.stem}.npy"
        try:
            expected = np.load(path, allow_pickle=False).astype(np.float64).squeeze()
        except (OSError, ValueError) as error:
            raise ExportError(f"{path} cannot be read: {error}") from error
        yield picture, expected
