"""Embeddings of augmented views of real screenshots, as many as an index benchmark needs.

    screenshot ──> itself
              └──> random crop, brightness and compression ──encoder──> embeddings

A view is a crop of 70 to 100 % of the height and 90 to 100 % of the width at a random place, with
80 to 120 % of the brightness, as JPEG of quality 50 to 95. So the vectors come from a real encoder,
and are clustered as the pictures of pages are.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from pagesight_server import wiring
from pagesight_server.common.arrays import Embedding
from pagesight_server.config import read_config
from pagesight_server.inference.decode import read_file
from pagesight_server.recognition.knowledge import Knowledge

AT_ONCE = 4
"""Pictures that are encoded concurrently: enough for a batch while others are decoded."""


def view(data: bytes, rng: random.Random) -> bytes:
    """Returns a random view of an encoded picture, as JPEG."""
    with Image.open(io.BytesIO(data)) as opened:
        pixels = opened.convert("RGB")
    width, height = pixels.size
    wide, high = int(width * rng.uniform(0.9, 1)), int(height * rng.uniform(0.7, 1))
    left, top = rng.randint(0, width - wide), rng.randint(0, height - high)
    crop = pixels.crop((left, top, left + wide, top + high))
    crop = ImageEnhance.Brightness(crop).enhance(rng.uniform(0.8, 1.2))
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=rng.randint(50, 95))
    return file.getvalue()


def embeddings(screens: Path, bundles: Path, views: int, cache: Path) -> NDArray[np.float32]:
    """Returns the embeddings of all views, shape (pictures, views, dimension).

    Args:
        screens: A folder of pictures; its subfolders count, too.
        bundles: Folder of the model bundles.
        views: Number of views of each picture, itself included.
        cache: A folder in which the embeddings are kept, a file for each view.
    """
    files = sorted(p for p in screens.rglob("*") if p.suffix in {".jpg", ".png", ".webp"})
    if not files:
        raise SystemExit(f"no .jpg, .png or .webp below {screens}")
    cache.mkdir(parents=True, exist_ok=True)
    vectors = []
    for number in range(views):
        file = cache / f"view-{number:03d}.npy"
        if not file.is_file():
            np.save(file, asyncio.run(_encode(files, number, bundles)))
        vectors.append(np.load(file))
    if any(len(of_view) != len(files) for of_view in vectors):
        raise SystemExit(f"{cache} is of other pictures than {screens}: remove it")
    return np.stack(vectors, axis=1)


async def _encode(files: Sequence[Path], number: int, bundles: Path) -> NDArray[np.float32]:
    """Embeds one view of each picture; number 0 is the picture itself."""
    config = read_config(None, {"bundles": bundles})
    no_galleries: dict[str, Knowledge] = {}
    slots = asyncio.Semaphore(AT_ONCE)

    def load(path: Path) -> bytes:
        data = read_file(path, config.image)
        return view(data, random.Random(f"{path.name} {number}")) if number else data

    async with wiring.models(config) as models:
        pipeline = models.pipeline(no_galleries.__getitem__)

        async def embed(path: Path) -> Embedding:
            async with slots:
                data = await asyncio.to_thread(load, path)
                return (await pipeline.extract_features(data, ocr=False)).embedding

        return np.stack(await asyncio.gather(*map(embed, files)))
