"""Wrong answers are said beside every perfect figure, and rounding hides none."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from pagesight_server.evaluation import Outcome, Prediction, Run, measure, report, summary
from pagesight_server.evaluation.mistakes import Mistakes
from pagesight_server.evaluation.rounding import percent, rate


def answer(truth: str, closed: str, score: float) -> Prediction:
    return Prediction(
        path=f"{truth}/{closed}{score}.png",
        truth=truth,
        closed_label=closed,
        score=score,
        label=closed if score >= 0.5 else "other",
        threshold=0.5,
    )


RANKED_RIGHT = [
    answer("a", "a", 0.9),
    answer("a", "a", 0.4),
    answer("b", "b", 0.3),
    answer("other", "b", 0.7),
    answer("other_ads", "a", 0.2),
]
"""Micro F1 is 1: the closest page is right wherever there is one. Three answers are wrong."""

EVERY_KIND = [
    *RANKED_RIGHT,
    answer("a", "b", 0.8),
    answer("a", "b", 0.1),
    Prediction.unreadable("b/x.png", "b", "damaged"),
    Prediction.unreadable("other/x.png", "other", "damaged"),
]


def run_of(predictions: list[Prediction], folder: Path) -> Run:
    return Run(
        folder=folder,
        gallery="default",
        gallery_labels=frozenset("ab"),
        outcomes=tuple(Outcome(prediction=one) for one in predictions),
        metrics=measure(predictions),
        seconds_per_image=None,
        ran_with={},
        warnings=(),
    )


def printed(run: Run, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(summary(run))
    return console.export_text()


def test_wrong_answers_are_counted_once_each_by_kind() -> None:
    mistakes = Mistakes.of(EVERY_KIND)
    # A known page that is rejected is no wrong page, whichever page came closest.
    assert mistakes == Mistakes(answers=9, wrong_page=1, rejected=3, accepted=1, unreadable=2)
    assert mistakes.wrong == 7
    assert mistakes.wrong == sum(not one.right for one in EVERY_KIND)


@pytest.mark.parametrize(
    ("predictions", "sentence"),
    [
        pytest.param(
            EVERY_KIND,
            "7 of 9 answers are wrong: 1 with the wrong page, 3 known pages rejected, "
            "1 unknown page accepted, 2 unreadable",
            id="every kind",
        ),
        pytest.param(
            RANKED_RIGHT[:2],
            "1 of 2 answers is wrong: 0 with the wrong page, 1 known page rejected, "
            "0 unknown pages accepted",
            id="one",
        ),
        pytest.param(RANKED_RIGHT[:1], "no wrong answer", id="none of one"),
        pytest.param(RANKED_RIGHT[:1] * 2, "all 2 answers are right", id="none"),
    ],
)
def test_the_mistakes_are_a_sentence(predictions: list[Prediction], sentence: str) -> None:
    assert Mistakes.of(predictions).sentence == sentence


def test_a_perfect_micro_f1_stands_beside_the_wrong_answers_in_the_terminal(
    tmp_path: Path,
) -> None:
    text = printed(run_of(RANKED_RIGHT, tmp_path))
    assert " ".join(text.split()).startswith(
        "3 of 5 answers are wrong: 0 with the wrong page, 2 known pages rejected, "
        "1 unknown page accepted"
    )
    assert re.search(r"micro F1, whatever the threshold\W+1\.0000", text)
    assert re.search(r"wrong answers\W+3 of 5", text)


def test_the_report_begins_with_the_wrong_answers(tmp_path: Path) -> None:
    html = report(run_of(RANKED_RIGHT, tmp_path), lambda _: None)
    sentence = (
        "3 of 5 answers are wrong: 0 with the wrong page, 2 known pages rejected, "
        "1 unknown page accepted."
    )
    assert html.index(sentence) < html.index("<nav>")
    tiles = re.findall(r'class="card tile[^>]*><span class="name">([^<]*)</span><b>([^<]*)', html)
    assert tiles[:2] == [("wrong answers", "3 of 5"), ("micro F1", "1.0000")]
    right = report(run_of(RANKED_RIGHT[:1], tmp_path), lambda _: None)
    assert "No wrong answer." in right


def test_the_table_of_unknown_pages_counts_as_many_accepted_as_the_sentence(
    tmp_path: Path,
) -> None:
    html = report(run_of(EVERY_KIND, tmp_path), lambda _: None)
    assert "1 unknown page accepted, 2 unreadable." in html
    table = html[html.index('id="unknown"') : html.index('id="scores"')]
    rows = [
        [re.sub(r"<[^>]*>", "", cell).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row)]
        for row in table.split("<tr>")[1:]
    ]
    assert [row[:5] for row in rows] == [
        ["kind", "images", "rejected", "accepted", "unreadable"],
        ["other", "2", "0", "1", "1"],
        ["other_ads", "1", "1", "0", "0"],
        ["all", "3", "1", "1", "1"],
    ]
    assert "<th>unreadable</th>" not in report(run_of(RANKED_RIGHT, tmp_path), lambda _: None)


@pytest.mark.parametrize(
    ("value", "as_rate", "as_percent"),
    [
        (1.0, "1.0000", "100.0 %"),
        (0.99996, ">0.9999", ">99.9 %"),
        (0.99994, "0.9999", ">99.9 %"),
        (0.9994, "0.9994", "99.9 %"),
        (0.5, "0.5000", "50.0 %"),
        (0.0004, "0.0004", "<0.1 %"),
        (0.00004, "<0.0001", "<0.1 %"),
        (0.0, "0.0000", "0.0 %"),
        (None, "–", "–"),
    ],
)
def test_no_error_is_rounded_away(value: float | None, as_rate: str, as_percent: str) -> None:
    assert rate(value) == as_rate
    assert percent(value) == as_percent


def test_rounding_keeps_to_its_digits_and_unit() -> None:
    assert rate(0.9996, digits=3, none="-") == ">0.999"
    assert percent(0.12345, unit="") == "12.3"
    assert rate(None, none="-") == percent(None, none="-", unit="") == "-"
