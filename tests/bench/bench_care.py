"""What gallery care finds: labels changed at random, pairs that are nearest, copies of pictures.

S ──some labels changed──> diagnose ──> how many of them are suspects, and in which places
  ──all pairs──> cosine and text ratio: where near duplicates end

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
"""Scale and JPEG quality."""


def main() -> None:
    """Prints what is found."""
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
    found = [suspect for suspect in suspects if suspect.picture.image_id in ids]
    right = sum(s.suggested.label == true[s.picture.image_id] for s in found)
    places = "".join("X" if s.picture.image_id in ids else "." for s in suspects)
    return (
        f"seed {seed}: {len(changed)} of {len(pictures)} changed, {len(found)} found, "
        f"{right} with the right label, {len(suspects) - len(found)} others  {places}"
    )


def _pairs(snapshot: Snapshot) -> list[str]:
    lengths = np.linalg.norm(snapshot.embeddings[:], axis=1, keepdims=True)
    cosines = (snapshot.embeddings / lengths) @ (snapshot.embeddings / lengths).T
    texts = [page_text(p.reading) for p in snapshot.pictures]
    names = [p.source for p in snapshot.pictures]
    found = [
        (float(cosines[i, j]), fuzz.ratio(texts[i], texts[j]) / 100, names[i], names[j])
        for i, j in combinations(range(len(names)), 2)
        if cosines[i, j] >= SAME_LOOK
    ]
    # By the lesser of the two: what comes nearest to both limits.
    found.sort(key=lambda pair: -min(pair[0], pair[1]))
    return [f"cosine {c:.4f} text {t:.3f}  {a}  {b}" for c, t, a, b in found]


async def _copies(pictures: Sequence[bytes]) -> None:
    found = total = 0
    async with wiring.models(read_config(None, {})) as models:
        pipeline = models.pipeline(_nothing)
        for data in pictures:
            mine = await pipeline.extract_features(data)
            for scale, quality in COPIES:
                theirs = await pipeline.extract_features(_copy(data, scale, quality))
                assert mine.reading is not None
                assert theirs.reading is not None
                cosine = float(mine.embedding @ theirs.embedding)
                text = fuzz.ratio(page_text(mine.reading), page_text(theirs.reading)) / 100
                total += 1
                found += cosine >= SAME_LOOK and text >= SAME_TEXT
                print(f"copy x{scale} JPEG {quality}: cosine {cosine:.4f} text {text:.3f}")
    print(f"{found} of {total} copies found")


def _nothing(name: str) -> Knowledge:
    raise AssertionError(f"no query is made of {name}")


def _copy(data: bytes, scale: float, quality: int) -> bytes:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    size = (int(picture.width * scale), int(picture.height * scale))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
