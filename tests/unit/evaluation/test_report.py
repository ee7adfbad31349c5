"""The HTML pages: complete, escaped, and without anything fetched from elsewhere."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from pagesight_server.curation.own_scores import OwnScores
from pagesight_server.evaluation import (
    Outcome,
    Prediction,
    Run,
    report,
    summary,
)
from pagesight_server.evaluation.charts import Scale, histogram
from pagesight_server.evaluation.compare import Comparison, Row, Rule
from pagesight_server.evaluation.display_names import LABEL_CELLS, shorten, width_cells
from pagesight_server.evaluation.heat_map import MAX_CLASSES, heat_map
from pagesight_server.evaluation.html import by_kind, gallery_marks, query_marks, thumbnail
from pagesight_server.evaluation.metrics import Confusion, measure
from pagesight_server.evaluation.outputs import measure_outputs
from pagesight_server.evaluation.report import MAX_PAIRS, MAX_PER_CONFUSION
from pagesight_server.recognition.explanation import Explanation
from pagesight_server.recognition.findings import Finding
from pagesight_server.text.reading import Box
from tests.support.reports import NASTY, Page, assert_stands_alone, png, words


def outcome(
    truth: str, closed: str, score: float, *, name: str = "1.png", threshold: float = 0.5
) -> Outcome:
    return Outcome(
        prediction=Prediction(
            path=f"{truth}/{name}",
            truth=truth,
            closed_label=closed,
            score=score,
            label=closed if score >= threshold else "other",
            threshold=threshold,
        ),
        picture_id="0123456789abcdef",
        explanation=Explanation(reasons=(f"because of {NASTY}",)),
    )


def run_of(outcomes: list[Outcome], folder: Path, *, warnings: tuple[str, ...] = ()) -> Run:
    for each in outcomes:
        path = folder / each.prediction.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png())
    return Run(
        folder=folder,
        gallery=NASTY,
        gallery_labels=frozenset(o.prediction.closed_label for o in outcomes),
        outcomes=tuple(outcomes),
        metrics=measure([o.prediction for o in outcomes]),
        seconds_per_image=0.25,
        ran_with={"epsilon": 0.05, "bundles": {"encoder": NASTY}},
        warnings=warnings,
    )


MIXED = [
    outcome("a", "a", 0.9),
    outcome("a", "b", 0.8, name="2.png"),
    outcome("b", "b", 0.4),
    outcome(NASTY.replace("/", ""), "a", 0.7),
    outcome("other", "b", 0.2),
    outcome("other_<i>hard", "a", 0.75),
    Outcome(prediction=Prediction.unreadable("a/broken<b>.png", "a", "it is <i>damaged")),
]


def test_the_report_stands_alone_and_its_tags_match(tmp_path: Path) -> None:
    assert_stands_alone(report(run_of(MIXED, tmp_path), lambda image_id: png("blue")))


def test_labels_paths_reasons_and_warnings_are_escaped(tmp_path: Path) -> None:
    html = report(run_of(MIXED, tmp_path, warnings=(NASTY,)), lambda image_id: png())
    assert "<script" not in html
    assert "<i>" not in html.replace('<i style="width', "")
    page = Page(html)
    assert f"because of {NASTY}" in words(page)
    assert "it is <i>damaged" in words(page)


def test_the_report_has_every_section(tmp_path: Path) -> None:
    page = Page(report(run_of(MIXED, tmp_path), lambda image_id: png()))
    for heading in (
        "Classes",
        "Confusion matrix",
        "Confused pages",
        "Unknown pages",
        "Scores",
        "Labels and the threshold",
        "Accepted by mistake",
        "Rejected by mistake",
        "Unreadable images",
        "Conditions",
    ):
        # Once in the contents, once above the section.
        assert words(page).count(heading) >= 2, heading
    assert page.tags.count("svg") == 2


def test_the_time_is_said_to_be_of_images_alone(tmp_path: Path) -> None:
    run = replace(run_of(MIXED, tmp_path), timed_alone=20)
    page = words(Page(report(run, lambda image_id: png())))
    assert "decode to decision, mean of 20 alone" in page
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary(run))
    assert re.search(r"seconds per image, mean of 20 alone\W+0\.250", console.export_text())


def test_pictures_have_their_place_before_they_are_loaded(tmp_path: Path) -> None:
    # They are loaded when they come into view: what is below would move then, away from its link.
    html = report(run_of(MIXED, tmp_path), lambda image_id: png("blue", (1080, 2400)))
    sizes = re.findall(r'<img [^>]*width="(\d+)" height="(\d+)" loading="lazy">', html)
    assert len(sizes) == Page(html).tags.count("img")
    # The screenshots, and the gallery's picture.
    assert set(sizes) == {("108", "228"), ("1080", "2400")}


def test_every_section_can_be_reached_from_the_head(tmp_path: Path) -> None:
    run = run_of(MIXED, tmp_path)
    two = measure_outputs(run.predictions, lambda label: (label, "any"))
    html = report(replace(run, outputs=two), lambda image_id: None)
    sections = re.findall(r'<h2 id="(\w+)">', html)
    assert "outputs" in sections
    assert re.findall(r'<a href="#(\w+)">', html) == sections


def test_the_first_row_of_a_comparison_is_hidden_by_no_other(tmp_path: Path) -> None:
    rule = Rule(threshold=0.5, false_rejection_rate=0.0, rejected={"other": 1.0})
    rows = tuple(
        Row(
            name=name,
            family="pagesight",
            what="",
            micro_f1=1.0,
            auroc=1.0,
            fpr_at_95tpr=0.0,
            left_out=rule,
            both_sides=rule,
            seconds=0.0,
        )
        for name in ("first", "second")
    )
    comparison = Comparison(epsilon=0.05, known=1, unknown={"other": 1}, rows=rows)
    html = report(run_of(MIXED, tmp_path), lambda image_id: None, comparison)
    # What is drawn last lies on top.
    assert re.findall(r"<title>(\w+): 0\.0 % of known", html) == ["second", "first"]


def test_scores_are_laid_beside_those_of_the_labels_own_pictures(tmp_path: Path) -> None:
    run = replace(
        run_of([outcome("a", "a", 0.4), outcome("b", "b", 0.9)], tmp_path),
        own={"a": OwnScores(scores=(0.45, 0.75), rejected=1)},
        ran_with={"own_rejected": 0.25},
    )
    html = report(run, lambda image_id: png())
    # Once in the row of a, once under the picture that was rejected.
    assert html.count('class="band"') == 2
    assert html.count('class="dot out"') == 1
    page = words(Page(html))
    assert "Of all pictures behind the threshold 25.0 % lie below it." in page
    assert "own pictures of a: 0.450 to 0.750, mean 0.600" in page
    # Own pictures, mean, least, rejected; tested, rejected. Of b there is but one picture.
    assert "a 2 0.600 0.450 1 1 1" in page
    assert "b – – – – 1 0" in page


def test_each_mistake_is_shown_with_both_pictures(tmp_path: Path) -> None:
    asked: list[str] = []

    def image_bytes(image_id: str) -> bytes:
        asked.append(image_id)
        return png("blue")

    # Confused: a as b. Accepted: the hard one. Rejected: b. The label that the gallery
    # lacks is no confusion: nothing could have been right.
    page = Page(report(run_of(MIXED, tmp_path), image_bytes))
    assert page.tags.count("article") == 3
    assert page.tags.count("img") == 6
    assert asked == ["0123456789abcdef"]


def test_pictures_that_are_gone_leave_a_note(tmp_path: Path) -> None:
    run = run_of(MIXED, tmp_path)
    (tmp_path / "a" / "2.png").unlink()
    (tmp_path / "b" / "1.png").write_bytes(b"no picture any more")
    page = Page(report(run, lambda image_id: None))
    assert words(page).count("cannot be read again") == 2
    assert words(page).count("picture not kept in the gallery") == 3
    assert page.tags.count("img") == 1


def test_a_section_shows_no_more_than_its_share(tmp_path: Path) -> None:
    confused = [
        outcome(truth, "z", 0.9, name=f"{n}.png") for truth in "abcdefghij" for n in range(5)
    ]
    known = [outcome(truth, truth, 0.9, name="right.png") for truth in "abcdefghijz"]
    page = Page(report(run_of(confused + known, tmp_path), lambda image_id: None))
    assert page.tags.count("article") == MAX_PAIRS
    assert f"{MAX_PAIRS} of 50 are shown" in words(page)
    assert words(page).count("screenshot a/") == MAX_PER_CONFUSION


@pytest.mark.parametrize(
    "outcomes",
    [
        pytest.param([outcome("a", "a", 0.9)], id="nothing wrong, nothing unknown"),
        pytest.param([outcome("other", "a", 0.9)], id="nothing known"),
        pytest.param(
            [Outcome(prediction=Prediction.unreadable("a/1.png", "a", "damaged"))],
            id="nothing readable",
        ),
    ],
)
def test_a_report_of_little_is_still_whole(tmp_path: Path, outcomes: list[Outcome]) -> None:
    html = report(run_of(outcomes, tmp_path), lambda image_id: None)
    assert_stands_alone(html)
    assert "nan" not in Page(html).text.lower()


def test_the_heat_map_has_a_cell_for_every_count_but_zero() -> None:
    drawn = heat_map(Confusion(labels=("a", "额度", ""), matrix=((3, 1, 0), (0, 2, 2), (0, 0, 0))))
    assert [(cell.count, cell.right) for cell in drawn.cells] == [
        (3, True),
        (1, False),
        (2, True),
        (2, False),
    ]
    assert drawn.cells[1].title == "1 of 4 images of a taken for 额度"
    assert [tick.text for tick in drawn.ticks] == ["a", "额度", "(no answer)"]


def test_a_heat_map_of_too_many_classes_keeps_the_confused_ones() -> None:
    size = MAX_CLASSES + 20
    rows = [[5 * (i == j) for j in range(size)] for i in range(size)]
    rows[size - 1][size - 2] = 7
    labels = tuple(f"{i:03}" for i in range(size))
    drawn = heat_map(Confusion(labels=labels, matrix=tuple(map(tuple, rows))))
    assert drawn.omitted == 20
    assert len(drawn.ticks) == MAX_CLASSES
    assert any(cell.count == 7 for cell in drawn.cells)


def test_the_histogram_draws_each_group_as_shares_of_its_own_number() -> None:
    drawn = histogram([0.9, 0.9, 0.9, 0.9], [0.1, 0.9], [0.5, 0.5])
    assert drawn is not None
    assert [bar.title.split(" at ")[0] for bar in drawn.known] == ["4 known (100.0 %)"]
    assert [bar.title.split(" at ")[0] for bar in drawn.unknown] == ["1 unknown (50.0 %)"] * 2
    assert drawn.known[0].height == 2 * drawn.unknown[0].height
    assert drawn.threshold_text == "0.500"


def test_the_histogram_shows_the_span_of_thresholds_that_differ() -> None:
    drawn = histogram([0.9], [], [0.4, 0.6])
    assert drawn is not None
    assert drawn.threshold_text == "0.400 to 0.600"
    assert drawn.threshold[0] < drawn.threshold[1]


@pytest.mark.parametrize("values", [[], [0.5], [-1e9, 1e9], [0.0, 1e-9], [-30.0, 12.5]])
def test_a_scale_holds_its_values_and_has_a_few_round_ticks(values: list[float]) -> None:
    scale = Scale.of(values)
    assert all(0 <= scale.percent(value) <= 100 for value in values)
    assert 4 <= len(scale.ticks()) <= 11


@pytest.mark.parametrize("label", ["short", "额度" * 30, "a_very_long_label_" * 7])
def test_a_long_label_loses_its_middle(label: str) -> None:
    text = shorten(label)
    assert width_cells(text) <= LABEL_CELLS
    assert (text[0], text[-1]) == (label[0], label[-1])


def test_a_thumbnail_is_a_small_jpeg_of_the_head_of_the_page() -> None:
    shot = thumbnail(png("red", (1080, 8000)))
    assert shot is not None
    data = base64.b64decode(shot.address.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as small:
        assert (small.format, small.size) == ("JPEG", (360, 800))
    # A third of the size, so 2400 pixels of the original are to be seen.
    assert (shot.width_px, shot.height_px) == (1080, 2400)


AGREES = Finding(
    kind="agrees",
    text="首页",
    query_box=Box(10, 20, 30, 40),
    gallery_box=Box(11, 21, 31, 41),
    note="2 of 2 pictures of this page show it",
)
NEW = Finding(kind="forbids", text=NASTY, query_box=Box(0, 100, 50, 120))
GONE = Finding(kind="missing", text="额度", gallery_box=Box(0, 60, 50, 80))
BELOW = Finding(kind="agrees", text="foot", query_box=Box(0, 7000, 50, 7020))


def test_boxes_stand_where_the_text_stands_and_none_below_what_is_shown() -> None:
    shot = thumbnail(png("red", (1080, 8000)))
    assert shot is not None
    marks = shot.marked(query_marks([AGREES, NEW, GONE, BELOW])).marks
    # Grown by 1080 // 120 + 1 = 10 pixels on each side, cut at the edge.
    assert [(m.x, m.y, m.width, m.height, m.style) for m in marks] == [
        (0, 10, 40, 40, "good"),
        (0, 90, 70, 40, "bad"),
    ]
    assert marks[0].title == "首页: 2 of 2 pictures of this page show it"
    assert [m.style for m in shot.marked(gallery_marks([AGREES, NEW, GONE])).marks] == [
        "good",
        "warn",
    ]


def test_findings_are_listed_by_kind_the_weightiest_first_and_counted() -> None:
    many = [replace(AGREES, text=f"tab {n}") for n in range(8)]
    lists = by_kind([*many, AGREES, AGREES, NEW, GONE])
    assert [(heading, len(shown), total) for _, heading, shown, total in lists] == [
        ("new to this page", 1, 1),
        ("missing in the screenshot", 1, 1),
        ("agrees", 6, 9),
    ]


def test_a_mistake_is_shown_with_the_deciding_texts_boxed_and_quoted(tmp_path: Path) -> None:
    explained = replace(
        outcome("a", "b", 0.8),
        explanation=Explanation(
            findings=(AGREES, NEW, GONE), why_not="Why not c? It lacks “额度”."
        ),
    )
    both = [explained, outcome("a", "a", 0.9, name="2.png"), outcome("b", "b", 0.9)]
    html = report(run_of(both, tmp_path), lambda image_id: png())
    assert_stands_alone(html)
    assert "<script" not in html
    page = Page(html)
    assert page.tags.count("rect") >= 4
    for text in ("new to this page 1", "missing in the screenshot 1", "Why not c?", NASTY):
        assert text in words(page)


def test_doubtful_answers_have_their_section(tmp_path: Path) -> None:
    near = replace(outcome("a", "a", 0.51), doubtful=True)
    page = Page(report(run_of([near, outcome("b", "b", 0.9)], tmp_path), lambda image_id: png()))
    assert page.tags.count("article") == 1
