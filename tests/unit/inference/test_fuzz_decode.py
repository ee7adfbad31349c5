"""Hostile pictures by the thousand: pixels within the limits or ImageError, in bounded memory."""

from __future__ import annotations

import os
import resource
import sys

import numpy as np
import pytest

from pagesight_server.common.errors import ImageError
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from tests.bench.measure import rss_mb
from tests.support.fuzzing import SEED, Fuzz, shown

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits(max_pixels=2_000_000, max_bytes=100_000)
MOST_MB = 100
"""Of 2 million pixels, 6 MB as RGB: libjpeg's coefficients and the canvases of libwebp come on
top."""


def decoded(data: bytes) -> bool:
    """Whether it is a picture; what a caller is told otherwise is one short line."""
    try:
        pixels = decode(data, LIMITS)
    except ImageError as error:
        pixels, message = None, str(error)
    if pixels is None:
        assert 0 < len(message) < 300
        assert "\n" not in message
        return False
    height, width, channels = pixels.shape
    assert channels == 3
    assert pixels.dtype == np.uint8
    assert LIMITS.min_side_px <= min(width, height)
    assert width * height <= LIMITS.max_pixels
    return True


def peak_mb() -> float:
    """The most memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize(
    "inputs",
    [
        3_000,
        pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
)
def test_no_bytes_do_more_than_fail_alone(inputs: int, capsys: pytest.CaptureFixture[str]) -> None:
    seed = 0 if inputs < 100_000 else SEED
    fuzz, pictures, halfway_mb = Fuzz(seed), 0, 0.0
    before_mb = max(peak_mb(), rss_mb(os.getpid()) + MOST_MB)
    for number in range(inputs):
        data = fuzz.picture()
        try:
            pictures += decoded(data)
        except BaseException as error:
            error.add_note(f"seed {seed}, picture {number}: {shown(data)}")
            raise
        if number == inputs // 2:
            halfway_mb = rss_mb(os.getpid())
    end_mb = rss_mb(os.getpid())
    told = f"{inputs:,} pictures, {pictures:,} decoded; {halfway_mb:.0f} MB halfway, {end_mb:.0f}"
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert inputs / 20 < pictures < inputs * 0.9, "the generator makes too few of one kind"
    assert end_mb <= 1.1 * halfway_mb + 10, told
    assert peak_mb() <= before_mb, told
