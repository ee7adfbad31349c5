"""Decoding of what a recognition network gives for a batch of lines."""

from __future__ import annotations

import numpy as np

from pagesight_server.inference.ocr.recogniser import Text, decode_ctc

CHARACTERS = ["", "a", "b", "c"]


def test_repeats_collapse_and_blanks_are_dropped_line_by_line() -> None:
    indices = np.array([[1, 1, 0, 1, 2], [0, 0, 0, 0, 0], [2, 2, 3, 3, 1]])
    # Of each character the first step counts.
    confidences = np.array(
        [[0.5, 1.0, 1.0, 0.75, 1.0], [1.0] * 5, [0.25, 1.0, 0.5, 1.0, 0.75]], np.float32
    )
    assert decode_ctc(indices, confidences, CHARACTERS, 0) == [
        Text("aab", 0.75),
        Text("", 0.0),
        Text("bca", 0.5),
    ]


def test_a_line_begins_anew_where_the_one_before_it_ended_with_the_same_character() -> None:
    indices, confidences = np.array([[0, 3], [3, 0]]), np.ones((2, 2), np.float32)
    texts = decode_ctc(indices, confidences, CHARACTERS, 0)
    assert texts == [Text("c", 1.0), Text("c", 1.0)]


def test_no_lines_give_no_texts() -> None:
    nothing = np.empty((0, 4), np.int64), np.empty((0, 4), np.float32)
    assert decode_ctc(*nothing, CHARACTERS, 0) == []


def test_texts_and_confidences_are_those_of_each_line_alone_to_the_bit() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        shape = int(draw.integers(1, 9)), int(draw.integers(1, 200))
        indices = draw.integers(0, 4, shape)
        confidences = draw.uniform(0.2, 1.0, shape).astype(np.float32)
        for line, text in enumerate(decode_ctc(indices, confidences, CHARACTERS, 0)):
            # The steps that are no blank and no repeat of the one before.
            kept = [step for step, index in enumerate(indices[line]) if index]
            before = np.concatenate([[0], indices[line]])
            kept = [step for step in kept if indices[line, step] != before[step]]
            assert text.text == "".join(CHARACTERS[indices[line, step]] for step in kept)
            mean = float(confidences[line, kept].mean()) if kept else 0.0
            assert text.confidence == mean
