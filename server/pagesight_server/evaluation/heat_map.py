"""Geometry of the confusion matrix as a heat map, in SVG user units.

confusion ──most confused classes──> one cell for each count that is not zero
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pagesight_server.evaluation.charts import Tick
from pagesight_server.evaluation.display_names import label_name, shorten, width_cells
from pagesight_server.evaluation.metrics import Confusion

MAX_CLASSES = 60
"""Most rows of a heat map that are legible; of more classes the most confused are drawn."""

CELL = 26
"""Side of a heat map's cell, with room for a count of three digits."""
_CELL_WIDTH = 6.4
"""Mean width of a half-width character in the charts' 11 px font."""
_SLANT = math.radians(60)
"""Angle of the column names, as in the template."""
_HEAT_GAP = 26
"""Space between the row names and the heat map, which the axis titles overlap."""
_HEAT_HEAD = 34
"""Space above the column names for the two axis titles."""
_LEAST_OPACITY = 0.18
"""Opacity of the smallest share of a row, still visible on the card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a heat map, for a count that is not zero."""

    x: float
    """Left edge."""
    y: float
    """Upper edge."""
    count: int
    right: bool
    """Whether it is on the diagonal."""
    opacity: float
    """The count's share of its row, mapped to 0.18 to 1."""
    title: str
    """Tooltip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """A confusion matrix: rows are true labels, columns answers."""

    width: float
    """Width of the whole chart."""
    height: float
    """Height of the whole chart."""
    left: float
    """Left edge of the square of cells."""
    top: float
    """Upper edge of the square of cells."""
    side: float
    """Side of the square of cells."""
    ticks: tuple[Tick, ...]
    """Label names at the centres of their rows and columns, from the square's upper left corner."""
    cells: tuple[Cell, ...]
    omitted: int
    """Number of classes that are not drawn because there are more than `MAX_CLASSES`."""


def heat_map(confusion: Confusion) -> HeatMap:
    """Lays out a confusion matrix."""
    classes = _most_confused(confusion)
    names = [shorten(label_name(confusion.labels[i])) for i in classes]
    longest = max(map(width_cells, names), default=0) * _CELL_WIDTH
    left, top = longest + _HEAT_GAP, math.sin(_SLANT) * longest + _HEAT_HEAD
    side = CELL * len(classes)
    cells = []
    for y, i in enumerate(classes):
        row_total = sum(confusion.matrix[i])
        truth = label_name(confusion.labels[i])
        for x, j in enumerate(classes):
            if count := confusion.matrix[i][j]:
                answer = label_name(confusion.labels[j])
                share = f"{count} of {row_total} images of {truth}"
                cells.append(
                    Cell(
                        x=left + CELL * x,
                        y=top + CELL * y,
                        count=count,
                        right=i == j,
                        opacity=round(_LEAST_OPACITY + (1 - _LEAST_OPACITY) * count / row_total, 3),
                        title=f"{share}: right" if i == j else f"{share} taken for {answer}",
                    )
                )
    return HeatMap(
        # The last column's slanted name leans out to the right.
        width=left + side + math.cos(_SLANT) * longest + 8,
        height=top + side + 4,
        left=left,
        top=top,
        side=side,
        ticks=tuple(
            Tick(at=CELL * (k + 0.5), text=name, title=label_name(confusion.labels[i]))
            for k, (i, name) in enumerate(zip(classes, names, strict=True))
        ),
        cells=tuple(cells),
        omitted=len(confusion.labels) - len(classes),
    )


def _most_confused(confusion: Confusion) -> list[int]:
    """Indices of the `MAX_CLASSES` classes with most errors, in rows and columns, ascending."""
    matrix, size = confusion.matrix, len(confusion.labels)
    if size <= MAX_CLASSES:
        return list(range(size))
    mistakes = [sum(matrix[i]) - matrix[i][i] for i in range(size)]
    for row in range(size):
        for column in range(size):
            mistakes[column] += matrix[row][column] * (row != column)
    return sorted(sorted(range(size), key=lambda i: -mistakes[i])[:MAX_CLASSES])
