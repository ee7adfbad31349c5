"""Queries to values, and answers to messages."""

from __future__ import annotations

from typing import get_args

import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.common.priority import Priority
from pagesight_server.common.timings import StageTimes
from pagesight_server.gallery.snapshot import LabelFacts
from pagesight_server.recognition.answer import Answer
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.recognition.candidates import Query, TermName
from pagesight_server.recognition.decision import ReviewReason, decide
from pagesight_server.recognition.knowledge import Knowledge
from pagesight_server.service import convert
from tests.support.parts import BUNDLES, image_id, reading, snapshot, unit


def test_every_review_reason_and_term_has_a_value_of_the_contract() -> None:
    assert set(convert._REVIEW_REASONS) == set(get_args(ReviewReason))
    assert set(convert._TERMS) == set(get_args(TermName))


def test_an_empty_query_asks_for_the_defaults() -> None:
    options = convert.options_of(pb.Query(), default_ocr=True)
    assert options == convert.Options(
        gallery="default", priority=Priority.NORMAL, ocr=True, top_k=0, explain=False
    )


def test_an_answer_may_be_kept_unless_the_query_says_no() -> None:
    assert convert.options_of(pb.Query(), default_ocr=True).keep
    assert not convert.options_of(pb.Query(do_not_keep=True), default_ocr=True).keep


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
