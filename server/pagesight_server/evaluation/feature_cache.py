"""Feature cache: embeddings and texts of test images, kept in a file between runs.

    get ──> in the file? ──yes──> features (embedding and text)
               └─no──> compute ─> features, appended to the file

OCR is nearly all of the cost of an evaluation, and its result changes with the bundles and a few
settings alone, so comparing decision methods should not pay for it again. Each entry says what made
it, and is used by nothing else. The file contains the text of the screenshots: protect it as you
protect them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pagesight_server.common.cache import SingleFlightLru
from pagesight_server.common.errors import SetupError
from pagesight_server.common.files import make_file
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.pipeline import FeatureKey, Features


class FeatureFile(SingleFlightLru[FeatureKey, Features]):
    """A feature cache, without limit, that persists in a file of JSON lines; for one event loop.

    Args:
        path: The file, created when missing. Entries of other bundles or settings are kept and not
            used, and so are those that do not say their settings; a last line that was cut off is
            ignored.
        bundles: The bundles that compute new entries.
        settings: What else changes embeddings and texts, by name.

    Raises:
        SetupError: the file cannot be read or written.
    """

    def __init__(self, path: Path, bundles: Bundles, settings: Mapping[str, object]) -> None:
        super().__init__(0)
        self.others = 0
        """Entries of the file that were made by other bundles or settings."""
        self._made_by = {"encoder": bundles.encoder, "ocr": bundles.ocr, **settings}
        self._features: dict[FeatureKey, Features] = {}
        try:
            make_file(path)
            text = path.read_text("utf-8")
            self._file: TextIO = path.open("a", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"{path} cannot be used for --features: {error}") from None
        if text and not text.endswith("\n"):
            self._file.write("\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by:
                    self._features[bytes.fromhex(row["sha256"]), row["ocr"]] = _parsed(row)
                else:
                    self.others += 1
            except (ValueError, KeyError, TypeError):
                continue

    def __len__(self) -> int:
        return len(self._features)

    def values(self) -> list[Features]:
        """All entries, in the order of the file."""
        return list(self._features.values())

    async def get(self, key: FeatureKey, compute: Callable[[], Awaitable[Features]]) -> Features:
        """The features of an image: from the file, else computed and appended to it.

        Raises:
            Exception: whatever `compute` raises.
        """
        cached = self._features.get(key)
        if cached is not None:
            self.hits += 1
            return cached
        self.misses += 1
        features = await compute()
        self._features[key] = features
        row = {"sha256": key[0].hex(), "ocr": key[1], "made_by": self._made_by, **_row(features)}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        return features

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _row(features: Features) -> dict[str, object]:
    vector = features.embedding.astype("<f4").tobytes()
    return {
        "width_px": features.width_px,
        "height_px": features.height_px,
        "embedding": base64.b64encode(vector).decode("ascii"),
        "reading": features.reading.to_json() if features.reading is not None else None,
    }


def _parsed(row: dict[str, Any]) -> Features:
    """The features of a row that `_row` made."""
    vector = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
    reading = row["reading"]
    return Features(
        width_px=row["width_px"],
        height_px=row["height_px"],
        embedding=vector.astype(np.float32),
        reading=None if reading is None else Reading.from_json(reading),
    )
