"""What the store refuses or cannot bring back, as callers of the service see it."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.gallery import Limits
from tests.support import WAIT_S
from tests.support.pictures import BLUE, GREEN, RED, solid
from tests.support.serving import details, serving, status_of


async def test_a_full_gallery_is_told_to_the_caller_and_goes_on_answering(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        served.store._limits = Limits(max_pictures=2)
        await served.enrol(("a", solid(RED)), ("b", solid(BLUE)))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.enrol(("c", solid(GREEN)))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(status_of(error.value)) == ("LIMIT_REACHED", None)
        assert "raise gallery.max_pictures" in (error.value.details() or "")
        assert (await served.classify(solid(RED))).closest_label == "a"


async def test_a_rollback_names_the_pictures_that_cannot_come_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        enrolled = await served.enrol(("a", solid(RED)), ("b", solid(BLUE)))
        purged = enrolled.outcomes[0].image_id
        served.store.purge([purged], author="li")
        request = gpb.RollbackRequest(to_revision=1)
        answer = await served.gallery.Rollback(request, timeout=WAIT_S)
        assert (answer.restored, answer.removed) == (0, 0)
        assert list(answer.lost_image_ids) == [purged]
        # The next query knows, and whoever sends the picture again is told.
        assert (await served.classify(solid(RED))).closest_label == "b"
        again = await served.enrol(("a", solid(RED)))
        assert details(again.outcomes[0].error) == ("PURGED", None)


async def test_galleries_of_one_server_do_not_know_of_each_other(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)), gallery="first")
        second = await served.enrol(("b", solid(BLUE)), gallery="second")
        image_ids = [second.outcomes[0].image_id]
        change = gpb.Change(gallery="second")
        relabel = gpb.RelabelRequest(change=change, image_ids=image_ids, label="c")
        await served.gallery.Relabel(relabel, timeout=WAIT_S)
        remove = gpb.RemoveRequest(change=change, image_ids=image_ids)
        await served.gallery.Remove(remove, timeout=WAIT_S)
        rollback = gpb.RollbackRequest(change=change, to_revision=1)
        await served.gallery.Rollback(rollback, timeout=WAIT_S)
        after = await served.classify(solid(BLUE), gallery="first")
        assert (after.closest_label, after.revision) == ("a", 1)
        known = gpb.ListImagesRequest(gallery="first")
        listed = await served.gallery.ListImages(known, timeout=WAIT_S)
        assert [image.label for image in listed.images] == ["a"]
        remove = gpb.RemoveRequest(change=gpb.Change(gallery="first"), image_ids=image_ids)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.gallery.Remove(remove, timeout=WAIT_S)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
