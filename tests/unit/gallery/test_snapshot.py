"""A gallery at one revision: labels, reserved ones, business labels, bundles."""

from __future__ import annotations

import pytest

from pagesight_server.common.errors import BundleMismatchError, InvalidRequestError
from pagesight_server.gallery.snapshot import LabelFacts, check_bundles, check_label, is_reserved
from tests.support.parts import BUNDLES, OTHER_BUNDLES, snapshot


@pytest.mark.parametrize(
    ("label", "reserved"),
    [
        ("other", True),
        ("other_", True),
        ("other_finance", True),
        ("others_page", False),
        ("another", False),
        ("Other", False),
        ("zsyh_other", False),
    ],
)
def test_other_and_labels_that_begin_with_it_are_reserved(label: str, reserved: bool) -> None:
    assert is_reserved(label) is reserved


@pytest.mark.parametrize(
    "label", ["a", "招商银行 首页", "x" * 128, "a.b", "...", "a\\b", "😀", "other_ads"]
)
def test_what_can_be_a_label(label: str) -> None:
    assert check_label(label) == label


@pytest.mark.parametrize(
    "label",
    ["", "x" * 129, "a/b", ".", "..", "a\nb", "a\0", "\x7f", "\x85", " a", "a ", "\ud8ff"]
    + [
        f"a{chr(c)}b"
        for c in (0x61C, 0x200E, 0x200F, 0x202A, 0x202E, 0x2066, 0x2069, 0x2028, 0x2029)
    ],
)
def test_what_cannot_be_a_label(label: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be a label: use 1 to 128 characters"):
        check_label(label)


def test_a_label_is_given_back_in_normal_form_c() -> None:
    assert check_label("cafe\u0301") == "caf\u00e9"
    assert (
        check_label("\u1112\u1161\u11ab" * 128) == "\ud55c" * 128
    )  # 384 characters as macOS has it


def test_the_labels_are_the_possible_answers_in_order() -> None:
    gallery = snapshot(
        ("b", (1, 0), ()), ("a", (1, 0), ()), ("other_x", (1, 0), ()), ("a", (0, 1), ())
    )
    assert gallery.labels == ("a", "b")


def test_the_business_labels_of_a_page_are_its_own_label_unless_set() -> None:
    facts = {"a": LabelFacts(outputs=("dyfxj", "amount")), "b": LabelFacts(brands=("B",))}
    gallery = snapshot(("a", (1, 0), ()), facts=facts)
    assert gallery.outputs("a") == ("dyfxj", "amount")
    assert gallery.outputs("b") == ("b",)
    assert gallery.outputs("c") == ("c",)
    assert gallery.outputs("other") == ()


def test_a_gallery_made_with_other_bundles_is_refused() -> None:
    check_bundles("g", BUNDLES, BUNDLES)
    with pytest.raises(BundleMismatchError, match=f"made with {OTHER_BUNDLES.encoder}"):
        check_bundles("g", OTHER_BUNDLES, BUNDLES)
