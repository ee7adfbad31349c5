"""Sample screenshots of Chinese finance apps, drawn, for the demo and the tests.

No real screenshot may be published, and a service that tells pages apart is worth nothing on
easy pictures; so these are drawn with what makes the real thing hard.

    values, brands ─> pages_* ─> redesign ─> screen (paint, canvas) ─> variation ─> dataset
                      finance, lookalikes, unrelated

`draw` gives one clean picture, `write_dataset` a gallery with its test set.
"""

from tests.samples.catalog import DEMO_LABELS, LABELS
from tests.samples.dataset import write_dataset
from tests.samples.drawing import OTHER_KINDS, Version, draw, draw_other, draw_twin
from tests.samples.fonts import FontMissingError, GlyphMissingError

__all__ = [
    "DEMO_LABELS",
    "LABELS",
    "OTHER_KINDS",
    "FontMissingError",
    "GlyphMissingError",
    "Version",
    "draw",
    "draw_other",
    "draw_twin",
    "write_dataset",
]
