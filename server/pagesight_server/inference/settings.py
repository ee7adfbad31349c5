"""Settings of decoding and of model sessions, importable without a codec or a model runtime.

`config.py` reads them from the operator's file before anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """Limits of one picture; larger ones are refused."""

    __pydantic_config__: ClassVar[Mapping[str, str]] = {"extra": "forbid"}
    """As the section `[image]` of the settings: a misspelt limit must not pass unseen."""

    max_bytes: int = 16 * 1024 * 1024
    """Encoded size in bytes, checked before the picture is parsed."""

    max_pixels: int = 50_000_000
    """Width times height by the header: 150 MB of RGB. A 1080 x 8000 page has 8.6 million."""

    max_side_px: int = 32_767
    """Longest side. OpenCV's remapping, which cuts out text lines, goes no further."""

    min_side_px: int = 16
    """Shortest side. Fewer pixels show nothing that could be recognised."""

    max_lines: int = 2_000
    """Lines of text; more are refused before any is read. A long page has hundreds, and 2,000 take
    one core some minutes."""

    def __post_init__(self) -> None:
        numbers = (self.max_bytes, self.max_pixels, self.max_side_px, self.min_side_px)
        if min(*numbers, self.max_lines) < 1:
            raise ValueError("image limits must be positive; write max_bytes, max_pixels, ... >= 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where and with what a model session runs."""

    device: Device = "cpu"
    threads: int = 1
    """CPU threads of one session."""
    gpu_memory_mb: int = 0
    """GPU memory that one session may take; 0: no limit."""

    def __post_init__(self) -> None:
        if self.threads < 1 or self.gpu_memory_mb < 0:
            raise ValueError(
                f"need threads >= 1 and gpu_memory_mb >= 0, got {self.threads} and "
                f"{self.gpu_memory_mb}"
            )
