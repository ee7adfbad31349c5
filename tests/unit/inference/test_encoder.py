"""The built-in encoder bundle as the server runs it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference.bundle import Tensors, load
from pagesight_server.inference.encoder import Encoder, padded
from pagesight_server.inference.settings import Compute


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
    assert embeddings.shape == (2, 1664)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)


def test_a_picture_has_the_same_embedding_alone_and_in_a_batch(encoder: Encoder) -> None:
    pages = [page(seed) for seed in range(3)]
    batch = encoder.encode(pages)
    for row, picture in enumerate(pages):
        np.testing.assert_allclose(encoder.encode([picture])[0], batch[row], atol=1e-4)


def test_pictures_prepared_in_other_threads_have_the_same_embeddings(encoder: Encoder) -> None:
    pages = [page(1), page(2, width=100, height=100), page(3, width=300)]
    with ThreadPoolExecutor(3) as threads:
        prepared = list(threads.map(encoder.prepare, pages))
    np.testing.assert_array_equal(encoder.run(prepared), encoder.encode(pages))


def test_the_same_page_at_another_size_is_nearer_than_another_page(encoder: Encoder) -> None:
    here, larger, other = encoder.encode([page(1), page(1, width=432, height=960), page(2)])
    assert here @ larger > 0.95
    assert here @ larger > here @ other


def test_odd_shapes_can_be_encoded(encoder: Encoder) -> None:
    shapes = [(16, 16), (16, 3000), (3000, 16)]
    pictures = [np.full((*shape, 3), 200, np.uint8) for shape in shapes]
    assert np.isfinite(encoder.encode(pictures)).all()


def test_a_batch_is_padded_to_a_size_that_was_run_before(bundles: Path) -> None:
    fixed = Encoder(load(bundles / "encoder", "encoder"), Compute(), sizes=(1, 2, 4))
    seen: list[int] = []
    plain_run = fixed._run

    def run(inputs: Tensors) -> Tensors:
        seen.append(len(inputs["pixels"]))
        return plain_run(inputs)

    fixed._run = run  # type: ignore[method-assign]
    pages = [page(seed) for seed in range(4)]
    for count in (1, 2, 3, 4):
        embeddings = fixed.encode(pages[:count])
        assert embeddings.shape == (count, 1664)
        alone = [fixed.encode([picture])[0] for picture in pages[:count]]
        np.testing.assert_allclose(embeddings, alone, atol=1e-4)
    assert [size for size in seen if size > 1] == [2, 4, 4]
    with pytest.raises(ValueError, match="5 pictures are more than the largest size"):
        fixed.encode([*pages, page(9)])


def test_padding_repeats_the_last_item() -> None:
    inputs = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([True, False])}
    made = padded(inputs, 4)
    assert made["a"].tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    assert made["b"].tolist() == [True, False, False, False]
    assert padded(inputs, 2) is inputs
