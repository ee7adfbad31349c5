"""What review.proto promises of discovery, dismissed clusters and previews."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from pagesight.v1 import gallery_pb2
from pagesight.v1 import review_pb2 as pb
from tests.support import WAIT_S
from tests.support.party import GONE, INVALID, Party, fails
from tests.support.pictures import solid

BAD = b"bad: no picture at all"
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def one_page(party: Party, count: int) -> list[bytes]:
    """Pictures of one page, unlike those that `Party.picture` makes."""
    return [
        f"cart {i}".encode() if party.fake else solid((10 + 8 * i, 10, 200)) for i in range(count)
    ]


def ids(images: Sequence[bytes]) -> set[str]:
    return {hashlib.sha256(image).hexdigest() for image in images}


async def discovering(party: Party, *images: bytes, **header: Any) -> list[Any]:
    """All that a Discover call answers."""
    messages = [pb.DiscoverRequest(header=pb.DiscoverHeader(**header))]
    messages += [pb.DiscoverRequest(picture=pb.DiscoverPicture(image=image)) for image in images]
    return [reply async for reply in party.review.Discover(iter(messages), timeout=WAIT_S)]


async def discover(party: Party, *images: bytes, **header: Any) -> pb.Discovery:
    result: pb.Discovery = (await discovering(party, *images, **header))[-1].result
    return result


async def dismiss(party: Party, *clusters: pb.DismissedCluster, **request: Any) -> list[str]:
    message = pb.DismissClustersRequest(clusters=clusters, **request)
    return list((await party.review.DismissClusters(message, timeout=WAIT_S)).keys)


async def previewing(party: Party, *pictures: Any, **header: Any) -> list[Any]:
    """All that a Preview call answers."""
    messages = [pb.PreviewRequest(header=pb.PreviewHeader(**header))]
    messages += [
        pb.PreviewRequest(enrol=one)
        if isinstance(one, gallery_pb2.EnrolItem)
        else pb.PreviewRequest(picture=one)
        for one in pictures
    ]
    return [reply async for reply in party.review.Preview(iter(messages), timeout=WAIT_S)]


async def preview(party: Party, *pictures: Any, **header: Any) -> pb.PreviewResult:
    result: pb.PreviewResult = (await previewing(party, *pictures, **header))[-1].result
    return result


def item(image: bytes, label: str) -> gallery_pb2.EnrolItem:
    return gallery_pb2.EnrolItem(image=image, label=label)


def asked(image: bytes, truth: str = "") -> pb.PreviewPicture:
    return pb.PreviewPicture(image=image, truth=truth)


@pytest.fixture
async def known(party: Party) -> Party:
    """A gallery of two pages."""
    await party.enrol((1, "a"), (2, "b"))
    return party


# --- Discover ---------------------------------------------------------------------------


async def test_alike_pictures_are_one_cluster_that_can_be_enrolled(known: Party) -> None:
    images = one_page(known, 3)
    found = await discover(known, *images, images[0])
    (cluster,) = found.clusters
    assert set(cluster.image_ids) == ids(images)
    assert len(cluster.image_ids) == 3
    assert re.fullmatch("[0-9a-f]{16}", cluster.key)
    assert cluster.suggested_label not in ("", "a", "b")
    assert cluster.closest_label in ("a", "b")
    assert 0 < cluster.likeness <= 1
    assert (list(found.single_image_ids), found.left_out, list(found.unreadable)) == ([], 0, [])
    again = await discover(known, *images[::-1])
    assert again.clusters[0].key == cluster.key
    assert [made.revision for made in await known.history()] == [1]


async def test_whoever_does_it_again_sees_only_what_is_new(known: Party) -> None:
    images = one_page(known, 4)
    (cluster,) = (await discover(known, *images)).clusters
    messages = [gallery_pb2.EnrolRequest(header=gallery_pb2.Change())]
    messages += [
        gallery_pb2.EnrolRequest(item=item(image, cluster.suggested_label)) for image in images
    ]
    async for _ in known.gallery.Enrol(iter(messages), timeout=WAIT_S):
        pass
    found = await discover(known, *images)
    assert (list(found.clusters), list(found.single_image_ids)) == ([], [])
    assert found.left_out == 4


async def test_dismissed_clusters_are_in_no_later_result(known: Party) -> None:
    images = one_page(known, 3)
    (cluster,) = (await discover(known, *images)).clusters
    gone = pb.DismissedCluster(images=images[:2])
    keys = await dismiss(known, gone, author="mei")
    assert len(keys) == 1
    assert await dismiss(known, gone) == keys
    found = await discover(known, *images)
    assert (list(found.clusters), found.left_out) == ([], 3)
    await known.enrol((1, "a"), (2, "b"), gallery="elsewhere")
    assert len((await discover(known, *images, gallery="elsewhere")).clusters) == 1
    whole = await dismiss(known, pb.DismissedCluster(images=images))
    assert whole == [cluster.key]


async def test_a_picture_alone_and_a_small_cluster_are_singles(known: Party) -> None:
    images = one_page(known, 2)
    found = await discover(known, images[0])
    assert (list(found.clusters), set(found.single_image_ids)) == ([], ids(images[:1]))
    found = await discover(known, *images, min_pictures=3)
    assert (list(found.clusters), set(found.single_image_ids)) == ([], ids(images))
    assert await discover(known) == pb.Discovery()


async def test_pictures_that_cannot_be_read_are_told_by_their_place(known: Party) -> None:
    images = one_page(known, 2)
    found = await discover(known, images[0], BAD, images[1], BAD)
    assert [(one.index, one.error.code) for one in found.unreadable] == [
        (1, INVALID_ARGUMENT),
        (3, INVALID_ARGUMENT),
    ]
    assert set(found.clusters[0].image_ids) == ids(images)


async def test_progress_counts_pictures_and_ends_with_all(known: Party) -> None:
    images = one_page(known, 3)
    for announced in (0, 3):
        *progress, last = await discovering(known, *images, pictures=announced)
        assert last.WhichOneof("message") == "result"
        newest = progress[-1].progress
        assert (newest.done, newest.total) == (3, 3)


async def test_kept_rejections_are_looked_at_beside_what_is_sent(known: Party) -> None:
    rejected = [b"other 1", b"other 2"] if known.fake else one_page(known, 2)
    for image in (*rejected, known.picture(1)):
        await known.classify(image)
    await known.kept()
    listed = await known.review.ListKept(pb.ListKeptRequest(), timeout=WAIT_S)
    labels = {one.image_id: one.label for one in listed.answers}
    assert {labels[image_id] for image_id in ids(rejected)} == {"other"}
    (cluster,) = (await discover(known, kept=True)).clusters
    assert set(cluster.image_ids) == ids(rejected)
    (both,) = (await discover(known, rejected[0], kept=True)).clusters
    assert both.key == cluster.key
    # One that is kept no more, as it has become too old meanwhile, is left out.
    gone = pb.DismissedCluster(kept_image_ids=[*cluster.image_ids[:1], "0" * 64])
    assert len(await dismiss(known, gone)) == 1
    assert (await discover(known, kept=True)).left_out == 2


async def test_calls_that_make_no_sense_are_refused(known: Party) -> None:
    header = pb.DiscoverRequest(header=pb.DiscoverHeader())
    picture = pb.DiscoverRequest(picture=pb.DiscoverPicture(image=one_page(known, 1)[0]))
    for messages in ([], [picture], [header, header]):
        call = known.review.Discover(iter(messages), timeout=WAIT_S)
        assert await fails(_all(call)) == INVALID
    assert await fails(discover(known, min_pictures=-1)) == INVALID
    assert await fails(discover(known, gallery="nowhere")) == GONE


async def _all(call: Any) -> list[Any]:
    return [reply async for reply in call]


async def test_what_cannot_be_dismissed_is_refused_whole(known: Party) -> None:
    images = one_page(known, 3)
    gone = pb.DismissedCluster(images=images[:1])
    many = pb.DismissedCluster(images=images * 2)
    for clusters in ([], [gone, pb.DismissedCluster()], [gone, many], [gone] * 101):
        assert await fails(dismiss(known, *clusters)) == INVALID
    assert await fails(dismiss(known, gone, author="x" * 257)) == INVALID
    assert await fails(dismiss(known, gone, gallery="nowhere")) == GONE
    missing = pb.DismissedCluster(kept_image_ids=["0" * 64])
    assert await fails(dismiss(known, gone, missing)) == GONE
    broken = await fails(dismiss(known, gone, pb.DismissedCluster(images=[BAD])))
    assert broken == ("INVALID_ARGUMENT", "IMAGE_UNUSABLE")
    assert len((await discover(known, *images)).clusters) == 1


# --- Preview ----------------------------------------------------------------------------


async def test_a_preview_tells_which_answers_turn_and_enrols_nothing(known: Party) -> None:
    images = one_page(known, 3)
    shown = await preview(
        known,
        *(item(image, "c") for image in images[:2]),
        asked(images[0], "c"),
        asked(known.picture(1), "a"),
    )
    assert (shown.revision, shown.answered) == (1, 2)
    (turned,) = shown.turned
    assert turned.image_id in ids(images[:1])
    assert turned.label_before != "c"
    assert (turned.label_after, turned.truth) == ("c", "c")
    assert shown.right_after == shown.right_before + 1
    assert [made.revision for made in await known.history()] == [1]
    assert {label for label, _ in await known.images()} == {"a", "b"}


async def test_a_preview_of_nothing_turns_nothing(known: Party) -> None:
    shown = await preview(known, asked(known.picture(1)), asked(known.picture(1), "b"))
    assert (shown.answered, list(shown.turned)) == (1, [])
    assert (await preview(known)).answered == 0


async def test_a_gallery_that_is_not_there_yet_can_be_previewed(party: Party) -> None:
    images = one_page(party, 2)
    shown = await preview(party, item(images[0], "c"), item(images[1], "c"), asked(images[0]))
    assert shown.revision == 0
    assert [(one.label_before, one.label_after) for one in shown.turned] == [("other", "c")]
    assert await party.galleries() == []


async def test_what_cannot_be_enrolled_or_answered_is_told_by_its_place(known: Party) -> None:
    image = one_page(known, 1)[0]
    shown = await preview(
        known,
        item(BAD, "c"),
        item(known.picture(1), "b"),
        item(image, "a/b"),
        asked(BAD),
        asked(image, "a/b"),
        item(image, "c"),
    )
    assert [one.index for one in shown.unreadable] == [0, 1, 2, 3, 4]
    other_label = grpc.StatusCode.ALREADY_EXISTS.value[0]
    assert [one.error.code for one in shown.unreadable] == [
        INVALID_ARGUMENT,
        other_label,
        *[INVALID_ARGUMENT] * 3,
    ]


async def test_progress_of_a_preview_counts_all_its_pictures(known: Party) -> None:
    images = one_page(known, 2)
    *progress, last = await previewing(known, item(images[0], "c"), asked(images[1]), pictures=2)
    assert last.WhichOneof("message") == "result"
    assert (progress[-1].progress.done, progress[-1].progress.total) == (2, 2)


async def test_kept_answers_are_answered_before_and_after(known: Party) -> None:
    images = one_page(known, 2)
    await known.classify(images[0])
    await known.kept()
    shown = await preview(known, *(item(image, "c") for image in images), kept=True)
    assert shown.answered == 1
