"""Arguments become messages, messages become values."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

import pagesight
from pagesight import _replies, _requests
from pagesight.v1 import classifier_pb2, gallery_pb2


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_of_any_kind_are_sent_as_they_are(kind: Any) -> None:
    assert _requests.read_image(kind(b"picture")) == b"picture"


def test_a_file_is_read_from_a_path_or_its_name(tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(b"picture")
    assert _requests.read_image(file) == _requests.read_image(str(file)) == b"picture"


@pytest.mark.parametrize("name", ["gone.png", "", "nul\0byte"], ids=["gone", "a folder", "no name"])
def test_a_file_that_cannot_be_read_is_its_own_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(pagesight.UnreadableFileError, match="cannot read") as caught:
        _requests.read_image(f"{tmp_path}/{name}")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.reason == "FILE_UNREADABLE"
    assert caught.value.__cause__ is not None


def test_a_picture_that_no_message_can_carry_is_refused_before_sending(tmp_path: Path) -> None:
    file = tmp_path / "big.png"
    with file.open("wb") as sparse:
        sparse.truncate(_requests.MAX_IMAGE_BYTES + 1)
    with pytest.raises(pagesight.InvalidImageError, match=r"longer than the 19\.9 MiB"):
        _requests.read_image(file)
    with pytest.raises(pagesight.InvalidImageError, match="longer"):
        _requests.read_image(bytes(_requests.MAX_IMAGE_BYTES + 1))


def test_what_is_no_picture_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="bytes or the path of a file, not int"):
        _requests.read_image(3)  # type: ignore[arg-type]


def test_options_become_the_fields_of_the_query() -> None:
    query = _requests.query(
        {
            "gallery": "apps",
            "top_k": 3,
            "ocr": False,
            "explain": True,
            "deadline_ms": 800,
            "priority": "high",
            "traceparent": "00-1-2-01",
            "min_revision": 0,
        }
    )
    assert query.HasField("min_revision")
    assert query == classifier_pb2.Query(
        min_revision=0,
        gallery="apps",
        deadline_ms=800,
        priority=classifier_pb2.PRIORITY_HIGH,
        traceparent="00-1-2-01",
        options=classifier_pb2.Options(top_k=3, ocr=classifier_pb2.OCR_MODE_OFF, explain=True),
    )


def test_options_left_out_are_left_to_the_server() -> None:
    query = _requests.query({"ocr": None, "deadline_ms": None, "priority": None})
    assert query == classifier_pb2.Query(options=classifier_pb2.Options())


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"galery": "x"}, TypeError, "no such option: galery"),
        ({"priority": "urgent"}, ValueError, "'low', 'normal' or 'high'"),
        ({"top_k": -1}, ValueError, "cannot be negative"),
        ({"min_revision": -1}, ValueError, "cannot be negative"),
        ({"deadline_ms": -5}, ValueError, "cannot be negative"),
    ],
)
def test_wrong_options_say_what_to_write_instead(
    options: Any, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        _requests.query(options)


def test_every_change_has_a_request_id_of_its_own() -> None:
    first, second = _requests.change({}), _requests.change({})
    assert first.request_id
    assert first.request_id != second.request_id
    assert _requests.change({"request_id": "mine"}).request_id == "mine"


def test_a_revision_that_is_left_out_is_not_the_revision_zero() -> None:
    assert not _requests.query({}).HasField("min_revision")
    assert not _requests.change({}).HasField("expected_revision")
    assert not _requests.change({"expected_revision": None}).HasField("expected_revision")
    assert _requests.change({"expected_revision": 0}).HasField("expected_revision")
    assert _requests.rollback(0, {}).HasField("to_revision")


def test_the_fields_to_set_of_labels_are_those_that_are_named() -> None:
    known = [pagesight.LabelInfo(label="a", brands=("A",))]
    assert not _requests.set_labels(known, None, {}).HasField("update_mask")
    assert list(_requests.set_labels(known, ["brands"], {}).update_mask.paths) == ["brands"]
    with pytest.raises(ValueError, match="'brands' and 'outputs', not images"):
        _requests.set_labels(known, ["images"], {})  # type: ignore[list-item]


def test_a_gallery_is_deleted_by_its_name_alone() -> None:
    assert _requests.delete_gallery("apps", {}).change.gallery == "apps"
    with pytest.raises(ValueError, match="name the one to delete"):
        _requests.delete_gallery("", {})


@pytest.mark.parametrize(
    ("enum", "read"),
    [
        (classifier_pb2.ScoreTermName, _replies._TERMS),
        (classifier_pb2.ReviewReason, _replies._REVIEW_REASONS),
        (classifier_pb2.FindingKind, _replies._KINDS),
        (gallery_pb2.RevisionKind, _replies._CHANGES),
        (gallery_pb2.CalibrationSource, _replies._SOURCES),
    ],
)
def test_every_value_of_an_enum_but_the_unspecified_has_a_name(
    enum: Any, read: dict[int, str]
) -> None:
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    assert {prefix + name.upper(): number for number, name in read.items()} == {
        name: number for name, number in enum.items() if number
    }


def test_values_that_only_a_newer_server_knows_are_unknown() -> None:
    message = classifier_pb2.Classification(
        review_reasons=[99],  # type: ignore[list-item]
        candidates=[classifier_pb2.Candidate(terms=[classifier_pb2.ScoreTerm()])],
    )
    value = _replies.classification(message)
    assert value.review_reasons == ("unknown",)
    assert value.candidates[0].terms[0].name == "unknown"
    assert _replies.revision(gallery_pb2.Revision()).kind == "unknown"


def test_a_call_that_ends_without_a_result_is_an_error() -> None:
    told: list[pagesight.Progress] = []
    replies = [gallery_pb2.DiagnoseResponse(progress=gallery_pb2.Progress(done=1, total=2))]
    with pytest.raises(pagesight.InternalError, match="without a result"):
        _replies.last(replies, told.append)
    assert told == [pagesight.Progress(done=1, total=2)]


def test_a_single_id_in_place_of_several_is_refused() -> None:
    with pytest.raises(TypeError, match="put a single one into a list"):
        _requests.remove("a" * 64, {})


def test_a_classification_holds_every_field_of_its_message() -> None:
    message = classifier_pb2.Classification(
        label="zsyh_amount",
        closest_label="zsyh_amount",
        score=0.75,
        threshold=0.5,
        outputs=["zsyh", "amount"],
        doubt=0.25,
        review=True,
        review_reasons=[
            classifier_pb2.REVIEW_REASON_NEAR_THRESHOLD,
            classifier_pb2.REVIEW_REASON_CLOSE_RUNNER_UP,
            classifier_pb2.REVIEW_REASON_BRAND_NOT_VISIBLE,
            classifier_pb2.REVIEW_REASON_LOOKS_UNLIKE,
            classifier_pb2.REVIEW_REASON_UNCALIBRATED,
        ],
        candidates=[
            classifier_pb2.Candidate(
                label="zsyh_amount",
                score=0.75,
                rank_score=0.5,
                terms=[
                    classifier_pb2.ScoreTerm(
                        name=classifier_pb2.SCORE_TERM_NAME_LOOKS, score=1.0, rank_score=0.5
                    ),
                    classifier_pb2.ScoreTerm(
                        name=classifier_pb2.SCORE_TERM_NAME_MISSING_BRAND, score=-0.25
                    ),
                ],
                visual=0.5,
                textual=0.25,
                image_id="ab",
                matching_lines=[
                    classifier_pb2.MatchingLine(
                        query_text="额度", gallery_text="总额度", similarity=0.8
                    )
                ],
            )
        ],
        reasons=["brand 招商银行: visible"],
        findings=[
            classifier_pb2.Finding(
                kind=classifier_pb2.FINDING_KIND_FORBIDS,
                text="三湘银行",
                query_box=classifier_pb2.Box(left=1, top=2, right=30, bottom=40),
                note="no picture of this page shows it",
            ),
            classifier_pb2.Finding(text="额度", gallery_box=classifier_pb2.Box(right=5, bottom=6)),
        ],
        gallery="default",
        revision=3,
        encoder_bundle="e",
        ocr_bundle="o",
        stage_ms={"total": 12.5},
    )
    value = _replies.classification(message)
    assert value == pagesight.Classification(
        label="zsyh_amount",
        closest_label="zsyh_amount",
        score=0.75,
        threshold=0.5,
        outputs=("zsyh", "amount"),
        doubt=0.25,
        review=True,
        review_reasons=(
            "near_threshold",
            "close_runner_up",
            "brand_not_visible",
            "looks_unlike",
            "uncalibrated",
        ),
        candidates=(
            pagesight.Candidate(
                label="zsyh_amount",
                score=0.75,
                rank_score=0.5,
                terms=(
                    pagesight.ScoreTerm(name="looks", score=1.0, rank_score=0.5),
                    pagesight.ScoreTerm(name="missing_brand", score=-0.25, rank_score=0.0),
                ),
                visual=0.5,
                textual=0.25,
                image_id="ab",
                matching_lines=(
                    pagesight.MatchingLine(
                        query_text="额度", gallery_text="总额度", similarity=0.8
                    ),
                ),
            ),
        ),
        reasons=("brand 招商银行: visible",),
        findings=(
            pagesight.Finding(
                kind="forbids",
                text="三湘银行",
                query_box=pagesight.Box(left=1, top=2, right=30, bottom=40),
                note="no picture of this page shows it",
            ),
            pagesight.Finding(
                kind="unknown",
                text="额度",
                gallery_box=pagesight.Box(left=0, top=0, right=5, bottom=6),
            ),
        ),
        gallery="default",
        revision=3,
        encoder_bundle="e",
        ocr_bundle="o",
        stage_ms={"total": 12.5},
    )
    assert not value.is_other
    assert hash(value) == hash(_replies.classification(message))
    # A field that the contract gains must be read, or left out on purpose.
    assert {field.name for field in message.DESCRIPTOR.fields} == set(
        pagesight.Classification.__dataclass_fields__
    )


def test_a_reply_that_says_nothing_is_an_error_not_an_empty_answer() -> None:
    with pytest.raises(pagesight.InternalError):
        _replies.classified(classifier_pb2.ClassifyResponse())
    outcome = _replies.stream_outcome(classifier_pb2.ClassifyStreamResponse(request_id="0"))
    assert isinstance(outcome, pagesight.InternalError)


def test_times_are_utc_and_an_absent_time_is_none() -> None:
    stamp = Timestamp(seconds=1_700_000_000)
    read = _replies.image(gallery_pb2.Image(added_at=stamp)).added_at
    assert read == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert _replies.image(gallery_pb2.Image()).added_at is None
    assert _replies.revision(gallery_pb2.Revision()).made_at is None


def test_outcomes_of_an_enrolment_keep_the_order_of_its_items() -> None:
    upload = _requests.Upload(_requests.change({}))
    item = pagesight.EnrolItem(image=b"picture", label="a", source="phone")
    assert upload.message(pagesight.EnrolItem(image="/gone/1.png", label="a")) is None
    sent = upload.message(item)
    assert sent is not None
    assert sent.item == gallery_pb2.EnrolItem(image=b"picture", label="a", source="phone")
    reply = gallery_pb2.EnrolResult(
        revision=4, outcomes=[gallery_pb2.EnrolOutcome(image_id="ab", added=True)]
    )
    first, second = upload.result(reply).outcomes
    assert isinstance(first.error, pagesight.UnreadableFileError)
    assert second == pagesight.EnrolOutcome(image_id="ab", added=True)


def test_an_enrolment_whose_outcomes_do_not_add_up_is_an_error() -> None:
    upload = _requests.Upload(_requests.change({}))
    upload.message(pagesight.EnrolItem(image=b"picture", label="a"))
    with pytest.raises(pagesight.InternalError, match="0 outcomes of 1 items"):
        upload.result(gallery_pb2.EnrolResult(revision=4))
