"""The bench of recognition: its rates worked out by hand, its sets, its list of constants."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation import Prediction, measure
from pagesight_server.gallery.snapshot import OTHER, LabelFacts
from pagesight_server.recognition import evidence, whitening
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.scorers import replaced, scorer
from pagesight_server.recognition.whitening import WithinLabelMetric
from tests.bench import bench_recognition
from tests.bench.recognition import tables
from tests.bench.recognition.constants import (
    CONSTANTS,
    UNTRIED,
    Constant,
    Effect,
    assigned_names,
    sensitivity,
)
from tests.bench.recognition.curve import curve, split_tests, with_pictures
from tests.bench.recognition.figures import (
    Rate,
    clustered_weights,
    figures,
    rejected_at,
    rejection_for,
)
from tests.bench.recognition.methods import OURS, PUBLISHED, answers
from tests.bench.recognition.results import SetResult, judge, rule
from tests.bench.recognition.sets import (
    Drawing,
    ScreenSet,
    TestScreenshot,
    read_provenance,
    variants,
)
from tests.support.parts import image_id, reading, snapshot, unit

GALLERY = snapshot(
    ("a", (1, 0, 0), ["alpha page"]),
    ("a", (10, 1, 0), ["alpha page"]),
    ("b", (0, 1, 0), ["beta site"]),
    ("b", (1, 10, 0), ["beta site"]),
)


def screenshot(
    number: int, truth: str, direction: tuple[float, ...], text: str, **split: str
) -> TestScreenshot:
    return TestScreenshot(
        path=f"{truth}/{number}.png",
        image_id=image_id(100 + number),
        truth=truth,
        query=Query(embedding=unit(*direction), reading=reading(text)),
        split=tuple(split.items()),
    )


SET = ScreenSet(
    name="shapes",
    snapshot=GALLERY,
    tests=(
        screenshot(0, "a", (20, 1, 0), "alpha page", version="same"),
        screenshot(1, "a", (30, 1, 0), "alpha page", version="newer"),
        # Looks like a and says what b says.
        screenshot(2, "b", (1, 0, 0), "beta site", version="newer"),
        screenshot(3, "b", (1, 20, 0), "beta site", version="same"),
        screenshot(4, "other", (0, 0, 1), "weather"),
        screenshot(5, "other_hard", (10, 0, 1), "gamma"),
    ),
)


def prediction(
    path: str, truth: str, closed: str, score: float, threshold: float = 0.5
) -> Prediction:
    return Prediction(
        path=path,
        truth=truth,
        closed_label=closed,
        score=score,
        label=closed if score >= threshold else OTHER,
        threshold=threshold,
    )


PREDICTIONS = [
    prediction("a/1", "a", "a", 0.9),
    prediction("a/2", "a", "a", 0.4),
    prediction("b/1", "b", "b", 0.8),
    prediction("b/2", "b", "a", 0.7),
    prediction("other/1", "other", "a", 0.2),
    prediction("other_hard/1", "other_hard", "b", 0.75),
]


def test_the_figures_are_those_of_the_evaluation() -> None:
    made = figures(PREDICTIONS)
    assert (made.known, made.unknown) == (4, 2)
    assert made.micro_f1 is not None
    assert made.micro_f1.value == 3 / 4
    # Of eight pairs the known score is the lower one in two: 0.4 and 0.7 against 0.75.
    assert made.auroc is not None
    assert made.auroc.value == 6 / 8 == measure(PREDICTIONS).open_set.auroc
    assert made.false_rejection is not None
    assert made.false_rejection.value == 1 / 4
    assert made.rejected is not None
    assert made.rejected.value == 1 / 2
    assert made.rejected_by_kind == {"other": (1, 1), "other_hard": (0, 1)}
    # 8 % of four known screenshots is none of them: the threshold is 0.4.
    assert made.rejected_in_hindsight is not None
    assert made.rejected_in_hindsight.value == 1 / 2


def test_a_rate_that_no_draw_changes_has_an_interval_of_no_width() -> None:
    right = [p for p in PREDICTIONS if p.known and p.right]
    made = figures([*right, prediction("other/1", "other", "a", 0.2)])
    assert made.micro_f1 == made.auroc == Rate(value=1.0, low=1.0, high=1.0)
    assert made.false_rejection == Rate(value=0.0, low=0.0, high=0.0)
    assert made.rejected_in_hindsight == Rate(value=1.0, low=1.0, high=1.0)


def test_an_interval_spans_what_draws_of_whole_pages_can_be() -> None:
    # Page a is right and page b half right: drawn twice each half of the time, once both.
    made = figures(PREDICTIONS)
    assert made.micro_f1 == Rate(value=0.75, low=0.5, high=1.0)
    assert made.auroc is not None
    assert made.auroc.low < 0.75 < made.auroc.high


def test_a_rate_of_nothing_is_none() -> None:
    made = figures([p for p in PREDICTIONS if p.known])
    assert made.micro_f1 is not None
    assert (made.auroc, made.rejected, made.rejected_in_hindsight) == (None, None, None)


def test_a_draw_takes_all_pictures_of_a_page_equally_often() -> None:
    weights = clustered_weights(["a", "b", "a", "c"], 200, np.random.Generator(np.random.PCG64(1)))
    assert weights.shape == (200, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])
    # Three pages are drawn each time.
    assert np.array_equal(weights[:, [0, 1, 3]].sum(axis=1), np.full(200, 3.0))


@pytest.mark.parametrize(
    ("share", "rejected"),
    [
        # No known score may go: the threshold is the lowest, 1, and 0 lies below it.
        (0.08, 1 / 4),
        # One of four may: the threshold is 2, above 0 and 1.5.
        (0.25, 2 / 4),
        (0.5, 3 / 4),
    ],
)
def test_a_threshold_in_hindsight_is_the_highest_that_keeps_false_rejections_few(
    share: float, rejected: float
) -> None:
    assert rejected_at(share, [3, 1, 4, 2], [0, 5, 2.5, 1.5]) == rejected


def test_at_equal_rejection_as_many_unknown_scores_lie_below_the_threshold() -> None:
    known, unknown = [1.0, 2.0, 3.0, 4.0], [0.0, 1.5, 2.0, 5.0]
    assert rejection_for(0, known, unknown) == 0
    assert rejection_for(2, known, unknown) == 1 / 4
    # The third unknown score is 2; a threshold above it rejects the known 2 too.
    assert rejection_for(3, known, unknown) == 2 / 4


def test_the_rule_gives_ours_the_threshold_that_rejects_as_many() -> None:
    published = [
        prediction("a/1", "a", "a", 0.6),
        prediction("b/1", "b", "a", 0.4),
        prediction("other/1", "other", "a", 0.3),
        prediction("other/2", "other", "a", 0.7),
    ]
    ours = [
        prediction("a/1", "a", "a", 0.9),
        prediction("b/1", "b", "b", 0.3),
        prediction("other/1", "other", "a", 0.2),
        prediction("other/2", "other", "a", 0.4),
    ]
    made = rule(ours, published)
    assert made is not None
    assert (made.micro_f1, made.published_micro_f1, made.rejected) == (1.0, 0.5, 1)
    # Just above 0.2 one unknown screenshot is rejected, and no known one.
    assert (made.false_rejection, made.published_false_rejection) == (0.0, 0.5)
    assert made.kept
    turned = rule(published, ours)
    assert turned is not None
    assert not turned.kept


def test_the_rule_says_nothing_where_nothing_unknown_is_tested() -> None:
    known = [p for p in PREDICTIONS if p.known]
    assert rule(known, known) is None


def test_the_published_method_keeps_its_own_threshold() -> None:
    by_name = {a.method: a for a in answers(SET, epsilon=0.05, names=(OURS, PUBLISHED))}
    assert set(by_name) == {OURS, PUBLISHED}
    # Left out, each picture has a twin at cosine 10 / sqrt(101) that reads the same.
    likeness = 0.6 * 10 / 101**0.5 + 0.4
    assert by_name[PUBLISHED].predictions[0].threshold == pytest.approx(likeness, abs=1e-6)
    assert [p.path for p in by_name[OURS].predictions] == [test.path for test in SET.tests]


@pytest.fixture(scope="module")
def result() -> SetResult:
    return judge(SET, epsilon=0.05)


def test_a_set_is_judged_by_every_method_and_split_by_version(result: SetResult) -> None:
    methods = [row.method for row in result.rows]
    assert methods[:2] == [OURS, "without OCR"]
    assert methods[-1] == PUBLISHED
    assert {m for m in methods if m.startswith("without ")} >= {"without looks", "without siblings"}
    newer = next(s for s in result.splits if (s.method, s.kind) == (OURS, "version newer"))
    assert (newer.known, newer.micro_f1) == (2, 1.0)


def test_the_table_has_a_row_of_the_last_release_beside_ours(result: SetResult) -> None:
    before = json.loads(json.dumps({"sets": [result.to_json()]}))
    lines = tables.methods_table([result], before).splitlines()
    ours = next(line for line in lines if f"| {OURS} |" in line)
    assert lines[-1] == ours.replace(f"| {OURS} |", f"| {tables.LAST_RELEASE} |")
    assert "hard " in ours
    moved = tables.differences_table([result], before).splitlines()
    assert moved[2] == f"| shapes | {OURS} | +0.000 | +0.000 | +0.000 | +0.000 | +0.000 |"
    assert tables.rows_of(None) == {}


def test_tables_say_what_each_set_lacks(result: SetResult) -> None:
    nothing = replace(result, splits=(), rule=None)
    assert tables.splits_table([nothing]) == ""
    without_looks = next(row for row in result.rows if row.method == "without looks")
    alone = replace(result, rows=(result.rows[0], without_looks))
    assert tables.terms_table([alone]).count("\n") == 2
    assert tables.rule_table([nothing]).count("\n") == 1
    assert "| shapes | version newer | 2 | 1.000 |" in tables.splits_table([result])


def test_a_set_has_variants_only_where_they_differ() -> None:
    assert [one.name for one in variants(SET, per_page=[1, 2], without_brands=True)] == [
        "shapes",
        "shapes, 1 a page",
    ]
    branded = replace(SET, snapshot=replace(GALLERY, facts={"a": LabelFacts(brands=("x",))}))
    made = variants(branded, without_brands=True)
    assert [one.name for one in made] == ["shapes", "shapes, no brands"]
    assert dict(made[1].snapshot.facts) == {}
    few = SET.per_page(1).snapshot
    assert [picture.image_id for picture in few.pictures] == [image_id(0), image_id(2)]
    assert np.array_equal(few.embeddings[np.arange(2)], GALLERY.embeddings[np.asarray([0, 2])])


def test_test_screenshots_move_into_the_gallery_but_half_of_them_stay() -> None:
    tested, spare = split_tests(SET, 8)
    # Two of each page: one may move. Unknown pages never do.
    assert [test.path for test in spare] == ["a/0.png", "b/2.png"]
    assert len(tested) == 4
    # Two pictures a page are there already.
    assert split_tests(SET, 2) == (SET.tests, ())


def test_a_page_takes_its_gallery_pictures_before_its_test_screenshots() -> None:
    tested, spare = split_tests(SET, 3)
    ids = [
        [p.image_id for p in with_pictures(SET, tested, spare, size, 0).snapshot.pictures]
        for size in (2, 3, 8)
    ]
    assert ids[0] == [image_id(n) for n in (0, 1, 2, 3)]
    assert ids[1] == ids[2] == [image_id(n) for n in (0, 1, 100, 2, 3, 102)]


def test_the_curve_tests_every_size_by_the_same_screenshots() -> None:
    points = curve(SET, epsilon=0.05, sizes=(1, 3), orders=2)
    assert {(p.method, p.size, p.pictures) for p in points} == {
        (method, size, float(size)) for method in (OURS, PUBLISHED) for size in (1, 3)
    }
    assert {(p.known, p.unknown) for p in points} == {(2, 2)}
    assert tables.curve_table(points).count("\n") == 3


def test_provenance_says_version_and_language_where_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "PROVENANCE.tsv"
    path.write_text("file\tlocale\tversion\ntest/a/1.png\ten\tnewer\ntest/a/2.png\tde\t\n", "utf-8")
    assert read_provenance(path) == {
        "test/a/1.png": (("version", "newer"),),
        "test/a/2.png": (),
    }
    assert read_provenance(tmp_path / "none.tsv") == {}
    path.write_text("picture\tversion\n1.png\tnewer\n", "utf-8")
    with pytest.raises(SetupError, match="no column `file`"):
        read_provenance(path)


def test_a_drawing_is_named_by_its_seed() -> None:
    assert Drawing.parse("201:10:4:12") == Drawing(seed=201, gallery=10, test=4, other=12)
    assert Drawing.parse("201:10:4:12").name == "drawn 201"
    with pytest.raises(ValueError, match="not enough values"):
        Drawing.parse("201:10")


def test_the_command_asks_for_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_recognition.main([])
    assert "say which sets" in capsys.readouterr().err


def test_the_command_names_a_constant_that_there_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        bench_recognition.main(["DIR", "--sensitivity", "calibration.NOTHING"])
    assert "no constant calibration.NOTHING: there are balance.PRIOR[0]," in capsys.readouterr().err


# --- constants --------------------------------------------------------------

MODULES = {constant.module for constant in CONSTANTS} | {
    module for modules in UNTRIED.values() for module in modules
}


def constant(title: str) -> Constant:
    return next(one for one in CONSTANTS if one.title == title)


def test_no_number_of_recognition_is_missing_from_the_list() -> None:
    listed = {(one.module, one.name) for one in CONSTANTS if not one.owner}
    assert len(CONSTANTS) == len({one.title for one in CONSTANTS})
    for modules in UNTRIED.values():
        for module, names in modules.items():
            for name in names:
                assert (module, name) not in listed
                listed.add((module, name))
    found = set()
    root = Path(inspect.getfile(evidence)).parents[1]
    for folder in ("recognition", "text"):
        for file in sorted((root / folder).rglob("*.py")):
            module = ".".join(file.relative_to(root).with_suffix("").parts)
            values = vars(importlib.import_module(f"pagesight_server.{module}"))
            for statement in ast.parse(file.read_text("utf-8")).body:
                for name in assigned_names(statement):
                    if name.isupper() and isinstance(values[name], int | float | np.ndarray):
                        found.add((module, name))
    assert found == listed


@pytest.mark.parametrize("one", CONSTANTS, ids=lambda one: one.title)
def test_a_constant_has_its_reason_beside_it_and_two_tries(one: Constant) -> None:
    assert len(one.reason) > 20
    low, high, *also = one.tries()
    assert low < one.value < high
    assert one.value not in also
    if one.share_of is not None:
        assert 0 < low < high < one.share_of


def test_a_share_moves_by_its_odds() -> None:
    # 0.6 is 3 to 2; 3 to 4 is three sevenths, 3 to 1 three quarters.
    assert constant("scorer.MAX_TRUST").tries() == pytest.approx((3 / 7, 3 / 4))
    assert constant("variants.ALIKE").tries() == pytest.approx((200 / 3, 800 / 9))


def test_a_moved_constant_reaches_every_module_that_reads_it_and_comes_back() -> None:
    with constant("brands.RANKED_SHARE").moved(0.3):
        assert vars(replaced)["RANKED_SHARE"] == 0.3
    assert vars(replaced)["RANKED_SHARE"] == 0.1
    with constant("balance.MIN_PICTURES").moved(40.0):
        assert vars(evidence)["MIN_FITTED"] == 40
    assert vars(evidence)["MIN_FITTED"] == 20
    with constant("evidence.K").moved(32.0):
        assert evidence.PagesightMethod.K == 32
    assert evidence.PagesightMethod.K == 64
    with constant("scorer.LOOKS_SHARE").moved(0.9):
        assert vars(evidence)["LOOKS_SHARE"] == scorer.LOOKS_SHARE == 0.9
        # As large by chance, and other constants.
        assert (scorer.MAX_TRUST, scorer.VISUAL_WEIGHT) == (0.6, 0.6)
        assert scorer.Weights.of(0.0).looks == 0.9
    assert scorer.Weights.of(0.0).looks == 0.6


def test_a_moved_constant_reaches_defaults() -> None:
    vectors, codes = np.eye(4, dtype=np.float32), np.asarray([0, 0, 1, 1])
    query = unit(3, 1, 0, 0)
    as_it_is = WithinLabelMetric.fit(vectors, codes).cosines(query, vectors)
    with constant("whitening.SHRINKAGE").moved(0.4):
        moved = WithinLabelMetric.fit(vectors, codes).cosines(query, vectors)
        assert np.array_equal(
            moved, WithinLabelMetric.fit(vectors, codes, shrinkage=0.4).cosines(query, vectors)
        )
    assert not np.allclose(moved, as_it_is)
    assert whitening.SHRINKAGE == 0.2
    assert np.array_equal(WithinLabelMetric.fit(vectors, codes).cosines(query, vectors), as_it_is)


def test_an_element_of_an_array_moves_alone() -> None:
    prior = constant("balance.PRIOR[0]")
    with prior.moved(24.0):
        assert prior.value == 24.0
    assert prior.value == 12.0


def test_sensitivity_says_what_each_try_moves() -> None:
    tried = [constant("calibration.PICTURES_FOR_HALF"), constant("brands.SCORE_PER_NAT")]
    effects = list(sensitivity(SET, epsilon=0.05, constants=tried))
    assert [(e.constant, e.set_name) for e in effects] == [
        (one.title, "shapes") for one in tried for _ in one.tries()
    ]
    # The threshold moves no rank, and nobody named a brand.
    assert {(e.micro_f1, e.auroc) for e in effects} == {(0.0, 0.0)}
    assert {(e.false_rejection, e.rejected) for e in effects[-2:]} == {(0.0, 0.0)}


def test_the_table_of_constants_tells_each_reason_once() -> None:
    moved = [
        Effect(
            constant=title,
            value=0.5,
            tried=tried,
            set_name=name,
            micro_f1=change,
            auroc=0.0,
            false_rejection=0.0,
            rejected=0.0,
        )
        for title in ("lines.MAX_DX", "lines.MAX_DY")
        for tried in (0.25, 1.0)
        for name, change in (("one", -0.01), ("two", 0.02))
    ]
    made = tables.sensitivity_table(
        moved, [constant("lines.MAX_DX"), constant("lines.MAX_DY")]
    ).splitlines()
    assert "| -0.010 to +0.020 | 0 | 0 | 0 |" in made[2]
    assert made[2].endswith(f"| {constant('lines.MAX_DX').reason} |")
    assert made[3].startswith("|  |  | 1 |")
    assert made[4].endswith("| as above |")
