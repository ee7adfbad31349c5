"""What a load sends and when: arrivals, the mix, and the same pictures in other bytes."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise, takewhile

import numpy as np
import pytest
from PIL import Image

from pagesight._load.arrivals import due_times
from pagesight._load.mix import Bytes, Mix, Weighted
from pagesight._load.plan import Plan, parse_weighted
from pagesight._load.variants import STAMP_LENGTH, Variants
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from tests.support.pictures import BLUE, GREEN, RED, encoded, solid

STAMP = b"0123456789abcdef" * 2


# --- arrivals ---


def test_random_arrivals_come_as_often_as_asked_and_the_same_every_time() -> None:
    due = list(islice(due_times("poisson", 50.0, seed=1), 10_000))
    assert due == list(islice(due_times("poisson", 50.0, seed=1), 10_000))
    assert due != list(islice(due_times("poisson", 50.0, seed=2), 10_000))
    gaps = [b - a for a, b in pairwise([0.0, *due])]
    # An exponential law: mean and spread are 20 ms, a share of 1/e is longer than that.
    assert np.mean(gaps) == pytest.approx(0.02, rel=0.05)
    assert np.std(gaps) == pytest.approx(0.02, rel=0.05)
    assert np.mean(np.array(gaps) > 0.02) == pytest.approx(np.exp(-1), rel=0.05)


def test_constant_arrivals_of_several_processes_make_equal_gaps_together() -> None:
    parts = [islice(due_times("constant", 30.0, part=n, parts=3), 10) for n in range(3)]
    together = sorted(due for part in parts for due in part)
    assert together == pytest.approx([n / 30 for n in range(30)])


def test_random_arrivals_of_several_processes_differ_and_add_up_to_the_rate() -> None:
    parts = [
        list(takewhile(lambda due: due < 100, due_times("poisson", 80.0, part=n, parts=4)))
        for n in range(4)
    ]
    assert sum(map(len, parts)) == pytest.approx(8000, rel=0.05)
    assert len({tuple(part[:3]) for part in parts}) == 4


def test_a_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        next(due_times("poisson", 0.0))


# --- variants ---


def noise(*size: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))


def jpeg_with_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned: has to survive
    return encoded(noise(40, 30, 3), "JPEG", exif=exif)


FILES = {
    "jpeg": encoded(noise(40, 30, 3), "JPEG"),
    "progressive jpeg": encoded(noise(40, 30, 3), "JPEG", progressive=True),
    "jpeg to be turned": jpeg_with_exif(),
    "png": encoded(noise(40, 30, 3)),
    "png with alpha": encoded(noise(40, 30, 4)),
    "webp": encoded(noise(40, 30, 3), "WEBP", quality=70),
    "lossless webp": encoded(noise(41, 31, 3), "WEBP", lossless=True),
    "lossless webp with alpha": encoded(noise(41, 31, 4), "WEBP", lossless=True),
    "webp with alpha": encoded(noise(41, 31, 4), "WEBP", quality=70),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_variant_has_other_bytes_and_the_same_pixels(kind: str) -> None:
    data = FILES[kind]
    variants = Variants.of(data)
    assert variants is not None
    one, other = variants.stamped(STAMP), variants.stamped(STAMP[::-1])
    assert len({data, one, other}) == 3
    assert len(one) < len(data) + 100
    pixels = decode(data, ImageLimits())
    for variant in (one, other):
        assert np.array_equal(decode(variant, ImageLimits()), pixels)
    assert variants.stamped(STAMP) == one


@pytest.mark.parametrize("kind", FILES)
def test_a_variant_is_a_picture_from_which_variants_can_be_made(kind: str) -> None:
    once = Variants.of(FILES[kind])
    assert once is not None
    twice = Variants.of(once.stamped(STAMP))
    assert twice is not None
    again = twice.stamped(STAMP[::-1])
    assert np.array_equal(decode(again, ImageLimits()), decode(FILES[kind], ImageLimits()))


@pytest.mark.parametrize("data", [b"", b"login", b"\xff\xd8", b"\xff\xd8\xff\xe0", b"RIFF1234WEBP"])
def test_what_is_no_whole_picture_has_no_variants(data: bytes) -> None:
    assert Variants.of(data) is None


def test_a_cut_webp_has_no_variants() -> None:
    assert Variants.of(FILES["webp"][:-10]) is None


def test_a_stamp_has_one_length() -> None:
    variants = Variants.of(FILES["png"])
    assert variants is not None
    with pytest.raises(ValueError, match=f"{STAMP_LENGTH} bytes"):
        variants.stamped(b"short")


# --- the mix ---


def test_without_repeats_no_bytes_come_twice() -> None:
    mix = Mix([[solid(RED), solid(GREEN)]])
    items = [mix.next() for _ in range(200)]
    assert len({item.image for item in items}) == 200
    assert {item.bytes_are for item in items} == {Bytes.NEW}
    # Both have as many turns.
    colours = Counter(tuple(decode(item.image, ImageLimits())[0, 0]) for item in items)
    assert set(colours.values()) == {100}


def test_two_runs_share_no_bytes() -> None:
    first, second = Mix([[solid(RED)]], seed=1), Mix([[solid(RED)]], seed=1)
    assert not {first.next().image for _ in range(9)} & {second.next().image for _ in range(9)}


def test_repeats_are_bytes_that_were_sent_and_as_many_as_asked() -> None:
    mix = Mix([[solid(RED), solid(GREEN)]], repeat=0.25, seed=3)
    seen: set[bytes] = set()
    repeats = 0
    for _ in range(2000):
        item = mix.next()
        assert (item.image in seen) == (item.bytes_are is Bytes.REPEATED)
        seen.add(item.image)
        repeats += item.bytes_are is Bytes.REPEATED
    assert repeats / 2000 == pytest.approx(0.25, abs=0.03)


def test_what_cannot_be_made_different_goes_as_it_is_and_is_told() -> None:
    item = Mix([[b"login"]]).next()
    assert (item.image, item.bytes_are) == (b"login", Bytes.AS_THEY_ARE)


def test_groups_priorities_and_deadlines_come_by_weight() -> None:
    mix = Mix(
        [[solid(RED)], [solid(BLUE)]],
        weights=[9, 1],
        priorities=Weighted(["high", "low"], [1, 3]),
        deadlines_ms=Weighted([500, 2000], [1, 1]),
        seed=5,
    )
    items = [mix.next() for _ in range(2000)]
    for share, value in (
        (0.1, [item.group == 1 for item in items]),
        (0.25, [item.priority == "high" for item in items]),
        (0.5, [item.deadline_ms == 500 for item in items]),
    ):
        assert np.mean(value) == pytest.approx(share, abs=0.03)


def test_weights_are_read_from_a_command_line() -> None:
    assert parse_weighted("high=1,normal=9", "--priority") == {"high": 1, "normal": 9}
    assert parse_weighted("low", "--priority") == {"low": 1}
    for wrong in ("high=much", "high=-1", "high=0", "high=nan"):
        with pytest.raises(ValueError, match="--priority"):
            parse_weighted(wrong, "--priority")


# --- the plan ---


def test_a_plan_goes_through_plain_values_unharmed() -> None:
    plan = Plan(groups=[["a"]], names=["a"], rate=2.0, deadlines_ms={500: 1.0})
    assert Plan.from_plain(plan.plain()) == plan


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"groups": [[]]}, "no picture"),
        ({"rate": 0.0}, "--rate"),
        ({"rate": float("nan")}, "--rate"),
        ({"repeat": 1.5}, "--repeat"),
        ({"duration_s": 0.0}, "--duration"),
        ({"duration_s": 1e9}, "--duration"),
        ({"warmup_s": -1.0}, "--warmup"),
        ({"count": 0}, "--count"),
        ({"in_flight": 10**9}, "--in-flight"),
        ({"processes": 2}, "--streams"),
        ({"weights": [1.0, 2.0]}, "weights"),
        ({"priorities": {"urgent": 1.0}}, "--priority"),
        ({"timeout_s": 0.0}, "--timeout"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    plain = Plan(groups=[["a"]], names=["a"]).plain()
    with pytest.raises(ValueError, match=said):
        Plan.from_plain(plain | wrong)
