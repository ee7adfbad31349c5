"""Whether OCR could read a picture: the confidence of its lines.

    lines below the status bar ──confidence < 0.9──> hardly read ──share of all──> poor, or not

A recogniser gives every box some text. Of a script that it lacks it gives nonsense in letters
that it has ("Готов" → "γotob"), with less confidence than of a script that it knows. Nothing here
changes a score: docs/recognition.md, "Scripts that the OCR bundle cannot read".
"""

from __future__ import annotations

from typing import NamedTuple

from pagesight_server.text.lines import lines_below_status_bar
from pagesight_server.text.reading import Reading

SURE = 0.9
"""Confidence below which a line counts as hardly read: of English, Chinese and German lines of real
screenshots nine tenths have 0.94 or more, of Russian ones 0.76 to 0.84, of Hebrew ones 0.60."""

POOR_SHARE = 0.3
"""Share of hardly read lines from which a picture is poorly read. Mean shares on real screenshots
by language: English 0.06 to 0.08, German, French, Spanish and Italian up to 0.06, Chinese 0.06,
Russian 0.21 to 0.33, Arabic 0.21, Tamil 0.39, Hebrew 0.42, Greek 0.47. Of Russian pages a quarter
is above it (8 of 31): most of their letters look like Latin ones. Of English pages 3 % are (11 of
383): maps, counters and rows of icons. docs/recognition.md has the table."""

MIN_LINES = 5
"""Lines from which a share says something: of fewer, a single icon is a quarter."""


class Legibility(NamedTuple):
    """How much of a picture's text was read with confidence."""

    lines: int
    """Lines below the phone's status bar."""
    hardly_read: int
    """Those of them with a confidence below `SURE`."""

    @property
    def share(self) -> float:
        """The share of lines that were hardly read, 0 to 1; 0 where there are none."""
        return self.hardly_read / max(1, self.lines)

    @property
    def poor(self) -> bool:
        """Whether so much was hardly read that the OCR bundle may not know the script."""
        return self.lines >= MIN_LINES and self.share >= POOR_SHARE


def legibility(reading: Reading) -> Legibility:
    """Counts the lines of a picture, and those that were hardly read."""
    lines = lines_below_status_bar(reading)
    return Legibility(len(lines), sum(line.confidence < SURE for line in lines))
