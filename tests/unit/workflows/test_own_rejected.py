"""What the commands say of the gallery's own pictures that the threshold would reject."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pagesight_server.recognition.calibration import Calibration
from pagesight_server.workflows.knowledge import (
    own_rejected,
    own_rejected_text,
    own_rejected_warning,
)

# Of ten pictures one scores below 0.5 with text, four without.
TEN = Calibration(
    epsilon=0.05,
    pictures=10,
    guaranteed=False,
    threshold_with_text=0.5,
    threshold_without_text=0.5,
    scores_with_text=(0.4, *[0.6] * 9),
    scores_without_text=(*[0.4] * 4, *[0.6] * 6),
)


def test_the_shares_are_told_in_a_sentence_and_as_numbers() -> None:
    assert own_rejected(TEN) == {"with_text": 0.1, "without_text": 0.4}
    assert own_rejected_text(TEN) == (
        "of the gallery's own 10 pictures, each left out in turn, 10.0% would be rejected, "
        "without text 40.0%"
    )
    traffic = replace(TEN, source="validation", revision=3)
    assert own_rejected_text(traffic).startswith("of the 10 screenshots of labelled traffic 10.0%")


def test_where_nothing_could_be_left_out_nothing_is_told() -> None:
    none = replace(TEN, pictures=0, scores_with_text=(), scores_without_text=())
    assert own_rejected_text(none) == (
        "no picture could be left out: how many would be rejected cannot be told"
    )
    assert own_rejected_warning(none) == ""


@pytest.mark.parametrize(
    ("epsilon", "with_text", "warned"),
    [
        pytest.param(0.05, True, False, id="a tenth is allowed"),
        pytest.param(0.05, False, True, id="four tenths are not"),
        pytest.param(0.4, False, False, id="an operator may allow more"),
    ],
)
def test_a_warning_says_what_to_do_above_a_tenth(
    epsilon: float, with_text: bool, warned: bool
) -> None:
    warning = own_rejected_warning(replace(TEN, epsilon=epsilon), with_text=with_text)
    assert bool(warning) == warned
    if warned:
        assert "40% of the gallery's own 10 pictures" in warning
        assert "`pagesight gallery doctor` shows which pictures" in warning
        assert "`pagesight-server calibrate --validation DIR`" in warning
