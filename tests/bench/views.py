"""Embeddings of real screenshots, in number: each is seen many times, as another phone shows it.

    screenshot ──> itself
              └──> a window of it, other brightness, other compression ──encoder──> embeddings

A view shows 70 to 100 % of the height and 90 to 100 % of the width, from a random place, with
80 to 120 % of the brightness, as JPEG of quality 50 to 95. So the vectors are an encoder's and not
drawn, and lie as closely together as the pictures of one page do.
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
"""Pictures that are seen at the same time."""


def view(data: bytes, chance: random.Random) -> bytes:
    """Another view of a picture."""
    with Image.open(io.BytesIO(data)) as opened:
        pixels = opened.convert("RGB")
    width, height = pixels.size
    wide, high = int(width * chance.uniform(0.9, 1)), int(height * chance.uniform(0.7, 1))
    left, top = chance.randint(0, width - wide), chance.randint(0, height - high)
    seen = pixels.crop((left, top, left + wide, top + high))
    seen = ImageEnhance.Brightness(seen).enhance(chance.uniform(0.8, 1.2))
    file = io.BytesIO()
    seen.save(file, "JPEG", quality=chance.randint(50, 95))
    return file.getvalue()


def embeddings(screens: Path, bundles: Path, views: int, kept: Path) -> NDArray[np.float32]:
    """What the encoder sees: shape (pictures, views, dimension).

    Args:
        screens: A folder with pictures, however deep.
        bundles: Holds `encoder` and `ocr`.
        views: Of each picture, itself included.
        kept: A folder for what was seen, a file for each view: what is there is not seen again.
    """
    files = sorted(p for p in screens.rglob("*") if p.suffix in {".jpg", ".png", ".webp"})
    if not files:
        raise SystemExit(f"no .jpg, .png or .webp below {screens}")
    kept.mkdir(parents=True, exist_ok=True)
    seen = []
    for number in range(views):
        file = kept / f"view-{number:03d}.npy"
        if not file.is_file():
            np.save(file, asyncio.run(_see(files, number, bundles)))
        seen.append(np.load(file))
    if any(len(view) != len(files) for view in seen):
        raise SystemExit(f"{kept} is of other pictures than {screens}: remove it")
    return np.stack(seen, axis=1)


async def _see(files: Sequence[Path], number: int, bundles: Path) -> NDArray[np.float32]:
    config = read_config(None, {"bundles": bundles})
    nothing: dict[str, Knowledge] = {}
    places = asyncio.Semaphore(AT_ONCE)

    def shown(path: Path) -> bytes:
        data = read_file(path, config.image)
        return view(data, random.Random(f"{path.name} {number}")) if number else data

    async with wiring.models(config) as models:
        pipeline = models.pipeline(nothing.__getitem__)

        async def one(path: Path) -> Embedding:
            async with places:
                data = await asyncio.to_thread(shown, path)
                return (await pipeline.extract_features(data, ocr=False)).embedding

        return np.stack(await asyncio.gather(*map(one, files)))
