"""The arrays that travel between modules, named once with shape, dtype and range."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.uint8]
"""A decoded picture: height x width x 3, RGB, 0..255, C-contiguous."""

Embedding: TypeAlias = NDArray[np.float32]
"""One picture as the encoder sees it: (dimension,), L2 norm 1."""

Embeddings: TypeAlias = NDArray[np.float32]
"""Several embeddings: (pictures, dimension), each row of L2 norm 1, C-contiguous."""
