"""Messages to values and back; errors to google.rpc.Status."""

from __future__ import annotations

import base64
import json
import logging
import re
from pathlib import Path
from typing import get_args

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc import error_details_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import errors_pb2
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common import errors
from pagesight_server.common.errors import InvalidRequestError, OverloadedError, RequestError
from pagesight_server.common.priority import Priority
from pagesight_server.common.timings import StageTimes
from pagesight_server.curation.diagnostics import Diagnosis, HardlyRead, LabelHealth
from pagesight_server.curation.own_scores import OwnScores
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
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Query, TermName
from pagesight_server.recognition.decision import ReviewReason, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service import convert, convert_curation
from pagesight_server.text.legibility import Legibility
from tests.support.parts import BUNDLES, image_id, reading, snapshot, unit
from tests.support.serving import details

# DESIGN, "The contract": which error is which status.
STATUSES = {
    errors.ImageError: "INVALID_ARGUMENT",
    errors.InvalidRequestError: "INVALID_ARGUMENT",
    errors.NotFoundError: "NOT_FOUND",
    errors.AlreadyExistsError: "ALREADY_EXISTS",
    errors.RevisionError: "ABORTED",
    errors.BundleMismatchError: "FAILED_PRECONDITION",
    errors.LimitError: "RESOURCE_EXHAUSTED",
    errors.StorageError: "RESOURCE_EXHAUSTED",
    errors.DeadlineError: "DEADLINE_EXCEEDED",
    errors.ShuttingDownError: "UNAVAILABLE",
    errors.PurgedError: "FAILED_PRECONDITION",
    errors.UnauthenticatedError: "UNAUTHENTICATED",
    errors.PermissionDeniedError: "PERMISSION_DENIED",
}


@pytest.mark.parametrize(("kind", "code"), STATUSES.items())
def test_each_error_has_its_status(kind: type[RequestError], code: str) -> None:
    status = convert.status_of(kind("what to do"))
    assert convert.code_of(status) is grpc.StatusCode[code]
    assert status.message == "what to do"
    assert details(status) == (kind.reason, None)


def test_every_error_of_the_tree_is_in_that_table() -> None:
    with_a_hint = {OverloadedError, errors.BehindError}
    assert set(RequestError.__subclasses__()) == {*STATUSES, *with_a_hint}


def kinds_of(error: type[RequestError]) -> set[type[RequestError]]:
    return {error}.union(*map(kinds_of, error.__subclasses__()))


def test_the_reasons_of_the_contract_are_those_of_the_errors() -> None:
    reasons = {kind.reason for kind in kinds_of(RequestError) - {RequestError}} | {"INTERNAL"}
    assert {f"ERROR_REASON_{reason}" for reason in reasons} == {
        name for name, number in errors_pb2.ErrorReason.items() if number
    }


def test_the_contract_names_the_code_that_comes_with_each_reason() -> None:
    proto = (Path(__file__).parents[3] / "protos/pagesight/v1/errors.proto").read_text("utf-8")
    for kind in kinds_of(RequestError) - {RequestError}:
        comment = re.search(rf"((?:  //.*\n)+)  ERROR_REASON_{kind.reason} =", proto)
        assert comment is not None, kind.reason
        assert comment[1].startswith(f"  // {kind.status}: ")


def test_every_kind_of_change_has_a_value_of_the_contract() -> None:
    assert set(convert._CHANGES) == set(get_args(ChangeKind))
    assert set(convert._REVIEW_REASONS) == set(get_args(ReviewReason))
    assert set(convert._TERMS) == set(get_args(TermName))
    assert set(convert._CHANGES.values()) == {n for n in gpb.RevisionKind.values() if n}


def test_an_error_with_a_hint_says_when_to_come_back() -> None:
    for error in (
        OverloadedError("later", retry_after_ms=1500),
        errors.BehindError("later", retry_after_ms=1500),
    ):
        assert details(convert.status_of(error)) == (error.reason, 1.5)


def test_whoever_is_turned_away_is_told_when_to_retry() -> None:
    status = convert.status_of(OverloadedError("later", retry_after_ms=1500))
    assert convert.code_of(status) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(status) == ("OVERLOADED", 1.5)


def test_a_bug_is_in_the_log_and_not_in_the_reply(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status = convert.status_of(KeyError("the secret"))
    assert convert.code_of(status) is grpc.StatusCode.INTERNAL
    assert "secret" not in str(status)
    assert "the secret" in caplog.text
    assert details(status) == ("INTERNAL", None)


def test_a_long_message_is_cut_so_that_it_fits_into_the_metadata() -> None:
    # gRPC takes 8 KiB: the message percent-encoded (3 bytes for each of UTF-8) and the
    # status in base64 (4/3).
    status = convert.status_of(InvalidRequestError("页" * 100_000))
    assert status.message.endswith("页...")
    percent_encoded = 3 * len(status.message.encode())
    assert percent_encoded + 4 / 3 * status.ByteSize() < 8192 - 1024


def test_an_empty_query_asks_for_the_defaults() -> None:
    options = convert.options_of(pb.Query(), default_ocr=True)
    assert options == convert.Options(
        gallery="default", priority=Priority.NORMAL, ocr=True, top_k=0, explain=False
    )


@pytest.mark.parametrize(
    ("mode", "default", "ocr"),
    [
        (pb.OCR_MODE_UNSPECIFIED, True, True),
        (pb.OCR_MODE_UNSPECIFIED, False, False),
        (pb.OCR_MODE_FULL, False, True),
        (pb.OCR_MODE_OFF, True, False),
    ],
)
def test_text_is_read_as_asked_or_as_configured(
    mode: pb.OcrMode.ValueType, default: bool, ocr: bool
) -> None:
    query = pb.Query(options=pb.Options(ocr=mode))
    assert convert.options_of(query, default_ocr=default).ocr is ocr


@pytest.mark.parametrize(
    ("asked", "priority"),
    [
        (pb.PRIORITY_UNSPECIFIED, Priority.NORMAL),
        (pb.PRIORITY_LOW, Priority.LOW),
        (pb.PRIORITY_NORMAL, Priority.NORMAL),
        (pb.PRIORITY_HIGH, Priority.HIGH),
    ],
)
def test_priorities_are_told_apart(asked: pb.Priority.ValueType, priority: Priority) -> None:
    assert convert.options_of(pb.Query(priority=asked), default_ocr=True).priority is priority


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(b"\x20\x09", id="priority 9"),  # field 4
        pytest.param(b"\x32\x02\x10\x09", id="ocr mode 9"),  # field 6, in it field 2
        pytest.param(b"\x32\x02\x08\x65", id="top_k 101"),  # field 6, in it field 1
    ],
)
def test_values_that_this_server_does_not_know_are_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        convert.options_of(pb.Query.FromString(query), default_ocr=True)


def answer(*texts: str, read: bool = True) -> Answer:
    knowledge = Knowledge.of(
        snapshot(
            ("a", (4, 3), ["abcd"]),
            ("b", (3, 4), ["额度"]),
            facts={"a": LabelFacts(outputs=("page", "amount"))},
        ),
        calibration=Calibration(
            epsilon=0.05,
            pictures=100,
            guaranteed=True,
            threshold_with_text=0.5,
            threshold_without_text=0.9,
        ),
    )
    query = Query(embedding=unit(1, 0), reading=reading(*texts) if read else None)
    hits = knowledge.method.search(query.embedding)
    decision = decide(knowledge.method.weigh(query, hits), knowledge.calibration, with_text=read)
    times = StageTimes(decode=1.0, total=2.5)
    return Answer(decision=decision, knowledge=knowledge, query=query, stage_ms=times)


def options(*, top_k: int = 0, explain: bool = False) -> convert.Options:
    return convert.Options(
        gallery="default", priority=Priority.NORMAL, ocr=True, top_k=top_k, explain=explain
    )


def test_a_reply_carries_what_was_looked_in_and_by_what() -> None:
    reply = convert.classification(answer("abcd"), options())
    # 0.6 * 0.8 + 0.4 = 0.88
    assert (reply.label, reply.closest_label) == ("a", "a")
    assert reply.score == pytest.approx(0.88)
    assert reply.threshold == 0.5
    assert list(reply.outputs) == ["page", "amount"]
    assert (reply.gallery, reply.revision) == ("default", 1)
    assert (reply.encoder_bundle, reply.ocr_bundle) == (BUNDLES.encoder, BUNDLES.ocr)
    assert dict(reply.stage_ms) == {"decode": 1.0, "total": 2.5}
    assert not reply.review
    assert len(reply.candidates) == len(reply.reasons) == 0


def test_a_reply_to_a_query_without_text_names_no_ocr_bundle() -> None:
    reply = convert.classification(answer(read=False), options())
    assert reply.ocr_bundle == ""
    assert (reply.label, reply.closest_label) == ("other", "a")
    assert list(reply.outputs) == []


def test_as_many_candidates_are_named_as_asked() -> None:
    reply = convert.classification(answer("abcd"), options(top_k=1))
    (only,) = reply.candidates
    assert (only.label, only.image_id) == ("a", image_id(0))
    assert only.visual == pytest.approx(0.8)
    assert only.textual == 1.0
    assert list(only.matching_lines) == []
    assert len(convert.classification(answer("abcd"), options(top_k=9)).candidates) == 2


def test_an_explained_reply_shows_reasons_and_matching_lines() -> None:
    reply = convert.classification(answer("abcd", "额度"), options(top_k=2, explain=True))
    lines = [[(m.query_text, m.gallery_text) for m in c.matching_lines] for c in reply.candidates]
    assert lines == [[("abcd", "abcd")], [("额度", "额度")]]
    assert reply.reasons[0].startswith("closest to a (000000000000): score 0.")
    assert reply.reasons[-1].startswith("Why not b (000000000000)? It scores 0.")


def test_an_explained_reply_says_where_the_deciding_texts_stand() -> None:
    reply = convert.classification(answer("还款", "abcd"), options(explain=True))
    told = {f.text: f for f in reply.findings}
    # Lines of tests are 10 pixels high and 100 wide, one under the other.
    new, both = told["还款"], told["abcd"]
    assert new.kind == pb.FINDING_KIND_FORBIDS
    assert (new.query_box.left, new.query_box.top, new.query_box.right, new.query_box.bottom) == (
        0,
        0,
        100,
        10,
    )
    assert not new.HasField("gallery_box")
    assert new.note == "no picture of this page shows it"
    assert both.kind == pb.FINDING_KIND_AGREES
    assert (both.query_box.top, both.gallery_box.top) == (10, 0)
    silent = convert.classification(answer("还款", "abcd"), options(top_k=2))
    assert not silent.findings
    assert not silent.reasons


def test_an_explained_reply_without_text_has_no_lines() -> None:
    reply = convert.classification(answer(read=False), options(top_k=2, explain=True))
    assert [len(c.matching_lines) for c in reply.candidates] == [0, 0]


def test_a_change_fills_in_the_default_gallery() -> None:
    message = gpb.Change(request_id="r", expected_revision=3, author="mei")
    assert convert.change_of(message) == Change(
        gallery="default", author="mei", request_id="r", expected_revision=3
    )


def test_a_revision_that_is_not_expected_is_not_the_revision_zero() -> None:
    assert convert.change_of(gpb.Change()).expected_revision is None
    assert convert.change_of(gpb.Change(expected_revision=0)).expected_revision == 0


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
        convert.change_of(change)


def test_an_enrolment_is_answered_item_by_item() -> None:
    applied = Applied(
        revision=4,
        counts={"added": 1},
        outcomes=(
            Outcome(image_id="aa", added=True),
            Outcome(image_id="", added=False, error=("INVALID_ARGUMENT", "IMAGE_UNUSABLE", "no")),
        ),
    )
    reply = convert.enrolled(applied)
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
    assert convert.revision(made).made_at.ToJsonString() == shown
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
    message = convert.image(listed)
    assert message.added_at.ToJsonString() == shown
    assert (message.width_px, message.height_px, message.text_lines) == (1, 2, 3)


def test_labels_are_listed_in_order_with_what_is_known_of_them() -> None:
    listed = convert.labels({"b": 2, "a": 1}, {"b": LabelFacts(brands=("B",), outputs=("x",))})
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
    assert convert.updates_of(request) == {"a": LabelUpdate(brands=brands, outputs=outputs)}


@pytest.mark.parametrize(
    ("labels", "mask", "problem"),
    [
        ([gpb.Label(label="a"), gpb.Label(label="a")], [], "named twice"),
        ([gpb.Label(label="\u00e9"), gpb.Label(label="e\u0301")], [], "named twice"),
        ([gpb.Label(label="a", brands=[" "])], ["brands"], "brands of label 'a' are names"),
        ([gpb.Label(label="a", outputs=[""])], ["outputs"], "one of them is empty"),
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
        convert.updates_of(request)


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_the_size_asked_for_within_limits(asked: int, size: int) -> None:
    assert convert.page_size(asked) == size


def test_a_negative_page_size_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="page_size"):
        convert.page_size(-1)


@given(
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_a_page_token_is_read_back(number: int, text: str) -> None:
    token = convert.page_token(number, text)
    assert convert.position_of(token, int, str) == (number, text)


def test_without_a_token_the_first_page_is_meant() -> None:
    assert convert.position_of("", int) is None


def token_of(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode()


@given(
    st.text()
    | st.recursive(st.integers() | st.text() | st.booleans(), st.lists)
    .map(json.dumps)
    .map(token_of)
)
@example("页")
@example("a")
@example(token_of("[" * 100_000))
@example(token_of("[99999999999999999999, 1]"))
@example(token_of("[true, 1]"))
@example(token_of('["\\ud800", 1]'))
@example(token_of("[1]"))
def test_a_token_that_was_not_given_out_is_refused(token: str) -> None:
    if token == "":
        return
    try:
        position = convert.position_of(token, str, int)
    except InvalidRequestError:
        return
    # Whoever makes up a token of the right form gets the position it says.
    assert position is not None
    assert [type(part) for part in position] == [str, int]
    position[0].encode()
    position[1].to_bytes(8, signed=True)


def test_every_reason_is_for_programs() -> None:
    info = error_details_pb2.ErrorInfo()
    for kind in STATUSES:
        assert kind.reason.isupper()
        assert convert.status_of(kind("")).details[0].Unpack(info)
        assert info.domain == "pagesight"


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
    made = convert.gallery(info, known).calibration
    assert (made.rejected_with_text, made.rejected_without_text) == (0.4, 0.2)


def test_a_diagnosis_carries_what_labels_score_look_like_and_share() -> None:
    first, second = snapshot(("a", (1, 0), ["abcd"]), ("b", (0, 1), ["额度"])).pictures
    message = convert_curation.diagnosis(
        Diagnosis(
            revision=1,
            images=2,
            examined=2,
            suspects=(),
            duplicates=(),
            labels=(
                LabelHealth(
                    label="a",
                    images=2,
                    distinct=2,
                    own=OwnScores(scores=(0.25, 0.75), rejected=1),
                    rejected=(first,),
                    least_looks=0.5,
                    unlike=(first,),
                    text_shared_with=("b", "c"),
                ),
                LabelHealth(label="b", images=1, distinct=1),
            ),
            rejection_bound=1.0,
            hardly_read=(HardlyRead(picture=second, legibility=Legibility(20, 11)),),
        )
    )
    assert (message.left_out_images, message.rejected_images) == (2, 1)
    a, b = message.labels
    assert (a.left_out_images, a.mean_score, a.least_score) == (2, 0.5, 0.25)
    assert list(a.rejected_image_ids) == [image_id(0)]
    assert (a.least_looks, list(a.unlike_image_ids)) == (0.5, [image_id(0)])
    assert list(a.text_shared_with) == ["b", "c"]
    assert (b.left_out_images, b.mean_score, b.least_looks) == (0, 0.0, 0.0)
    assert not b.unlike_image_ids
    assert list(message.hardly_read) == [
        gpb.HardlyReadImage(image_id=image_id(1), label="b", text_lines=20, hardly_read_lines=11)
    ]
