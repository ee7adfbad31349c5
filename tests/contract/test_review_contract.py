"""What review.proto promises of kept answers, decisions, their figures and known items."""

from __future__ import annotations

from typing import Any

import pytest

from pagesight.v1 import review_pb2 as pb
from tests.support import WAIT_S
from tests.support.party import GONE, INVALID, Party, fails


def decision(party: Party, number: int, label: str, decision_id: str = "", **more: Any) -> Any:
    """A decision about a picture, which the server need not have."""
    values = {"shown_label": "a", "revision": 1, "reviewer": "mei", **more}
    return pb.Decision(
        decision_id=decision_id or f"{values['reviewer']} {number}",
        image_id=party.image_id(number),
        label=label,
        **values,
    )


async def record(party: Party, *made: pb.Decision, gallery: str = "") -> int:
    request = pb.RecordDecisionsRequest(gallery=gallery, decisions=made)
    recorded: int = (await party.review.RecordDecisions(request, timeout=WAIT_S)).recorded
    return recorded


async def withdraw(party: Party, *ids: str, gallery: str = "") -> int:
    request = pb.WithdrawDecisionsRequest(gallery=gallery, decision_ids=ids)
    withdrawn: int = (await party.review.WithdrawDecisions(request, timeout=WAIT_S)).withdrawn
    return withdrawn


async def listed(party: Party, *numbers: int, page_size: int = 0, gallery: str = "") -> list[Any]:
    """All decisions, page after page."""
    found: list[Any] = []
    ids = [party.image_id(number) for number in numbers]
    token = ""
    while True:
        request = pb.ListDecisionsRequest(
            gallery=gallery, image_ids=ids, page_size=page_size, page_token=token
        )
        page = await party.review.ListDecisions(request, timeout=WAIT_S)
        found += page.decisions
        if not (token := page.next_page_token):
            return found


async def figures(party: Party, gallery: str = "") -> pb.GetReviewFiguresResponse:
    request = pb.GetReviewFiguresRequest(gallery=gallery)
    told: pb.GetReviewFiguresResponse = await party.review.GetReviewFigures(request, timeout=WAIT_S)
    return told


async def draw(party: Party, count: int = 0) -> list[pb.KnownItem]:
    request = pb.DrawKnownRequest(count=count)
    return list((await party.review.DrawKnown(request, timeout=WAIT_S)).items)


async def kept(
    party: Party, *, page_size: int = 0, **asked: Any
) -> tuple[list[pb.KeptAnswer], pb.ListKeptResponse]:
    """All kept answers, page after page, and the last page."""
    await party.kept()
    found: list[pb.KeptAnswer] = []
    token = ""
    while True:
        request = pb.ListKeptRequest(page_size=page_size, page_token=token, **asked)
        page = await party.review.ListKept(request, timeout=WAIT_S)
        found += page.answers
        if not (token := page.next_page_token):
            return found, page


async def kept_image(party: Party, image_id: str, max_side_px: int = 0) -> bytes:
    request = pb.GetKeptImageRequest(image_id=image_id, max_side_px=max_side_px)
    image: bytes = (await party.review.GetKeptImage(request, timeout=WAIT_S)).image
    return image


async def test_answers_are_kept_with_their_pictures_the_newest_first(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"))
    answers = [await party.classify(party.picture(number)) for number in (1, 2, 3)]
    for page_size in (0, 1, 2):
        listed, page = await kept(party, page_size=page_size)
        assert [one.image_id for one in listed] == [party.image_id(n) for n in (3, 2, 1)]
    assert (page.capacity, page.keep_days) == (100, 14)
    for one, answer in zip(listed, reversed(answers), strict=True):
        assert (one.gallery, one.revision, one.label) == ("default", 1, answer.label)
        assert (one.closest_label, one.score) == (answer.closest_label, answer.score)
        assert (one.threshold, one.doubt) == (answer.threshold, answer.doubt)
        assert one.review_reasons == answer.review_reasons
        assert one.kept_reason != pb.KEPT_REASON_UNSPECIFIED
        assert one.HasField("kept_at")
        assert (one.decisions, list(one.reviewers)) == (0, [])
    assert await kept_image(party, party.image_id(2)) == party.picture(2)
    assert await kept_image(party, party.image_id(2).upper()) == party.picture(2)
    assert await kept_image(party, party.image_id(2), 4096) == party.picture(2)


async def test_an_answer_that_is_not_to_be_kept_is_not(party: Party) -> None:
    await party.enrol((1, "a"))
    await party.classify(party.picture(1), do_not_keep=True)
    await party.classify(party.picture(2))
    listed, _ = await kept(party)
    assert [one.image_id for one in listed] == [party.image_id(2)]


async def test_of_a_picture_that_comes_again_one_answer_is_kept(party: Party) -> None:
    await party.enrol((1, "a"))
    for number in (1, 2, 1):
        await party.classify(party.picture(number))
        await party.kept()
    listed, _ = await kept(party)
    assert [one.image_id for one in listed] == [party.image_id(1), party.image_id(2)]


async def test_a_reviewer_is_shown_what_that_reviewer_has_not_decided(party: Party) -> None:
    await party.enrol((1, "a"))
    for number in (1, 2, 3):
        await party.classify(party.picture(number))
        await party.kept()
    waiting = (await figures(party)).waiting
    assert waiting == 3
    await record(party, decision(party, 1, "a"), decision(party, 2, "a", reviewer="li"))
    await record(party, decision(party, 1, "b", "again"), decision(party, 3, "a", known_label="a"))
    listed, _ = await kept(party)
    assert [(one.decisions, list(one.reviewers)) for one in listed] == [
        (0, []),
        (1, ["li"]),
        (2, ["mei"]),
    ]
    for reviewer, left in (("mei", [3, 2]), ("li", [3, 1]), ("an", [3, 2, 1])):
        listed, page = await kept(party, undecided_by=reviewer)
        assert [one.image_id for one in listed] == [party.image_id(number) for number in left]
        assert page.reviewer == reviewer
    told = await figures(party)
    assert told.waiting == 1
    oldest = (await kept(party))[0][0].kept_at
    assert told.oldest_waiting == oldest


async def test_what_is_not_kept_and_what_cannot_be_asked_is_refused(party: Party) -> None:
    await party.enrol((1, "a"))
    await party.classify(party.picture(1))
    await party.kept()
    assert await fails(kept_image(party, party.image_id(2))) == GONE
    for image_id, size in (("12", 0), (party.image_id(1), -1), (party.image_id(1), 4097)):
        assert await fails(kept_image(party, image_id, size)) == INVALID
    assert await fails(kept(party, page_size=-1)) == INVALID
    request = pb.ListKeptRequest(page_token="elsewhere")
    assert await fails(party.review.ListKept(request, timeout=WAIT_S)) == INVALID


async def test_a_decision_is_recorded_once_with_what_was_shown_and_makes_no_revision(
    party: Party,
) -> None:
    await party.enrol((1, "a"), (2, "b"))
    made = decision(
        party, 3, "b", "d1", shown_closest_label="b", shown_doubt=0.25, seconds=1.5, known_label="b"
    )
    assert await record(party, made) == 1
    assert await record(party, made, decision(party, 4, "a", "d2")) == 1
    newest, first = await listed(party)
    assert newest.decision_id == "d2"
    assert first.HasField("decided_at")
    first.ClearField("decided_at")
    assert first == made
    assert [revision.revision for revision in await party.history()] == [1]


async def test_decisions_are_listed_newest_first_page_by_page_and_by_picture(party: Party) -> None:
    await party.enrol((1, "a"))
    for number in range(5):
        await record(party, decision(party, number, "a"))
    await record(party, decision(party, 2, "b", reviewer="li"))
    for page_size in (0, 1, 4):
        found = await listed(party, page_size=page_size)
        assert [one.decision_id for one in found] == [
            "li 2", "mei 4", "mei 3", "mei 2", "mei 1", "mei 0"
        ]  # fmt: skip
    assert [one.decision_id for one in await listed(party, 2, 4, page_size=1)] == [
        "li 2",
        "mei 4",
        "mei 2",
    ]
    request = pb.ListDecisionsRequest(page_token="elsewhere")
    assert await fails(party.review.ListDecisions(request, timeout=WAIT_S)) == INVALID


async def test_a_withdrawn_decision_is_as_if_it_had_not_been_made(party: Party) -> None:
    await party.enrol((1, "a"))
    await record(party, decision(party, 1, "a", "d1"), decision(party, 2, "a", "d2"))
    assert await withdraw(party, "d1", "d0", "d1") == 1
    assert await withdraw(party, "d1") == 0
    assert [one.decision_id for one in await listed(party)] == ["d2"]
    assert (await figures(party)).decided == 1
    assert await record(party, decision(party, 1, "a", "d1")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"label": "a/b"}, id="no label"),
        pytest.param({"shown_label": "a\nb"}, id="no shown label"),
        pytest.param({"decision_id": ""}, id="no id"),
        pytest.param({"decision_id": "x" * 129}, id="an id that is too long"),
        pytest.param({"decision_id": "a\0b"}, id="an id with a NUL"),
        pytest.param({"reviewer": "a\0b"}, id="a name with a NUL"),
        pytest.param({"image_id": "12"}, id="no picture"),
        pytest.param({"reviewer": "x" * 257}, id="a name that is too long"),
        pytest.param({"shown_doubt": 1.5}, id="a doubt above one"),
        pytest.param({"shown_doubt": float("nan")}, id="a doubt that is no number"),
        pytest.param({"seconds": -1.0}, id="negative seconds"),
        pytest.param({"revision": -1}, id="a negative revision"),
    ],
)
async def test_what_cannot_be_decided_records_none(party: Party, wrong: dict[str, Any]) -> None:
    await party.enrol((1, "a"))
    bad = decision(party, 1, "a", "bad")
    for name, value in wrong.items():
        setattr(bad, name, value)
    assert await fails(record(party, decision(party, 2, "a"), bad)) == INVALID
    assert await listed(party) == []


async def test_a_call_has_at_least_one_decision_and_at_most_a_thousand(party: Party) -> None:
    await party.enrol((1, "a"))
    many = [decision(party, 1, "a", f"d{i}") for i in range(1001)]
    assert await fails(record(party)) == INVALID
    assert await fails(record(party, *many)) == INVALID
    assert await record(party, *many[:1000]) == 1000
    assert await fails(withdraw(party)) == INVALID
    assert await withdraw(party, *(one.decision_id for one in many[:1000])) == 1000


async def test_figures_count_pictures_corrections_and_known_items(party: Party) -> None:
    await party.enrol((1, "a"), (2, "b"))
    assert await figures(party) == pb.GetReviewFiguresResponse()
    await record(
        party,
        decision(party, 1, "a"),
        decision(party, 2, "b"),
        decision(party, 3, ""),
        decision(party, 2, "b", reviewer="li"),
        decision(party, 4, "other", shown_label="other"),
        decision(party, 5, "a", known_label="a"),
        decision(party, 6, "b", known_label="a"),
        decision(party, 6, "", reviewer="li", known_label="a"),
    )
    told = await figures(party)
    assert (told.decided, told.agreed) == (4, 2)
    assert [(one.reviewer, one.decided, one.known_items, one.known_right)
            for one in told.reviewers] == [("li", 1, 1, 0), ("mei", 4, 2, 1)]  # fmt: skip
    assert [(one.label, one.decided, one.corrected) for one in told.labels] == [
        ("a", 4, 2),
        ("other", 1, 0),
    ]
    assert [(day.decided, day.agreed) for day in told.days] == [(5, 2)]


async def test_known_items_have_company_and_are_answered_without_themselves(party: Party) -> None:
    await party.enrol((1, "a"), (2, "a"), (3, "b"), (4, "other_ads"), (5, "other_ads"))
    drawn = await draw(party, 20)
    assert {item.image_id for item in drawn} == {party.image_id(1), party.image_id(2)}
    for item in drawn:
        assert item.label == "a"
        assert item.answer.revision == 1
        assert item.answer.candidates
        assert item.image_id not in {c.image_id for c in item.answer.candidates}
    assert len(await draw(party)) == 1
    for wrong in (-1, 21):
        assert await fails(draw(party, wrong)) == INVALID


async def test_of_a_gallery_that_is_gone_nothing_is_told_or_recorded(party: Party) -> None:
    await party.enrol((1, "a"), (2, "a"), gallery="trial")
    await record(party, decision(party, 1, "a"), gallery="trial")
    await party.delete("trial")
    for call in (
        record(party, decision(party, 1, "a"), gallery="trial"),
        withdraw(party, "mei 1", gallery="trial"),
        listed(party, gallery="trial"),
        figures(party, "trial"),
        party.review.ListKept(pb.ListKeptRequest(gallery="trial"), timeout=WAIT_S),
        party.review.DrawKnown(pb.DrawKnownRequest(gallery="trial"), timeout=WAIT_S),
        party.review.GetKeptImage(
            pb.GetKeptImageRequest(gallery="trial", image_id=party.image_id(1)), timeout=WAIT_S
        ),
    ):
        assert await fails(call) == GONE
    await party.enrol((1, "a"), gallery="trial")
    assert await listed(party, gallery="trial") == []


async def test_a_reveal_is_noted_of_any_picture(party: Party) -> None:
    request = pb.RecordRevealRequest(image_id=party.image_id(9), reviewer="mei")
    answer = await party.review.RecordReveal(request, timeout=WAIT_S)
    assert answer == pb.RecordRevealResponse()
    for wrong in (
        pb.RecordRevealRequest(image_id="9"),
        pb.RecordRevealRequest(image_id=party.image_id(9), reviewer="x" * 257),
    ):
        assert await fails(party.review.RecordReveal(wrong, timeout=WAIT_S)) == INVALID
