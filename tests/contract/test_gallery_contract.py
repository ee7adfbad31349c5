"""The contract, held by the fake that the client is tested with and by the real server alike.

    test ──stubs──> FakeServer            threads, galleries in dicts
               └──> serving()             the real services, store and pipeline, fake models

What a test here asserts is what gallery.proto and classifier.proto promise; where the two differ
otherwise (messages, scores, near duplicates) is nobody's to rely on.
"""

from __future__ import annotations

import math

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as pb
from tests.support import WAIT_S
from tests.support.party import GONE, INVALID, MOVED, Party, fails
from tests.support.pictures import solid
from tests.support.serving import details, result_of, status_of

NFC, NFD = "caf\u00e9", "cafe\u0301"
ALREADY_EXISTS, INVALID_ARGUMENT = (
    code.value[0] for code in (grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.INVALID_ARGUMENT)
)


# --- enrolling --------------------------------------------------------------------------


async def test_a_picture_enrolled_again_is_known_and_makes_no_revision(party: Party) -> None:
    first = await party.enrol((1, "a"), (2, "b"))
    assert (first.revision, [o.added for o in first.outcomes]) == (1, [True, True])
    again = await party.enrol((1, "a"))
    assert again.revision == 1
    assert [(o.image_id, o.added, o.HasField("error")) for o in again.outcomes] == [
        (party.image_id(1), False, False)
    ]


async def test_a_picture_enrolled_under_another_label_keeps_its_own(party: Party) -> None:
    await party.enrol((1, "a"))
    result = await party.enrol((1, "b"), (2, "b"))
    assert result.revision == 2
    refused, added = result.outcomes
    assert (refused.added, refused.error.code) == (False, ALREADY_EXISTS)
    assert details(refused.error)[0] == "OTHER_LABEL"
    assert added.added
    assert dict(await party.images())["a"] == party.image_id(1)


async def test_a_repeated_change_is_made_once_and_answered_alike(party: Party) -> None:
    first = await party.enrol((1, "a"), request_id="r1")
    assert await party.enrol((1, "a"), request_id="r1") == first
    removed = await party.remove(1, request_id="r2")
    assert await party.remove(1, request_id="r2") == removed
    assert [made.revision for made in await party.history()] == [2, 1]
    assert await fails(party.remove(1, request_id="r1")) == INVALID


async def test_progress_comes_before_the_result_and_ends_with_all(party: Party) -> None:
    replies = await party.enrolling((1, "a"), (2, "a"), (3, "b"))
    *progress, result = replies
    assert result.WhichOneof("message") == "result"
    assert progress
    done = [reply.progress.done for reply in progress]
    assert done == sorted(done)
    assert {reply.progress.total for reply in progress} == {3}
    assert done[-1] == 3


async def test_what_a_person_asks_for_answers_with_progress_too(party: Party) -> None:
    await party.enrol((1, "a_x"), (2, "a_y"), (3, "b_x"))
    for call, total in (
        (party.gallery.Diagnose(pb.DiagnoseRequest(max_images=2), timeout=WAIT_S), 2),
        (party.gallery.SuggestBrands(pb.SuggestBrandsRequest(), timeout=WAIT_S), None),
    ):
        *progress, last = [reply async for reply in call]
        assert last.result.revision == 1
        assert progress
        newest = progress[-1].progress
        assert newest.done == newest.total
        assert total in (None, newest.total)


LABELS = [
    pytest.param("a/b", id="a slash"),
    pytest.param("", id="nothing"),
    pytest.param("x" * 129, id="too long"),
    pytest.param("a\nb", id="a line break"),
    pytest.param("a\u2028b", id="a line separator"),
    pytest.param("a\u2029b", id="a paragraph separator"),
    pytest.param("a\u202eb", id="right-to-left override"),
    pytest.param("a\u2066b", id="left-to-right isolate"),
    pytest.param("a\u200fb", id="right-to-left mark"),
    pytest.param("a\u061cb", id="Arabic letter mark"),
    pytest.param(" a", id="a space around"),
]


@pytest.mark.parametrize("label", LABELS)
async def test_what_cannot_be_a_label_is_none_at_any_entrance(party: Party, label: str) -> None:
    result = await party.enrol((1, "a"), (2, label))
    assert [o.error.code for o in result.outcomes] == [0, INVALID_ARGUMENT]
    request = pb.RelabelRequest(image_ids=[party.image_id(1)], label=label)
    assert await fails(party.gallery.Relabel(request, timeout=WAIT_S)) == INVALID
    assert await fails(party.set_labels(pb.Label(label=label, brands=["A"]))) == INVALID
    assert await party.images() == [("a", party.image_id(1))]


async def test_two_spellings_of_a_name_are_one(party: Party) -> None:
    result = await party.enrol((1, NFD), (1, NFC), (2, NFC), gallery=NFD)
    assert [o.error.code for o in result.outcomes] == [0, 0, 0]
    assert [gallery.name for gallery in await party.galleries()] == [NFC]
    for spelling in (NFC, NFD):
        assert len(await party.images(gallery=spelling, label=spelling)) == 2
    await party.set_labels(pb.Label(label=NFD, brands=[NFD]), gallery=NFC)
    assert list((await party.labels(NFD))[NFC].brands) == [NFC]
    twice = [pb.Label(label=NFC, brands=["A"]), pb.Label(label=NFD, brands=["B"])]
    assert await fails(party.set_labels(*twice, gallery=NFC)) == INVALID


async def test_a_source_has_at_most_1024_characters(party: Party) -> None:
    result = await party.enrol((1, "a"), source="页" * 1025)
    assert result.revision == 0
    assert [o.error.code for o in result.outcomes] == [INVALID_ARGUMENT]
    assert (await party.enrol((1, "a"), source="页" * 1024)).outcomes[0].added


# --- expected revisions -----------------------------------------------------------------


async def test_a_change_expects_any_revision_unless_it_says(party: Party) -> None:
    for number in range(3):
        assert (await party.enrol((number, "a"))).revision == number + 1
    assert (await party.remove(0)).revision == 4


async def test_a_change_that_expects_a_revision_is_made_at_that_alone(party: Party) -> None:
    await party.enrol((1, "a"), (2, "a"))
    await party.enrol((3, "b"))
    for wrong in (1, 3, 2**40):
        assert await fails(party.remove(1, expected_revision=wrong)) == MOVED
        assert await fails(party.enrol((4, "b"), expected_revision=wrong)) == MOVED
    assert (await party.remove(1, expected_revision=2)).revision == 3
    assert await fails(party.remove(2, expected_revision=-1)) == INVALID


async def test_the_revision_zero_is_expected_of_what_is_new(party: Party) -> None:
    assert (await party.enrol((1, "a"), expected_revision=0)).revision == 1
    assert await fails(party.enrol((2, "a"), expected_revision=0)) == MOVED
    assert await fails(party.remove(1, expected_revision=0)) == MOVED
    assert (await party.enrol((2, "a"), expected_revision=0, gallery="new")).revision == 1


async def test_a_gallery_that_is_not_there_is_at_no_revision(party: Party) -> None:
    assert await fails(party.enrol((1, "a"), expected_revision=1)) == MOVED
    assert await party.galleries() == []


# --- rolling back -----------------------------------------------------------------------


async def test_rolling_back_to_zero_empties_and_an_absent_revision_does_nothing(
    party: Party,
) -> None:
    await party.enrol((1, "a"), (2, "b"))
    assert await fails(party.rollback(None)) == INVALID
    assert len(await party.images()) == 2
    assert await party.rollback(0) == pb.RollbackResponse(revision=2, removed=2)
    assert await party.images() == []
    assert await party.rollback(1) == pb.RollbackResponse(revision=3, restored=2)
    assert await fails(party.rollback(9)) == GONE


# --- labels -----------------------------------------------------------------------------


async def test_setting_brands_leaves_outputs_alone(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"))
    both = pb.Label(label="a", brands=["A"], outputs=["x", "y"])
    assert await party.set_labels(both) == 2
    for mask in (None, ["brands"]):
        await party.set_labels(pb.Label(label="a", brands=["B"]), mask=mask)
        row = (await party.labels())["a"]
        assert (list(row.brands), list(row.outputs)) == (["B"], ["x", "y"])
    await party.set_labels(pb.Label(label="a", outputs=["z"]))
    row = (await party.labels())["a"]
    assert (list(row.brands), list(row.outputs)) == (["B"], ["z"])


async def test_a_field_that_a_mask_names_is_cleared_where_it_is_empty(party: Party) -> None:
    await party.enrol((1, "a"))
    await party.set_labels(pb.Label(label="a", brands=["A"], outputs=["x"]))
    assert await party.set_labels(pb.Label(label="a")) == 2  # nothing is set, nothing is new
    await party.set_labels(pb.Label(label="a"), mask=["brands"])
    row = (await party.labels())["a"]
    assert (list(row.brands), list(row.outputs)) == ([], ["x"])
    await party.set_labels(pb.Label(label="a"), mask=["*"])
    assert list((await party.labels())["a"].outputs) == []


async def test_a_mask_of_something_else_and_a_label_that_is_not_there_change_nothing(
    party: Party,
) -> None:
    await party.enrol((1, "a"))
    brands = pb.Label(label="a", brands=["A"])
    assert await fails(party.set_labels(brands, mask=["images"])) == INVALID
    assert await fails(party.set_labels(brands, pb.Label(label="b", brands=["B"]))) == GONE
    assert await fails(party.set_labels(brands, brands)) == INVALID
    assert await fails(party.set_labels(pb.Label(label="a", brands=[" "]))) == INVALID
    assert list((await party.labels())["a"].brands) == []
    assert len(await party.history()) == 1


# --- galleries --------------------------------------------------------------------------


async def test_galleries_are_listed_by_name_with_what_is_in_them(party: Party) -> None:
    assert await party.galleries() == []
    await party.enrol((1, "a"), (2, "a"), (3, "other_ads"), gallery="b")
    await party.enrol((1, "x"), gallery="a")
    await party.enrol((2, "y"), gallery="a")
    for page_size in (0, 1):
        listed = await party.galleries(page_size)
        told = [(g.name, g.revision, g.images, g.labels) for g in listed]
        assert told == [("a", 2, 2, 2), ("b", 1, 3, 1)]
    shown = await party.show("b")
    assert shown == listed[1]
    assert shown.encoder_bundle
    assert shown.ocr_bundle
    assert 0 < shown.calibration.epsilon < 1
    assert shown.calibration.source == pb.CALIBRATION_SOURCE_GALLERY
    assert await fails(party.show("c")) == GONE
    assert await fails(party.show()) == GONE
    await party.enrol((1, "a"))
    assert (await party.show()).name == "default"


async def test_a_deleted_gallery_is_found_nowhere(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"), gallery="trial")
    await party.enrol((1, "a"), gallery="kept")
    assert await fails(party.delete("")) == INVALID
    assert await fails(party.delete("none")) == GONE
    assert await fails(party.delete("trial", expected_revision=7)) == MOVED
    deleted = await party.delete("trial", request_id="d", expected_revision=1)
    assert deleted == pb.DeleteGalleryResponse(revision=2, removed=2)
    assert await party.delete("trial", request_id="d") == deleted
    assert [gallery.name for gallery in await party.galleries()] == ["kept"]
    for call in (
        party.show("trial"),
        party.images(gallery="trial"),
        party.history("trial"),
        party.labels("trial"),
        party.remove(1, gallery="trial"),
        party.rollback(1, gallery="trial"),
        party.set_labels(pb.Label(label="a", brands=["A"]), gallery="trial"),
        party.delete("trial"),
        result_of(party.gallery.Diagnose(pb.DiagnoseRequest(gallery="trial"))),
        result_of(party.gallery.SuggestBrands(pb.SuggestBrandsRequest(gallery="trial"))),
        party.gallery.GetImage(
            pb.GetImageRequest(gallery="trial", image_id=party.image_id(1)), timeout=WAIT_S
        ),
    ):
        assert await fails(call) == GONE
    assert len(await party.images(gallery="kept")) == 1


async def test_enrolling_creates_a_deleted_gallery_anew_with_its_history(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"), request_id="load")
    await party.set_labels(pb.Label(label="a", brands=["A"]))
    await party.delete("default")
    # What was asked before the deletion is not taken for done.
    again = await party.enrol((1, "a"), request_id="load", expected_revision=0)
    assert (again.revision, again.outcomes[0].added) == (4, True)
    assert list((await party.labels())["a"].brands) == []
    kinds = [made.kind for made in await party.history()]
    assert kinds == [
        pb.REVISION_KIND_ENROL,
        pb.REVISION_KIND_DELETE,
        pb.REVISION_KIND_SET_LABELS,
        pb.REVISION_KIND_ENROL,
    ]
    assert (await party.rollback(2)).revision == 5
    assert len(await party.images()) == 2
    assert list((await party.labels())["a"].brands) == ["A"]


async def test_every_change_is_in_the_history_by_its_kind(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"), author="mei")
    request = pb.RelabelRequest(image_ids=[party.image_id(1)], label="c")
    await party.gallery.Relabel(request, timeout=WAIT_S)
    await party.remove(2)
    await party.set_labels(pb.Label(label="c", outputs=["x"]))
    await party.rollback(1)
    made = await party.history()
    assert [pb.RevisionKind.Name(one.kind).removeprefix("REVISION_KIND_") for one in made] == [
        "ROLLBACK",
        "SET_LABELS",
        "REMOVE",
        "RELABEL",
        "ENROL",
    ]
    assert [one.images for one in made] == [2, 1, 1, 2, 2]
    assert made[-1].author == "mei"


# --- answers ----------------------------------------------------------------------------


async def test_an_answer_is_at_the_revision_that_is_asked_for_or_later(party: Party) -> None:
    revision = (await party.enrol((1, "a"))).revision
    for asked in (0, revision):
        found = await party.classify(party.picture(1), min_revision=asked)
        assert found.revision >= asked
    behind = party.classify(party.picture(1), min_revision=revision + 1, deadline_ms=50)
    assert await fails(behind) == ("DEADLINE_EXCEEDED", "BUDGET_SPENT")


async def test_a_revision_that_does_not_come_is_told_with_a_hint(
    party: Party, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pagesight_server.service.classifier.BEHIND_S", 0.05)
    revision = (await party.enrol((1, "a"))).revision
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await party.classify(party.picture(1), min_revision=revision + 1)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    reason, retry_s = details(status_of(error.value))
    assert reason == "REVISION_BEHIND"
    assert retry_s is not None


async def test_an_answer_keeps_its_promises(party: Party) -> None:
    await party.enrol((0, "a"), (1, "b"), (2, "c"), (3, "other_ads"))
    unknown = b"other things" if party.fake else solid((200, 30, 120))
    for image in (party.picture(0), party.picture(1), unknown):
        found = await party.classify(image)
        assert (found.label != "other") == (found.score >= found.threshold)
        assert found.label in ("other", found.closest_label)
        assert (found.outputs == []) == (found.label == "other")
        assert 0 <= found.doubt <= 1
        assert found.review == bool(found.review_reasons)
        assert not (found.review and found.label == "other")
        best = found.candidates[0]
        assert (best.label, best.score) == (found.closest_label, found.score)
        ranks = [candidate.rank_score for candidate in found.candidates]
        assert ranks == sorted(ranks, reverse=True)
        for candidate in found.candidates:
            assert candidate.terms
            assert math.fsum(t.score for t in candidate.terms) == pytest.approx(candidate.score)
            rank = math.fsum(t.rank_score for t in candidate.terms)
            assert rank == pytest.approx(candidate.rank_score)
            assert len({t.name for t in candidate.terms}) == len(candidate.terms)
