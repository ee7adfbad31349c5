"""Business labels: a page may stand for several, and several pages for one."""

from __future__ import annotations

import pytest

from pagesight_server.evaluation import Prediction
from pagesight_server.evaluation.outputs import NO_OUTPUTS, measure_outputs

OUTPUTS = {"dyfxj_amount": ("dyfxj", "amount"), "ppd_amount": ("ppd", "amount")}


def outputs(label: str) -> tuple[str, ...]:
    return OUTPUTS.get(label, (label,))


def prediction(truth: str, answer: str) -> Prediction:
    return Prediction(
        path=f"{truth}/1.png", truth=truth, closed_label=answer, score=1, label=answer, threshold=0
    )


def test_a_page_taken_for_another_of_the_same_kind_is_half_right() -> None:
    metrics = measure_outputs(
        [
            prediction("dyfxj_amount", "dyfxj_amount"),
            prediction("dyfxj_amount", "ppd_amount"),
            prediction("ppd_amount", "ppd_amount"),
            prediction("other", "ppd_amount"),
        ],
        outputs,
    )
    # amount: 3 of 3 right. dyfxj: 1 of 2 found. ppd: 1 found, 1 too many.
    amount, dyfxj, ppd = (metrics.per_class[name] for name in ("amount", "dyfxj", "ppd"))
    assert (amount.tp, amount.fp, amount.fn, amount.tn) == (3, 0, 0, 0)
    assert (dyfxj.tp, dyfxj.fp, dyfxj.fn, dyfxj.tn) == (1, 0, 1, 1)
    assert (ppd.tp, ppd.fp, ppd.fn, ppd.tn) == (1, 1, 0, 1)
    # 5 right of 6 true and 6 answered.
    assert metrics.micro_f1 == pytest.approx(2 * 5 / 12)
    assert metrics.macro_f1 == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert metrics.n == 3
    assert metrics.exact == pytest.approx(2 / 3)


def test_an_unreadable_image_has_no_business_label() -> None:
    metrics = measure_outputs(
        [Prediction.unreadable("ppd_amount/1.png", "ppd_amount", "damaged")], outputs
    )
    assert metrics.micro_f1 == 0
    assert metrics.per_class["amount"].fn == 1


def test_without_business_labels_the_pages_stand_for_themselves() -> None:
    metrics = measure_outputs([prediction("a", "a"), prediction("b", "a")], lambda label: (label,))
    assert metrics.micro_f1 == metrics.exact == 0.5
    assert set(metrics.per_class) == {"a", "b"}


def test_no_known_image_has_no_figures() -> None:
    assert measure_outputs([prediction("other", "a")], outputs) == NO_OUTPUTS
