"""Pictures of wrong answers: what they show beside each other, and that they stay small."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from pagesight_server.recognition.candidates import Candidate, Term
from pagesight_server.recognition.decision import Decision
from pagesight_server.recognition.entity_names import NameEvidence
from pagesight_server.recognition.findings import Finding
from pagesight_server.recognition.replaced_names import ReplacedName
from pagesight_server.text.reading import Box, TextLine
from tests.bench import failures
from tests.bench.failures import GAP_PX, HEAD_PX, SIDE_PX


def candidate(label: str, *, likeness: float, cost: float, missing: float = 0.0) -> Candidate:
    return Candidate(
        label=label,
        row=0,
        visual=likeness,
        textual=likeness,
        names=NameEvidence(missing_nats=missing),
        terms=(Term("looks", likeness, likeness), Term("missing_brand", -cost, 0.0)),
    )


def decision(label: str, *candidates: Candidate) -> Decision:
    return Decision(
        label=label,
        closest_label=candidates[0].label,
        score=candidates[0].score,
        threshold=0.5,
        candidates=candidates,
        against=None,
    )


def replaced(by: Candidate) -> Candidate:
    name = ReplacedName(
        expected="a",
        observed="b",
        line=TextLine("b", 1.0, Box(0, 0, 1, 1)),
        whole_line=True,
        weight=0.5,
    )
    return dataclasses.replace(by, names=NameEvidence(replacements=(name,)))


REJECTED = decision("other", candidate("a", likeness=0.6, cost=0.2, missing=1.33))


def png(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (REJECTED, "answered other, closest a: 0.40 (0.60, less 0.20: no brand name visible)"),
        (decision("a", candidate("a", likeness=0.6, cost=0.0)), "accepted: 0.60"),
        (
            decision("other", replaced(candidate("a", likeness=0.6, cost=0.5))),
            "answered other, closest a: 0.10 (0.60, less 0.50: another name is in its place)",
        ),
    ],
)
def test_the_caption_says_what_decided(given: Decision, told: str) -> None:
    assert failures.caption("a", given) == f"{told}, limit 0.50"


def test_the_caption_says_where_the_right_page_ranks() -> None:
    two = [candidate(label, likeness=0.6, cost=0.0) for label in ("a", "b")]
    assert failures.caption("b", decision("a", *two)).endswith("; b ranks 2")


def test_a_text_is_boxed_in_its_colour_in_both_pictures() -> None:
    box = Box(100, 200, 300, 240)
    findings = [Finding(kind="agrees", text="t", query_box=box, gallery_box=box)]
    # Twice as wide as they are shown: the box begins at half of 100 and 200, less its margin.
    picture = failures.beside(png(800, 1000), png(800, 1000), "a", REJECTED, findings)
    for left in (0, SIDE_PX + GAP_PX):
        assert picture.getpixel((left + 48, HEAD_PX + 110)) == (0x1A, 0x9C, 0x4B)
        assert picture.getpixel((left + 100, HEAD_PX + 110)) == (255, 255, 255)


def test_a_picture_that_cannot_be_made_small_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 820, 3), np.uint8)
    with pytest.raises(SystemExit, match="more than 60000"):
        failures.small(Image.fromarray(noise))
