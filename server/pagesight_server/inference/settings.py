"""Settings of decoding and of model sessions, importable without a codec or a model runtime.

`config.py` reads them from the operator's file before anything heavy is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator

Device = Literal["cpu", "cuda"]

ReadingMode = Literal["cascade", "full"]
"""How lines of text are read: by a draft, and again where that is unsure; or by one network."""

Format = Literal["jpeg", "png", "webp", "avif", "bmp", "gif", "heif", "tiff"]
""""heif" is HEIC, as phones store photos."""


def _from_variable(value: object) -> object:
    """A list that is written as JSON, as settings in variables of the environment are."""
    return json.loads(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Limits of one picture; larger ones are refused."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}
    """As the section `[image]` of the settings: a misspelt limit must not pass unseen."""

    max_bytes: int = 16 * 1024 * 1024
    """Encoded size in bytes, checked before the picture is parsed."""

    max_pixels: int = 25_000_000
    """Width times height by the header: 75 MB of RGB. A 1440 x 16000 page has 23 million."""

    max_pixels_at_once: int = 50_000_000
    """Pixels of all pictures that are being decoded; others wait. Codecs need up to 16 bytes for
    each (`doctor` reckons with that), ordinary screenshots have 2.6 million. A larger picture is
    decoded alone."""

    max_side_px: int = 32_767
    """Longest side. OpenCV's remapping, which cuts out text lines, goes no further."""

    min_side_px: int = 16
    """Shortest side. Fewer pixels show nothing that could be recognised."""

    max_lines: int = 2_000
    """Lines of text; more are refused before any is read. A long page has hundreds, and 2,000 take
    one core some minutes."""

    max_text_columns: int = 800_000
    """Pixels of width that the lines may have together once each is scaled to the 48 pixels height
    that it is read at: 110 MB, held until all are read. More are refused before any is scaled, as
    small print makes wide lines: 164 of 8 pixels height on 2000 x 2000 make 1.26 million. The
    longest screenshot of a phone of 720 pixels width, 32,767 high and nothing but lines of the
    usual 14 sp, has 760,000, and of one of 1080 370,000, what bands share counted twice
    (`tests/unit/inference/ocr/test_text_columns.py`). A page of a browser on a desk, 1280 pixels
    wide and full of text, has as many at 10,000 pixels height: whoever sends such sets more."""

    formats: Annotated[tuple[Format, ...], BeforeValidator(_from_variable)] = ()
    """Formats that are read; of several frames the first counts. Empty: JPEG, PNG and WebP, and
    the others too where `pagesight[heif]` is installed: what nobody sends need not be within
    reach of callers."""

    def __post_init__(self) -> None:
        least = min(self.max_bytes, self.max_pixels, self.max_side_px, self.min_side_px)
        least = min(least, self.max_lines, self.max_text_columns)
        if min(least, self.max_pixels_at_once) < 1:
            raise ValueError("image limits must be positive; write max_bytes, max_pixels, ... >= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedShapes:
    """Shapes that each have a session of their own (`fixed_shapes.py`)."""

    lines: tuple[tuple[int, int], ...]
    """Batch size and width of lines of text."""
    canvases: tuple[tuple[int, int], ...]
    """Height and width of canvases of text detection."""
    cuda_graphs: bool = False
    """Whether the kernels of a run over lines are recorded once and played back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where and with what a model session runs."""

    device: Device = "cpu"
    threads: int = 1
    """CPU threads of one session."""
    gpu_memory_mb: int = 0
    """GPU memory that one session may take; 0: no limit. Those of fixed shapes share one such
    limit."""
    fixed: FixedShapes | None = None
    """Shapes of reading that have sessions of their own; None: one session for all shapes."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.gpu_memory_mb < 0:
            raise ValueError(
                f"need threads >= 1 and gpu_memory_mb >= 0, got {self.threads} and "
                f"{self.gpu_memory_mb}"
            )
