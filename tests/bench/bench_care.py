"""Recall of the gallery diagnostics: planted label errors, nearest pairs, copies of pictures.

    S ──some labels changed──> diagnose ──> how many of them are suspected, at which ranks
      ──all pairs──> cosine and text ratio of the nearest, to place the limits of near duplicates

.venv/bin/python -m tests.bench.bench_care S [--copies DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image
from rapidfuzz import fuzz

from pagesight_server import wiring
from pagesight_server.config import read_config
from pagesight_server.curation.diagnostics import SAME_LOOK, SAME_TEXT, diagnose, page_text
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.knowledge import Knowledge

COPIES = ((1.0, 60), (0.6, 80))
"""Scale and JPEG quality of each copy."""


def main() -> None:
    """Runs all measurements on a store and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("store", type=Path)
    parser.add_argument("--copies", type=Path, help="Pictures to copy: DIR/<label>/*.")
    options = parser.parse_args()
    store = Gallery(options.store)
    snapshot = store.snapshot()
    store.close()
    for seed in range(3):
        print(_planted(snapshot, seed))
    for line in _pairs(snapshot)[:8]:
        print(line)
    if options.copies is not None:
        files = sorted(f for f in options.copies.glob("*/*") if f.suffix != ".toml")
        asyncio.run(_copies([file.read_bytes() for file in files[::11][:8]]))


def _planted(snapshot: Snapshot, seed: int) -> str:
    """Changes some labels at random, and reports how many of them are suspected."""
    rng = random.Random(seed)
    pictures = list(snapshot.pictures)
    true = {p.image_id: p.label for p in pictures}
    changed = rng.sample(range(len(pictures)), max(3, len(pictures) // 15))
    for row in changed:
        others = [label for label in snapshot.labels if label != pictures[row].label]
        pictures[row] = replace(pictures[row], label=rng.choice(others))
    order = sorted(range(len(pictures)), key=lambda i: (pictures[i].label, pictures[i].image_id))
    wrong = replace(
        snapshot,
        pictures=tuple(pictures[i] for i in order),
        embeddings=snapshot.embeddings[order],
    )
    ids = {snapshot.pictures[row].image_id for row in changed}
    suspects = diagnose(Knowledge.of(wrong)).suspects
    detected = [suspect for suspect in suspects if suspect.picture.image_id in ids]
    right = sum(s.suggested.label == true[s.picture.image_id] for s in detected)
    ranks = "".join("X" if s.picture.image_id in ids else "." for s in suspects)
    return (
        f"seed {seed}: {len(changed)} of {len(pictures)} changed, {len(detected)} found, "
        f"{right} with the right label, {len(suspects) - len(detected)} others  {ranks}"
    )


def _pairs(snapshot: Snapshot) -> list[str]:
    """The pairs of pictures that come nearest to being near duplicates, the nearest first."""
    lengths = np.linalg.norm(snapshot.embeddings[:], axis=1, keepdims=True)
    cosines = (snapshot.embeddings / lengths) @ (snapshot.embeddings / lengths).T
    texts = [page_text(p.reading) if p.reading else "" for p in snapshot.pictures]
    names = [p.source for p in snapshot.pictures]
    pairs = [
        (float(cosines[i, j]), fuzz.ratio(texts[i], texts[j]) / 100, names[i], names[j])
        for i, j in combinations(range(len(names)), 2)
        if cosines[i, j] >= SAME_LOOK
    ]
    # By the lesser of the two similarities, as both must reach their limits.
    pairs.sort(key=lambda pair: -min(pair[0], pair[1]))
    return [f"cosine {c:.4f} text {t:.3f}  {a}  {b}" for c, t, a, b in pairs]


async def _copies(pictures: Sequence[bytes]) -> None:
    """Prints the similarity of each picture to copies of it, and how many are near duplicates."""
    detected = total = 0
    async with wiring.models(read_config(None, {})) as models:
        pipeline = models.pipeline(_no_gallery)
        for data in pictures:
            original = await pipeline.extract_features(data)
            for scale, quality in COPIES:
                copy = await pipeline.extract_features(_copy(data, scale, quality))
                assert original.reading is not None
                assert copy.reading is not None
                cosine = float(original.embedding @ copy.embedding)
                text = fuzz.ratio(page_text(original.reading), page_text(copy.reading)) / 100
                total += 1
                detected += cosine >= SAME_LOOK and text >= SAME_TEXT
                print(f"copy x{scale} JPEG {quality}: cosine {cosine:.4f} text {text:.3f}")
    print(f"{detected} of {total} copies found")


def _no_gallery(name: str) -> Knowledge:
    raise AssertionError(f"no query is made of {name}")


def _copy(data: bytes, scale: float, quality: int) -> bytes:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    size = (int(picture.width * scale), int(picture.height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
