"""Many ways to say `other` over the same images: figures worked out by hand."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from pagesight_server.evaluation import Observation, compare, compare_json, compared
from pagesight_server.evaluation.charts import trade_offs
from pagesight_server.evaluation.compare import Comparison, Row
from pagesight_server.evaluation.detectors import KINDS
from pagesight_server.evaluation.summary import comparison_markdown
from pagesight_server.recognition.calibration import Calibration, place_threshold
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.evidence import MethodName, PagesightMethod
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.recognition.leave_one_out import left_out_scores
from tests.support.parts import reading, snapshot, unit

GALLERY = snapshot(
    ("a", (1, 0, 0), ["alpha page"]),
    ("a", (10, 1, 0), ["alpha page"]),
    ("b", (0, 1, 0), ["beta site"]),
    ("b", (1, 10, 0), ["beta site"]),
)


def seen(truth: str, direction: tuple[float, ...], *texts: str) -> Observation:
    return Observation(
        truth=truth, query=Query(embedding=unit(*direction), reading=reading(*texts))
    )


OBSERVATIONS = [
    seen("a", (20, 1, 0), "alpha page"),
    seen("b", (1, 20, 0), "beta site"),
    # Looks like a and says what b says.
    seen("b", (1, 0, 0), "beta site"),
    seen("other", (0, 0, 1), "weather"),
    seen("other_hard", (10, 0, 1), "gamma"),
]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(Knowledge.of(GALLERY), OBSERVATIONS, kinds=KINDS[:1])


def row(comparison: Comparison, name: str) -> Row:
    return next(row for row in comparison.rows if row.name == name)


def test_there_is_a_row_for_the_default_each_piece_the_seed_and_each_detector(
    comparison: Comparison,
) -> None:
    assert [r.name for r in comparison.rows] == [
        "pagesight",
        "without OCR",
        # No example of an unknown page is enrolled, so that piece is worth nothing.
        *(f"without {piece}" for piece in PagesightMethod.EVIDENCE if piece != "unknown_example"),
        "seed",
        *(f"seed, alpha {alpha}" for alpha in ("0", "0.2", "0.4", "0.8", "1")),
        "top-1 cosine",
    ]
    assert (comparison.known, dict(comparison.unknown)) == (3, {"other": 1, "other_hard": 1})


def test_without_ocr_the_page_is_named_by_its_looks(comparison: Comparison) -> None:
    assert row(comparison, "pagesight").micro_f1 == 1
    assert row(comparison, "without OCR").micro_f1 == pytest.approx(2 / 3)
    assert row(comparison, "seed, alpha 1").micro_f1 == pytest.approx(2 / 3)


def test_a_detector_is_judged_by_both_thresholds(comparison: Comparison) -> None:
    top = row(comparison, "top-1 cosine")
    assert top.micro_f1 is None
    # Left out, each picture has its twin at cos = 10 / sqrt(101) = 0.99504. The hard one has
    # (1, 0, 0) at the same cosine, 10 / sqrt(101): a tie in single precision either way.
    assert top.left_out is not None
    assert top.left_out.threshold == pytest.approx(10 / 101**0.5, abs=1e-6)
    assert top.left_out.false_rejection_rate == 0
    assert top.left_out.rejected["other"] == 1
    # Taken for unknown: a1 has b2 at 1 / sqrt(101), a2 has b2 at 20 / 101; so has b2, and b1 as a1.
    # Their quantile at 2 / (2 + 3) is 0.2 of the way from one to the other; two pages move it half
    # of the way up.
    assert top.both_sides is not None
    low, high = 1 / 101**0.5 + 0.2 * (20 / 101 - 1 / 101**0.5), 10 / 101**0.5
    assert top.both_sides.threshold == pytest.approx(low + (high - low) / 2, abs=1e-6)
    # The known images score over 0.998, the hard one 0.995 and the other one 0.
    assert top.auroc == 1
    assert top.fpr_at_95tpr == 0


def test_the_default_is_judged_by_the_threshold_that_it_serves(comparison: Comparison) -> None:
    ours = row(comparison, "pagesight")
    assert ours.both_sides is not None
    assert ours.both_sides.false_rejection_rate == 0
    assert ours.both_sides.rejected == {"other": 1, "other_hard": 1}


def test_with_examples_of_unknown_pages_their_worth_is_measured_too() -> None:
    gallery = snapshot(("a", (1, 0), ["x"]), ("b", (0, 1), ["y"]), ("other", (1, 1), ["z"]))
    comparison = compare(Knowledge.of(gallery), [seen("a", (1, 0), "x")], kinds=())
    assert (
        row(comparison, "without unknown_example").what
        == "without enrolled examples of unknown pages"
    )
    # Nothing unknown was tested, and no page has a second picture.
    ours = row(comparison, "pagesight")
    assert (ours.auroc, ours.fpr_at_95tpr, ours.left_out) == (None, None, None)
    assert trade_offs(comparison) is None


def test_the_default_is_served_the_threshold_that_the_table_would_place(
    comparison: Comparison,
) -> None:
    # Two formulas once stood here: the table divided by the root of the labels' number.
    rows = range(len(GALLERY.pictures))
    scores = left_out_scores(PagesightMethod(GALLERY), GALLERY, rows, with_text=True)
    ours = row(comparison, "pagesight")
    assert ours.both_sides is not None
    assert ours.both_sides.threshold == place_threshold(scores, 0.05, pictures=[2, 2])


@pytest.mark.parametrize(
    ("served", "validated"),
    [("pagesight", {"pagesight": 2.5, "without OCR": 1.5}), ("seed", {"seed": 2.5})],
)
def test_what_is_served_is_judged_by_the_threshold_that_labelled_traffic_placed(
    comparison: Comparison, served: MethodName, validated: dict[str, float]
) -> None:
    traffic = Calibration(
        epsilon=0.05,
        pictures=20,
        guaranteed=True,
        threshold_with_text=2.5,
        threshold_without_text=1.5,
        source="validation",
    )
    knowledge = Knowledge.of(GALLERY, served, calibration=traffic)
    again = compare(knowledge, OBSERVATIONS, kinds=KINDS[:1])
    assert again.validated == tuple(validated)
    for before, now in zip(comparison.rows, again.rows, strict=True):
        assert before.left_out == now.left_out
        if now.name in validated:
            assert now.both_sides is not None
            assert now.both_sides.threshold == validated[now.name]
            # No score is as high.
            assert now.both_sides.false_rejection_rate == 1
        else:
            assert now.both_sides == before.both_sides
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(compared(again))
    told = f"of {' and '.join(validated)} the served one, from labelled traffic"
    assert told in console.export_text()


def test_the_table_can_be_read_by_machines_in_documents_and_in_a_terminal(
    comparison: Comparison,
) -> None:
    body = json.loads(compare_json(comparison))
    assert body["rows"][0]["name"] == "pagesight"
    assert list(body["rows"][0]["both_sides"]) == ["threshold", "false_rejection_rate", "rejected"]
    lines = comparison_markdown(comparison).splitlines()
    assert lines[0].startswith("| method | micro F1 | AUROC | FPR95 | left out: known |")
    assert lines[2].startswith("| pagesight | 1.000 | 1.000 | 0.000 |")
    assert len(lines) == 2 + len(comparison.rows)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(compared(comparison))
    text = console.export_text()
    assert "top-1 cosine" in text
    assert "other_hard" in text
    assert "labelled traffic" not in text


def test_each_row_is_a_dot_where_its_own_threshold_puts_it(comparison: Comparison) -> None:
    plot = trade_offs(comparison)
    assert plot is not None
    ours = plot.dots[0]
    assert ours.number == 1
    # Nothing known rejected: at the left edge; everything unknown rejected: at the top.
    assert (ours.x, ours.y) == (plot.left, plot.y_ticks[-1].at)
    assert "0.0 % of known, 100.0 % of unknown" in ours.title


def test_progress_counts_rows(comparison: Comparison) -> None:
    calls: list[tuple[int, int]] = []
    compare(
        Knowledge.of(GALLERY),
        OBSERVATIONS,
        kinds=(),
        progress=lambda done, total: calls.append((done, total)),
    )
    total = len(comparison.rows) - 1
    assert calls == [(done, total) for done in range(total + 1)]


def test_scores_are_finite(comparison: Comparison) -> None:
    for each in comparison.rows:
        for rule in (each.left_out, each.both_sides):
            assert rule is None or np.isfinite(rule.threshold)
