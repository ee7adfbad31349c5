"""Feature cache: embeddings and texts of test images, kept in a file between runs.

    get ──> in the file? ──yes──> percept (embedding and text)
               └─no──> compute ─> percept, appended to the file

OCR is nearly all of the cost of an evaluation, and its result changes with the bundles alone, so
comparing decision methods should not pay for it again. The file contains the text of the
screenshots: protect it as you protect them.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pagesight_server.common.cache import Memo
from pagesight_server.common.errors import SetupError
from pagesight_server.gallery.snapshot import Bundles
from pagesight_server.text.reading import Reading
from pagesight_server.workflows.pipeline import Percept

Key = tuple[bytes, bool]
"""SHA-256 of the image's bytes, and whether its text was read."""


class PerceptFile(Memo[Key, Percept]):
    """A cache whose entries persist in a file of JSON lines; for one event loop.

    Args:
        path: The file, created when missing. Entries of other bundles are ignored, and so is a
            last line that was cut off.
        bundles: The bundles that compute new entries.

    Raises:
        SetupError: the file cannot be read or written.
    """

    def __init__(self, path: Path, bundles: Bundles) -> None:
        super().__init__(0)
        self._made_by = [bundles.encoder, bundles.ocr]
        self._entries: dict[Key, Percept] = {}
        try:
            path.touch()
            text = path.read_text("utf-8")
            self._file: TextIO = path.open("a", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SetupError(f"{path} cannot be used for --percepts: {error}") from None
        if text and not text.endswith("\n"):
            self._file.write("\n")
        for line in text.splitlines():
            try:
                row = json.loads(line)
                if row["made_by"] == self._made_by:
                    self._entries[bytes.fromhex(row["sha256"]), row["ocr"]] = _percept(row)
            except (ValueError, KeyError, TypeError):
                continue

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> list[Percept]:
        """All entries, in the order of the file."""
        return list(self._entries.values())

    async def get(self, key: Key, compute: Callable[[], Awaitable[Percept]]) -> Percept:
        """The percept of an image: from the file, else computed and appended to it.

        Raises:
            Exception: whatever `compute` raises.
        """
        cached = self._entries.get(key)
        if cached is not None:
            self.hits += 1
            return cached
        self.misses += 1
        percept = await compute()
        self._entries[key] = percept
        row = {"sha256": key[0].hex(), "ocr": key[1], "made_by": self._made_by, **_row(percept)}
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()
        return percept

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _row(percept: Percept) -> dict[str, object]:
    vector = percept.embedding.astype("<f4").tobytes()
    return {
        "width_px": percept.width_px,
        "height_px": percept.height_px,
        "embedding": base64.b64encode(vector).decode("ascii"),
        "reading": percept.reading.to_json() if percept.reading is not None else None,
    }


def _percept(row: dict[str, Any]) -> Percept:
    vector = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")
    reading = row["reading"]
    return Percept(
        width_px=row["width_px"],
        height_px=row["height_px"],
        embedding=vector.astype(np.float32),
        reading=None if reading is None else Reading.from_json(reading),
    )
