"""The table of document frequencies: who shows what."""

from __future__ import annotations

import numpy as np

from pagesight_server.recognition.string_rates import DocumentFrequencies


def table() -> DocumentFrequencies:
    """Label 0 shows strings 0 and 2, label 1 shows 2 and 1; nobody shows 3."""
    return DocumentFrequencies.of_labels(
        4, [np.array([0, 2]), np.array([2, 1])], [np.array([1, 2]), np.array([2, 1])], [2, 2]
    )


def test_every_label_that_shows_one_of_some_strings_is_told_with_that_string() -> None:
    which, labels = table().labels_showing(np.array([2, 3, 1]))
    assert list(zip(which.tolist(), labels.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 1)]


def test_a_string_that_only_the_picture_that_is_left_out_shows_is_shown_by_nobody() -> None:
    # Both entries of label 0 count its picture: string 0 was on that alone.
    without = table().without_picture(0, np.array([0, 1]))
    which, labels = without.labels_showing(np.array([0, 2]))
    assert list(zip(which.tolist(), labels.tolist(), strict=True)) == [(1, 0), (1, 1)]
