"""The built-in encoder bundle as the server runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pagesight_server.arrays import Pixels
from pagesight_server.bundle import load
from pagesight_server.encoder import Encoder
from pagesight_server.runtime import Compute


@pytest.fixture(scope="module")
def encoder(bundles: Path) -> Encoder:
    return Encoder(load(bundles / "encoder", "encoder"), Compute())


def page(seed: int, *, width: int = 216, height: int = 480) -> Pixels:
    """Coloured blocks, the same ones at any size."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (8, 4, 3), dtype=np.uint8)
    rows = np.arange(height) * 8 // height
    columns = np.arange(width) * 4 // width
    return np.ascontiguousarray(blocks[rows][:, columns])


def test_embeddings_have_the_length_1_and_the_dimension_of_the_bundle(encoder: Encoder) -> None:
    embeddings = encoder.encode([page(1), page(2, width=100, height=100)])
    assert embeddings.shape == (2, 384)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_picture_has_the_same_embedding_alone_and_in_a_batch(encoder: Encoder) -> None:
    pages = [page(seed) for seed in range(3)]
    batch = encoder.encode(pages)
    for row, picture in enumerate(pages):
        np.testing.assert_allclose(encoder.encode([picture])[0], batch[row], atol=1e-4)


def test_the_same_page_at_another_size_is_nearer_than_another_page(encoder: Encoder) -> None:
    here, larger, other = encoder.encode([page(1), page(1, width=432, height=960), page(2)])
    assert here @ larger > 0.95
    assert here @ larger > here @ other


def test_odd_shapes_can_be_encoded(encoder: Encoder) -> None:
    shapes = [(16, 16), (16, 3000), (3000, 16)]
    pictures = [np.full((*shape, 3), 200, np.uint8) for shape in shapes]
    assert np.isfinite(encoder.encode(pictures)).all()
