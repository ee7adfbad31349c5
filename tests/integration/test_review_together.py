"""Several reviewers of one gallery: who is who, what one decides and takes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pagesight import Decision
from pagesight._review_page.desk import Desk
from pagesight._review_page.model import Card
from tests.integration.test_review_page import until
from tests.support.reviewing import (
    ACCOUNT,
    LOGIN,
    StubServer,
    image_id,
    picture,
    reviewed,
    stub_server,
)

REVIEWER, OWNER = ["review"], ["gallery-write", "classify", "review"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    roles = {"owner": OWNER, "one": REVIEWER, "other": REVIEWER}
    with stub_server(tmp_path / "server", roles=roles) as made:
        made.enrol(LOGIN, ACCOUNT, token="owner")
        yield made


@pytest.fixture
def screenshots(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in (20, 21)]
    for number, path in enumerate(paths, start=20):
        path.write_bytes(picture(LOGIN, number))
    return paths


def dealt(desk: Desk) -> set[str]:
    """The pictures of the cards that are ready."""
    return {card.waiting.image_id for card in desk.deal(()).cards if isinstance(card, Card)}


def test_who_has_the_same_account_name_under_another_token_is_somebody_else(
    server: StubServer, screenshots: list[Path]
) -> None:
    ours, hers = (image_id(path.read_bytes()) for path in screenshots)
    for token, decided in (("one", ours), ("other", hers)):
        with server.client(token) as client:
            made = Decision(image_id=decided, label=LOGIN, reviewer="root")
            client.record_decisions([made])
    options: dict[str, Any] = {"reviewer": "root", "second_opinions": 1.0, "pictures": screenshots}
    with reviewed(server, token="one", **options) as page:
        page.wait_until_fed()
        page.review.desk.go_on()
        # What we decided ourselves is no second opinion; what she decided is.
        until(lambda: dealt(page.review.desk) == {hers})


def test_what_another_reviewer_takes_back_waits_again(
    server: StubServer, screenshots: list[Path]
) -> None:
    with (
        reviewed(server, token="one", pictures=screenshots) as hers,
        reviewed(server, token="other", pictures=screenshots, reviewer="bob") as his,
    ):
        for page in (hers, his):
            page.wait_until_fed()
            page.review.desk.go_on()
        ann, bob = hers.review.desk, his.review.desk
        both = {image_id(path.read_bytes()) for path in screenshots}
        until(lambda: dealt(ann) == both)
        until(lambda: dealt(bob) == both)
        (first, _) = bob.deal(()).cards
        assert isinstance(first, Card)
        bob.decide(first.key, ACCOUNT)
        until(lambda: dealt(ann) == both - {first.waiting.image_id})
        bob.undo()
        until(lambda: dealt(ann) == both)
