"""What the contract promises of findings that a person settled."""

from __future__ import annotations

from typing import Any

import pytest

from pagesight.v1 import gallery_pb2 as pb
from tests.support import WAIT_S
from tests.support.party import GONE, INVALID, Party, fails
from tests.support.serving import result_of

FEW = pb.GALLERY_FINDING_KIND_FEW_PICTURES
KEY = "0123456789abcdef"


async def findings(party: Party, gallery: str = "") -> list[pb.GalleryFinding]:
    """What Diagnose asks."""
    request = pb.DiagnoseRequest(gallery=gallery)
    found = await result_of(party.gallery.Diagnose(request, timeout=WAIT_S))
    return list(found.findings)


async def few(party: Party, label: str, gallery: str = "") -> pb.GalleryFinding:
    """The finding that a label has few pictures."""
    [found] = [
        one
        for one in await findings(party, gallery)
        if one.kind == FEW and list(one.labels) == [label]
    ]
    return found


async def settle(party: Party, *found: pb.GalleryFinding, **request: Any) -> list[str]:
    """The keys of what is settled."""
    asked = pb.SettleFindingsRequest(findings=found, **request)
    return list((await party.gallery.SettleFindings(asked, timeout=WAIT_S)).keys)


async def unsettle(party: Party, *keys: str, gallery: str = "") -> list[str]:
    """The keys of what was settled."""
    asked = pb.UnsettleFindingsRequest(gallery=gallery, keys=keys)
    return list((await party.gallery.UnsettleFindings(asked, timeout=WAIT_S)).keys)


async def is_settled(party: Party, label: str, gallery: str = "") -> bool:
    return (await few(party, label, gallery)).HasField("settlement")


async def test_a_settled_finding_says_who_settled_it_and_why_and_makes_no_revision(
    party: Party,
) -> None:
    await party.enrol((1, "a"), (2, "b"))
    found = await few(party, "a")
    assert list(found.image_ids) == [party.image_id(1)]
    assert await settle(party, found, author="mei", note="there is one look") == [found.key]
    again = await few(party, "a")
    assert (again.key, again.settlement.author) == (found.key, "mei")
    assert again.settlement.note == "there is one look"
    assert again.settlement.HasField("settled_at")
    assert not await is_settled(party, "b")
    assert [made.kind for made in await party.history()] == [pb.REVISION_KIND_ENROL]
    await settle(party, found, author="li")
    assert (await few(party, "a")).settlement.author == "li"


async def test_every_finding_has_a_key_of_its_own_and_is_settled_by_it(party: Party) -> None:
    await party.enrol((1, "a"), (2, "a"), (3, "b"))
    found = await findings(party)
    assert len({one.key for one in found}) == len(found)
    assert all(one.kind and one.labels for one in found)
    for one in found:
        assert len(one.key) == 16
        one.image_ids.reverse()
    # What a caller says of key and settlement counts for nothing.
    told = [pb.GalleryFinding(kind=f.kind, labels=f.labels, image_ids=f.image_ids) for f in found]
    assert await settle(party, *told) == [one.key for one in found]
    assert all(one.HasField("settlement") for one in await findings(party))


async def test_what_is_settled_can_be_taken_back(party: Party) -> None:
    await party.enrol((1, "a"))
    found = await few(party, "a")
    await settle(party, found)
    assert await unsettle(party, KEY, found.key.upper()) == [found.key]
    assert not await is_settled(party, "a")
    assert await unsettle(party, found.key) == []


async def test_a_finding_is_settled_until_what_it_is_about_changes(party: Party) -> None:
    await party.enrol((1, "a"), (2, "a"), (3, "b"))
    await settle(party, await few(party, "a"))
    await party.remove(3)
    assert await is_settled(party, "a")
    await party.remove(2)
    assert not await is_settled(party, "a")
    # It is about pictures and not about a revision.
    await party.rollback(1)
    assert await is_settled(party, "a")
    request = pb.RelabelRequest(image_ids=[party.image_id(2)], label="b")
    await party.gallery.Relabel(request, timeout=WAIT_S)
    assert not await is_settled(party, "a")


async def test_galleries_are_settled_apart_and_a_deleted_one_is_forgotten(party: Party) -> None:
    for gallery in ("one", "two"):
        await party.enrol((1, "a"), gallery=gallery)
        await settle(party, await few(party, "a", gallery), gallery=gallery)
    found = await few(party, "a", "two")
    assert await unsettle(party, found.key, gallery="two") == [found.key]
    assert await is_settled(party, "a", "one")
    await party.delete("one")
    await party.enrol((1, "a"), gallery="one")
    assert not await is_settled(party, "a", "one")


async def test_a_finding_about_what_the_gallery_lacks_settles_nothing(party: Party) -> None:
    await party.enrol((1, "a"))
    right = await few(party, "a")
    picture = pb.GalleryFinding(kind=FEW, labels=["a"], image_ids=[party.image_id(2)])
    label = pb.GalleryFinding(kind=FEW, labels=["b"])
    for wrong in (picture, label):
        assert await fails(settle(party, right, wrong)) == GONE
    assert await fails(settle(party, right, gallery="none")) == GONE
    assert await fails(unsettle(party, right.key, gallery="none")) == GONE
    assert not await is_settled(party, "a")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"findings": [pb.GalleryFinding(labels=["a"])]}, id="no kind"),
        pytest.param({"findings": [pb.GalleryFinding(kind=FEW)]}, id="no label"),
        pytest.param(
            {"findings": [pb.GalleryFinding(kind=FEW, labels=["a"])], "note": "x" * 1025},
            id="a long note",
        ),
        pytest.param(
            {"findings": [pb.GalleryFinding(kind=FEW, labels=["a"])], "author": "x" * 257},
            id="a long name",
        ),
        pytest.param(
            {"findings": [pb.GalleryFinding(kind=FEW, labels=["a"])] * 1001}, id="too many"
        ),
    ],
)
async def test_what_cannot_be_settled_is_refused(party: Party, request_: dict[str, Any]) -> None:
    await party.enrol((1, "a"))
    asked = pb.SettleFindingsRequest(**request_)
    assert await fails(party.gallery.SettleFindings(asked, timeout=WAIT_S)) == INVALID


@pytest.mark.parametrize("keys", [(), ("",), (KEY[:-1],), (KEY + "0",), ("x" * 16,)])
async def test_what_cannot_be_a_key_is_refused(party: Party, keys: tuple[str, ...]) -> None:
    await party.enrol((1, "a"))
    assert await fails(unsettle(party, *keys)) == INVALID
