"""The review of answers on the real server, through the client: roles, audit, purge, floods."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import pagesight
from pagesight import AsyncClient, Client, Decision, EnrolItem
from pagesight_server.config_sections import ReviewConfig
from pagesight_server.gallery import backup
from pagesight_server.gallery.location import PostgresUrl
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support import WAIT_S
from tests.support.fake_server import FakeServer
from tests.support.pictures import BLUE, GREEN, RED, shade, solid
from tests.support.serving import Serving, serving

TOKENS = {"owner": "gallery-write", "person": "review", "caller": "classify"}
KEEPING = ReviewConfig(keep=5, random_share=1.0)


def image_id(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def client(served: Serving, token: str | None = None) -> AsyncClient:
    return AsyncClient(served.address, token=token, timeout_s=WAIT_S)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Serving]:
    """A server that asks for tokens, with a gallery of one page."""
    file = tmp_path / "tokens.toml"
    file.write_text(
        "".join(
            f"[[token]]\nname = '{name}'\nroles = ['{role}']\n"
            f"sha256 = '{hashlib.sha256(name.encode()).hexdigest()}'\n"
            for name, role in TOKENS.items()
        ),
        "utf-8",
    )
    guards = [RequireRole(read_tokens(file))]
    async with serving(tmp_path, guards=guards, review=KEEPING) as served:
        async with client(served, "owner") as owner:
            items = [EnrolItem(image=solid((250, 10, n)), label="a") for n in (10, 20)]
            await owner.enrol(items)
        yield served


def audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "pagesight_server.audit"]


async def test_a_reviewer_reviews_and_cannot_change_a_gallery(guarded: Serving) -> None:
    async with client(guarded, "person") as person:
        assert (await person.classify(solid(RED))).label
        await guarded.keeper.flush()
        (kept,) = [one async for one in person.list_kept()]
        assert await person.get_kept_image(kept.image_id) == solid(RED)
        assert len(await person.draw_known(5)) == 2
        assert await person.record_decisions([Decision(image_id=kept.image_id, label="a")]) == 1
        assert (await person.review_figures()).decided == 1
        assert (await person.get_gallery()).images == 2
        finding = (await person.diagnose()).findings[0]
        await person.settle_findings([finding])
        await person.unsettle_findings([finding.key])
        for refused in (
            person.enrol([EnrolItem(image=solid(BLUE), label="b")]),
            person.remove([kept.image_id]),
            person.relabel([kept.image_id], "b"),
            person.rollback(0),
            person.set_labels([]),
            person.delete_gallery("default"),
        ):
            with pytest.raises(pagesight.PermissionDeniedError):
                await refused
    assert guarded.store.revisions() == {"default": 1}


@pytest.mark.parametrize("token", ["owner", "caller"])
async def test_whoever_changes_a_gallery_or_classifies_is_no_reviewer(
    guarded: Serving, token: str
) -> None:
    async with client(guarded, token) as other:
        for refused in (
            other.keep_limits(),
            other.get_kept_image("0" * 64),
            other.draw_known(),
            other.record_decisions([Decision(image_id="0" * 64, label="a")]),
            other.withdraw_decisions(["d"]),
            other.record_reveal("0" * 64),
            other.review_figures(),
        ):
            with pytest.raises(pagesight.PermissionDeniedError):
                await refused


async def test_the_name_of_the_token_stands_before_that_of_the_reviewer(guarded: Serving) -> None:
    async with client(guarded, "person") as person:
        for colour in (RED, GREEN, BLUE):
            await person.classify(solid(colour))
        await guarded.keeper.flush()
        await person.record_decisions(
            [
                Decision(image_id=image_id(solid(RED)), label="a", reviewer="mei"),
                Decision(image_id=image_id(solid(GREEN)), label="a"),
            ]
        )
        assert [one.reviewer async for one in person.list_decisions()] == ["person", "person/mei"]
        for name in ("mei", "person/mei"):
            left = [one.image_id async for one in person.list_kept(undecided_by=name)]
            assert left == [image_id(solid(BLUE)), image_id(solid(GREEN))]
        assert await person.recorded_name("mei") == "person/mei"
        assert await person.recorded_name() == "person"


async def test_the_audit_says_who_saw_and_decided_and_not_what(
    guarded: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    red = image_id(solid(RED))
    async with client(guarded, "person") as person:
        await person.classify(solid(RED))
        await guarded.keeper.flush()
        await person.get_kept_image(red)
        await person.get_kept_image(red, max_side_px=320)
        await person.record_reveal(red, reviewer="mei")
        made = Decision(image_id=red, label="a-secret-page", reviewer="mei")
        for _ in range(2):  # the second changes nothing
            await person.record_decisions([made])
            await person.withdraw_decisions([made.decision_id, "other"])
            await person.withdraw_decisions([made.decision_id])
        with pytest.raises(pagesight.NotFoundError):
            await person.get_kept_image("0" * 64)
    lines = [line.replace(" from ipv4:127.0.0.1:", " from ") for line in audited(caplog)]
    lines = [line.partition(" from ")[0] for line in lines]
    decided = [
        "gallery 'default': 1 decisions recorded by 'person' (reviewers 'person/mei')",
        "gallery 'default': 1 decisions withdrawn by 'person' (reviewers not named)",
    ]
    assert lines == [
        *["gallery 'default': kept picture read by 'person'"] * 2,
        "gallery 'default': picture revealed by 'person' (reviewer 'mei')",
        *decided * 2,
    ]
    assert audited(caplog)[0].endswith(f"as received: {red}")
    assert audited(caplog)[1].endswith(f"at most 320 pixels a side: {red}")
    assert "a-secret-page" not in caplog.text


async def test_a_purge_by_the_operator_reaches_what_was_kept_and_decided(
    tmp_path: Path,
) -> None:
    red, green = solid(RED), solid(GREEN)
    async with serving(tmp_path, review=KEEPING) as served, client(served) as person:
        await person.enrol([EnrolItem(image=solid(BLUE), label="a")])
        for image in (red, green):
            await person.classify(image)
        await served.keeper.flush()
        decisions = [Decision(image_id=image_id(image), label="a") for image in (red, green)]
        await person.record_decisions(decisions)
        backup.purge(served.store, [image_id(red)], author="root")
        assert [one.image_id async for one in person.list_kept()] == [image_id(green)]
        assert [one.image_id async for one in person.list_decisions()] == [image_id(green)]
        # It is answered, and neither kept nor decided again.
        await person.classify(red)
        await served.keeper.flush()
        assert [one.image_id async for one in person.list_kept()] == [image_id(green)]
        with pytest.raises(pagesight.FailedPreconditionError) as purged:
            await person.record_decisions([Decision(image_id=image_id(red), label="a")])
        assert purged.value.reason == "PURGED"


async def test_a_flood_of_rejections_is_answered_and_keeps_no_more_than_may_be(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path, review=KEEPING) as served, client(served) as person:
        await person.enrol([EnrolItem(image=solid(BLUE), label="a")])
        pictures = [solid(shade(number)) for number in range(200)]
        results = [one async for one in person.classify_stream(pictures, max_in_flight=32)]
        assert len([result.unwrap() for result in results]) == 200
        await served.keeper.flush()
        assert len([one async for one in person.list_kept(page_size=2)]) == 5
        assert served.keeper.dropped > 0


async def test_a_server_keeps_nothing_unless_it_is_told_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, client(served) as person:
        await person.enrol([EnrolItem(image=solid(BLUE), label="a")])
        await person.classify(solid(RED))
        await served.keeper.flush()
        assert [one async for one in person.list_kept()] == []
        assert (await person.keep_limits()).capacity == 0


async def test_two_servers_of_one_database_share_the_ring_and_the_decisions(
    tmp_path: Path, postgres_url: PostgresUrl
) -> None:
    async with (
        serving(tmp_path, location=postgres_url, review=KEEPING) as one,
        serving(tmp_path, location=postgres_url, review=KEEPING) as other,
        client(one) as mei,
        client(other) as li,
    ):
        revision = (await mei.enrol([EnrolItem(image=solid(BLUE), label="a")])).revision
        for number, person in enumerate([mei, li, mei, li, mei, li, mei]):
            await person.classify(solid(shade(1 + 40 * number)), min_revision=revision)
            await (one if person is mei else other).keeper.flush()
        newest = [image_id(solid(shade(1 + 40 * number))) for number in (6, 5, 4, 3, 2)]
        for person in (mei, li):
            assert [kept.image_id async for kept in person.list_kept()] == newest
        assert await li.get_kept_image(newest[0]) == solid(shade(241))
        for person, name, labels in ((mei, "mei", "aab"), (li, "li", "abb")):
            decisions = [
                Decision(image_id=kept, label=label, shown_label="other", reviewer=name)
                for kept, label in zip(newest, labels, strict=False)
            ]
            assert await person.record_decisions(decisions) == 3
        figures = await mei.review_figures()
        assert (figures.decided, figures.doubly_decided, figures.waiting) == (3, 3, 2)
        # Observed 2/3; li says a once and b twice, mei a twice and b once: (1 * 2 + 2 * 1) / 9.
        assert figures.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
        one.store.purge([newest[0]], author="root")
        assert newest[0] not in [kept.image_id async for kept in li.list_kept()]
        assert newest[0] not in [made.image_id async for made in li.list_decisions()]


def test_both_clients_read_what_the_server_says() -> None:
    with FakeServer() as server, Client(server.address, timeout_s=WAIT_S) as person:
        person.enrol([EnrolItem(image=data, label="a") for data in (b"one", b"two")])
        for data in (b"unsure", b"other", b"login"):
            person.classify(data)
        kept = list(person.list_kept(page_size=1))
        assert [one.kept_reason for one in kept] == ["random", "rejected", "doubtful"]
        assert kept[2].review_reasons == ("close_runner_up",)
        assert kept[2].kept_at is not None
        assert person.get_kept_image(kept[1].image_id) == b"other"
        assert person.keep_limits().capacity == 100
        (item,) = person.draw_known()
        assert (item.label, item.answer.label) == ("a", "a")
        made = Decision(image_id=kept[0].image_id, label="a", shown_label="login", seconds=2.0)
        assert person.record_decisions([made, made]) == 1
        (listed,) = person.list_decisions(image_ids=[kept[0].image_id])
        assert listed.decided_at is not None
        assert (listed.decision_id, listed.seconds) == (made.decision_id, 2.0)
        person.record_reveal(kept[0].image_id, reviewer="mei")
        assert server.review.revealed[0].reviewer == "mei"
        figures = person.review_figures()
        assert (figures.decided, figures.agreed, figures.waiting) == (1, 0, 2)
        assert figures.oldest_waiting == kept[2].kept_at
        assert figures.kappa is None
        assert figures.labels[0].corrected == 1
        assert person.withdraw_decisions([made.decision_id]) == 1
        with pytest.raises(TypeError):
            person.withdraw_decisions("one id")
        with pytest.raises(TypeError):
            next(person.list_decisions(image_ids="one id"))
