"""What an encoder finds by looks alone and what it costs, bundle against bundle.

    SCREENS/gallery/<label>/* ─> embeddings ─> whitening ┐
    SCREENS/test/<label>/*    ─> embeddings ─────────────┴─> cosines ─> top-1, AUROC
    a drawn page of 720 x 1600, bundles in turns ─> resize, graph, one thread ─> CPU-ms

No text is read and no threshold placed. A picture of `test` is given the label of the gallery's
picture that looks most like it (`Whitening.cosines`, what the server ranks by); the AUROC is of
that cosine, pictures of the gallery's labels against those of folders that begin with `other`.

Run: .venv/bin/python -m tests.bench.bench_encoder BUNDLE BUNDLE --screens DIR [--screens DIR]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pagesight_export import golden
from pagesight_server.common.arrays import Embeddings
from pagesight_server.evaluation.metrics import auroc
from pagesight_server.index.cosines import Hits
from pagesight_server.inference.bundle import load
from pagesight_server.inference.decode import decode, read_file
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute, ImageLimits
from pagesight_server.recognition.whitening import Whitening
from tests.bench.measure import machine


def main() -> None:
    """Measures the bundles and prints a line of JSON for each result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--screens", type=Path, action="append", default=[], metavar="DIR")
    parser.add_argument("--runs", type=int, default=15)
    asked = parser.parse_args()
    encoders = {
        str(folder): Encoder(load(folder, "encoder"), Compute(threads=1))
        for folder in asked.bundles
    }
    rows = [machine(), *costs(encoders, asked.runs)]
    for screens in asked.screens:
        rows += [{"bundle": name} | looks(each, screens) for name, each in encoders.items()]
    print("\n".join(map(json.dumps, rows)))


def costs(encoders: Mapping[str, Encoder], runs: int) -> list[dict[str, Any]]:
    """Time one picture, bundles in turns; a run before the first is not counted."""
    page = golden.pages(1600, 720)[0]
    spent_ms: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(runs + 1):
        for name, encoder in encoders.items():
            start = time.process_time()
            encoder.encode([page])
            spent_ms[name].append(1000 * (time.process_time() - start))
    return [
        {"bundle": name, "cpu_ms_median": round(statistics.median(spent[1:]), 1), "runs": runs}
        for name, spent in spent_ms.items()
    ]


def looks(encoder: Encoder, screens: Path) -> dict[str, Any]:
    """Look each picture of `test` up among those of `gallery`."""
    gallery, test = (sorted((screens / part).glob("*/*")) for part in ("gallery", "test"))
    labels = [path.parent.name for path in gallery]
    stored = np.concatenate([embedding(encoder, path) for path in gallery])
    everyone = np.arange(len(stored))
    whitening = Whitening(stored, labels, everyone)
    right, known, unknown = 0, [], []
    for path in test:
        query = embedding(encoder, path)[0]
        cosines = whitening.cosines(query, Hits(everyone, stored @ query)).cosines
        best = int(np.argmax(cosines))
        if path.parent.name in labels:
            known.append(float(cosines[best]))
            right += labels[best] == path.parent.name
        elif path.parent.name.startswith("other"):
            unknown.append(float(cosines[best]))
    return {
        "screens": screens.name,
        "gallery": len(gallery),
        "known": len(known),
        "unknown": len(unknown),
        "top1": right / len(known),
        "auroc": auroc(known, unknown),
    }


def embedding(encoder: Encoder, path: Path) -> Embeddings:
    """Embed one file, `[1, dimension]`."""
    limits = ImageLimits()
    return encoder.encode([decode(read_file(path, limits), limits)])


if __name__ == "__main__":
    main()
