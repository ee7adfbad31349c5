"""A gallery's care over real sockets: near duplicates, wrong labels, brands, pictures read back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pagesight.v1 import gallery_pb2 as pb
from pagesight_server.common.errors import StoreAwayError
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service import galleries
from tests.support.gallery_calls import GREEN_ID, RED_ID, fails, id_of
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving import Serving, result_of, serving
from tests.support.stores import sqlite


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Serving]:
    """Serves an empty store."""
    async with serving(tmp_path) as made:
        yield made


async def test_pictures_that_were_almost_there_are_told_when_they_are_enrolled(
    served: Serving,
) -> None:
    served.models.texts = {RED: ("我的额度",)}
    copy = solid(RED, width=30)
    await served.enrol(("a", solid(RED)), ("b", solid(BLUE)))
    applied = await served.enrol(
        ("b", copy), ("b", solid(GREEN)), ("a", solid(RED)), request_id="once"
    )
    assert [outcome.added for outcome in applied.outcomes] == [True, True, False]
    near, unlike, known = applied.outcomes
    [duplicate] = near.near_duplicates
    assert (duplicate.image_id, duplicate.label) == (RED_ID, "a")
    assert duplicate.visual > 0.99
    assert not unlike.near_duplicates
    assert not known.near_duplicates
    again = await served.enrol(("b", copy), request_id="once")
    assert again == applied


async def test_an_enrolment_stands_where_its_pictures_cannot_be_compared_any_more(
    served: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise StoreAwayError("connection refused")

    monkeypatch.setattr(galleries, "near_duplicates", away)
    applied = await served.enrol(("a", solid(RED)))
    assert [(one.added, len(one.near_duplicates)) for one in applied.outcomes] == [(True, 0)]
    assert applied.revision == 1
    assert "what was enrolled is not compared: connection refused" in caplog.text


async def test_a_wrong_label_is_found_with_the_pictures_that_speak_against_it(
    served: Serving,
) -> None:
    reds = [solid(RED, width=width) for width in (24, 25, 26)]
    greens = [solid(GREEN, width=width) for width in (24, 25, 26)]
    served.models.texts = {RED: ("loan", "limit"), GREEN: ("alarm", "clock")}
    pictures = [("red", data) for data in reds] + [("green", data) for data in greens]
    wrong = solid(GREEN, width=27)
    await served.enrol(*pictures, ("red", wrong))
    found = await result_of(served.gallery.Diagnose(pb.DiagnoseRequest()))
    assert (found.revision, found.images, found.examined) == (1, 7, 7)
    first = found.suspects[0]
    assert (first.image_id, first.label, first.suggested_label) == (id_of(wrong), "red", "green")
    assert first.suggested_image_id in {id_of(data) for data in greens}
    assert first.own_image_id in {id_of(data) for data in reds}
    assert first.likely
    assert (first.neighbours, first.foreign_neighbours) == (3, 3)
    groups = [[image.label for image in group.images] for group in found.duplicates]
    assert groups == [["green", "green", "green", "red"], ["red", "red", "red"]]
    # The copy of a green picture counts as a red one of its own; the three reds are one.
    health = {label.label: (label.images, label.distinct_images) for label in found.labels}
    assert health == {"green": (3, 1), "red": (4, 2)}
    # The green picture under red is the one that would be rejected or answered with green, and
    # that no other red one looks like.
    red = next(label for label in found.labels if label.label == "red")
    assert red.left_out_images == 4
    assert list(red.unlike_image_ids) == [id_of(wrong)]
    assert found.left_out_images == 7
    part = await result_of(served.gallery.Diagnose(pb.DiagnoseRequest(max_images=2)))
    assert (part.images, part.examined) == (7, 2)


async def test_brands_are_suggested_and_none_is_set(served: Serving) -> None:
    served.models.texts = {
        RED: ("有钱花", "可用额度", "由有钱花提供"),
        GREEN: ("闪电", "可用额度"),
    }
    await served.enrol(("dx_amount", solid(RED)), ("zs_amount", solid(GREEN)))
    known = pb.Label(label="dx_amount", brands=["度小满"], outputs=["dx"])
    await served.gallery.SetLabels(pb.SetLabelsRequest(labels=[known]))
    found = await result_of(served.gallery.SuggestBrands(pb.SuggestBrandsRequest()))
    assert found.revision == 2
    first, second = found.labels
    assert (first.label, list(first.known.brands)) == ("dx_amount", ["度小满"])
    assert [(s.text, s.images) for s in first.suggestions] == [("有钱花", 1)]
    assert (second.label, list(second.suggestions)) == ("zs_amount", [])
    labels = await served.gallery.GetLabels(pb.GetLabelsRequest())
    assert [list(label.brands) for label in labels.labels] == [["度小满"], []]


async def test_a_picture_is_read_back_as_received_or_smaller(served: Serving) -> None:
    data = solid(RED, width=120, height=240)
    await served.enrol(("a", data))

    async def image(**request: Any) -> bytes:
        asked = pb.GetImageRequest(image_id=id_of(data), **request)
        found: bytes = (await served.gallery.GetImage(asked)).image
        return found

    assert await image() == data
    assert await image(max_side_px=240) == data
    small = decode(await image(max_side_px=60), ImageLimits())
    assert small.shape == (60, 30, 3)


async def test_pictures_of_another_gallery_and_those_not_kept_are_not_read(
    served: Serving,
) -> None:
    await served.enrol(("a", solid(RED)))
    await served.enrol(("a", solid(GREEN)), gallery="theirs")
    # As with gallery.keep_images = none.
    sqlite(served.store).execute(
        "UPDATE images SET bytes = NULL WHERE id = ?", (bytes.fromhex(RED_ID),)
    )
    for image_id, said in [(GREEN_ID, "has no image"), (RED_ID, "keep_images")]:
        call = served.gallery.GetImage(pb.GetImageRequest(image_id=image_id))
        code, reason, message = await fails(call)
        assert (code, reason) == ("NOT_FOUND", "NOT_FOUND")
        assert said in message


async def test_what_care_cannot_be_asked_is_refused(served: Serving) -> None:
    await served.enrol(("a", solid(RED)))
    calls = [
        result_of(served.gallery.Diagnose(pb.DiagnoseRequest(max_images=-1))),
        served.gallery.GetImage(pb.GetImageRequest(image_id=RED_ID, max_side_px=-1)),
        served.gallery.GetImage(pb.GetImageRequest(image_id=RED_ID, max_side_px=5000)),
        served.gallery.GetImage(pb.GetImageRequest(image_id="red")),
    ]
    for call in calls:
        assert (await fails(call))[:2] == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    for call in (
        result_of(served.gallery.Diagnose(pb.DiagnoseRequest(gallery="none"))),
        result_of(served.gallery.SuggestBrands(pb.SuggestBrandsRequest(gallery="none"))),
    ):
        assert (await fails(call))[:2] == ("NOT_FOUND", "NOT_FOUND")
