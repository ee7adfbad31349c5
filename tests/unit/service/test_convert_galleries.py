"""Messages of galleries and their changes to values, and back."""

from __future__ import annotations

from typing import get_args

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.gallery import (
    Applied,
    Change,
    GalleryInfo,
    ListedImage,
    Outcome,
    Revision,
)
from pagesight_server.gallery.model import ChangeKind
from pagesight_server.gallery.snapshot import LabelFacts, LabelUpdate
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service import convert_galleries
from tests.support.parts import snapshot
from tests.support.serving import details


def test_every_kind_of_change_has_a_value_of_the_contract() -> None:
    assert set(convert_galleries._CHANGES) == set(get_args(ChangeKind))
    assert set(convert_galleries._CHANGES.values()) == {n for n in gpb.RevisionKind.values() if n}


def test_a_change_fills_in_the_default_gallery() -> None:
    message = gpb.Change(request_id="r", expected_revision=3, author="mei")
    assert convert_galleries.change_of(message) == Change(
        gallery="default", author="mei", request_id="r", expected_revision=3
    )


def test_a_revision_that_is_not_expected_is_not_the_revision_zero() -> None:
    assert convert_galleries.change_of(gpb.Change()).expected_revision is None
    assert convert_galleries.change_of(gpb.Change(expected_revision=0)).expected_revision == 0


@pytest.mark.parametrize(
    "change",
    [
        gpb.Change(expected_revision=-1),
        gpb.Change(request_id="x" * 257),
        gpb.Change(author="x" * 257),
    ],
)
def test_a_change_that_cannot_be_is_refused(change: gpb.Change) -> None:
    with pytest.raises(InvalidRequestError):
        convert_galleries.change_of(change)


def test_an_enrolment_is_answered_item_by_item() -> None:
    applied = Applied(
        revision=4,
        counts={"added": 1},
        outcomes=(
            Outcome(image_id="aa", added=True),
            Outcome(image_id="", added=False, error=("INVALID_ARGUMENT", "IMAGE_UNUSABLE", "no")),
        ),
    )
    reply = convert_galleries.enrolled(applied)
    assert reply.revision == 4
    good, bad = reply.outcomes
    assert (good.image_id, good.added, good.HasField("error")) == ("aa", True, False)
    assert (bad.added, bad.error.code, bad.error.message) == (False, 3, "no")
    assert details(bad.error) == ("IMAGE_UNUSABLE", None)


@pytest.mark.parametrize(
    ("unix_ms", "shown"),
    [
        (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
        pytest.param(-1, "1969-12-31T23:59:59.999Z", id="a clock before 1970"),
    ],
)
def test_times_are_timestamps(unix_ms: int, shown: str) -> None:
    made = Revision(revision=1, made_at_ms=unix_ms, author="", kind="enrol", summary="s", images=2)
    assert convert_galleries.revision(made).made_at.ToJsonString() == shown
    listed = ListedImage(
        image_id="aa",
        label="a",
        source="s",
        author="mei",
        added_at_ms=unix_ms,
        added_revision=1,
        width_px=1,
        height_px=2,
        text_lines=3,
    )
    message = convert_galleries.image(listed)
    assert message.added_at.ToJsonString() == shown
    assert (message.width_px, message.height_px, message.text_lines) == (1, 2, 3)


def test_labels_are_listed_in_order_with_what_is_known_of_them() -> None:
    listed = convert_galleries.labels(
        {"b": 2, "a": 1}, {"b": LabelFacts(brands=("B",), outputs=("x",))}
    )
    assert listed == [
        gpb.Label(label="a", images=1),
        gpb.Label(label="b", images=2, brands=["B"], outputs=["x"]),
    ]


@pytest.mark.parametrize(
    ("mask", "brands", "outputs"),
    [
        pytest.param(None, ("A",), None, id="no mask: what is not empty"),
        pytest.param(["brands"], ("A",), None, id="brands alone"),
        pytest.param(["outputs"], None, (), id="an empty field that is named is cleared"),
        pytest.param(["brands", "outputs"], ("A",), (), id="both"),
        pytest.param(["*"], ("A",), (), id="all"),
        pytest.param([], None, None, id="a mask of nothing"),
    ],
)
def test_a_mask_says_which_fields_of_labels_are_set(
    mask: list[str] | None, brands: tuple[str, ...] | None, outputs: tuple[str, ...] | None
) -> None:
    request = gpb.SetLabelsRequest(labels=[gpb.Label(label="a", brands=["A"])])
    if mask is not None:
        request.update_mask.CopyFrom(FieldMask(paths=mask))
    assert convert_galleries.updates_of(request) == {
        "a": LabelUpdate(brands=brands, outputs=outputs)
    }


@pytest.mark.parametrize(
    ("labels", "mask", "problem"),
    [
        ([gpb.Label(label="a"), gpb.Label(label="a")], [], "named twice"),
        ([gpb.Label(label="\u00e9"), gpb.Label(label="e\u0301")], [], "named twice"),
        ([gpb.Label(label="a", brands=[" "])], ["brands"], "brands of label 'a' are names"),
        ([gpb.Label(label="a", outputs=[""])], ["outputs"], "one of them is empty"),
        ([gpb.Label(label="a", outputs=["x"] * 300_000)], ["outputs"], "100 names, not 300,000"),
        ([gpb.Label(label="a", brands=["x" * 129])], ["brands"], "at most 128 characters"),
        ([gpb.Label(label="a\u202eb")], [], "cannot be a label"),
        ([gpb.Label(label="a")], ["images"], "update_mask names 'images'"),
        ([gpb.Label(label="a")], ["brands.x"], "it may name brands and outputs"),
    ],
)
def test_what_cannot_be_said_of_labels_is_refused(
    labels: list[gpb.Label], mask: list[str], problem: str
) -> None:
    request = gpb.SetLabelsRequest(labels=labels, update_mask=FieldMask(paths=mask))
    with pytest.raises(InvalidRequestError, match=problem):
        convert_galleries.updates_of(request)


def test_a_gallery_tells_how_many_of_its_own_pictures_would_be_rejected() -> None:
    known = Knowledge.of(
        snapshot(("a", (1, 0), ["abcd"])),
        calibration=Calibration(
            epsilon=0.05,
            pictures=5,
            guaranteed=False,
            threshold_with_text=0.5,
            threshold_without_text=0.9,
            scores_with_text=(0.1, 0.2, 0.6, 0.7, 0.8),
            scores_without_text=(0.6, 0.95, 0.95, 0.95, 0.95),
        ),
    )
    info = GalleryInfo(
        name="default", revision=1, images=1, labels=1, encoder_bundle="e", ocr_bundle="o"
    )
    made = convert_galleries.gallery(info, known).calibration
    assert (made.rejected_with_text, made.rejected_without_text) == (0.4, 0.2)
