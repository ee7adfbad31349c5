"""A person's way through `pagesight review`, in a real browser beside a server with fake models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import Browser, BrowserContext, Locator, expect  # noqa: E402
from playwright.sync_api import Page as Tab  # noqa: E402

from pagesight import Decision, EnrolItem  # noqa: E402
from pagesight._review_page.model import Waiting  # noqa: E402
from tests.e2e import chromium  # noqa: E402
from tests.support.reviewing import (  # noqa: E402
    ACCOUNT,
    CARD_NUMBER,
    HOSTILE_LABEL,
    HOSTILE_TEXT,
    LOGIN,
    TICKETS,
    Page,
    StubServer,
    image_id,
    picture,
    reviewed,
    stub_server,
)

WAIT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = chromium.find()
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1440, "height": 900})
    made.set_default_timeout(WAIT_MS)
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    with stub_server(tmp_path / "server") as made:
        made.enrol(LOGIN, ACCOUNT)
        yield made


def folder(tmp_path: Path, *pages: str, count: int = 4) -> list[Path]:
    """Screenshots that the gallery does not hold."""
    root = tmp_path / "screenshots"
    root.mkdir(exist_ok=True)
    paths = []
    for page in pages:
        for number in range(20, 20 + count):
            paths.append(root / f"{page}-{number}.png")
            paths[-1].write_bytes(picture(page, number))
    return paths


def opened(context: BrowserContext, page: Page) -> Tab:
    """A tab with the queue, whose console must stay empty."""
    tab = context.new_page()
    tab.on("console", lambda message: problems.append(message.text))
    tab.on("pageerror", lambda error: problems.append(str(error)))
    tab.on("dialog", lambda dialog: problems.append(dialog.message))
    problems: list[str] = []
    page.wait_until_fed()
    tab.goto(page.url)
    # The first, and the next five where there are so many.
    loaded = min(6, page.review.desk.counts.waiting)
    expect(tab.locator("#deck > article")).to_have_count(loaded, timeout=WAIT_MS)
    tab.problems = problems  # type: ignore[attr-defined]
    return tab


def quiet(tab: Tab) -> bool:
    """Whether the browser had nothing to complain of: no script failed, nothing was forbidden."""
    assert tab.problems == []  # type: ignore[attr-defined]
    return True


def card(tab: Tab) -> Locator:
    """What is looked at."""
    return tab.locator("#deck > article").first


def shown(tab: Tab) -> str:
    """The key of what is looked at."""
    return card(tab).get_attribute("data-key") or ""


def press_apart(tab: Tab, key: str) -> None:
    """Presses a key as a person does who has seen the card: not as a finger that bounces."""
    tab.keyboard.press(key)
    tab.wait_for_timeout(200)


def decisions(tab: Tab, page: Page, server: StubServer) -> list[Decision]:
    """What is recorded, the oldest first, once all that was pressed is."""
    # Not wait_for_function: it evaluates text in the page, which the page forbids.
    while tab.evaluate("Boolean(outbox.length || sending)"):
        tab.wait_for_timeout(20)
    with server.client() as client:
        return page.decisions(client)


def test_a_finger_that_bounces_decides_one_card(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with reviewed(server, pictures=folder(tmp_path, LOGIN, ACCOUNT)) as page:
        tab = opened(context, page)
        first = shown(tab)
        tab.evaluate(
            """for (const _ of [1, 2])
                 document.dispatchEvent(new KeyboardEvent("keydown", { key: "o" }))"""
        )
        assert shown(tab) != first
        (made,) = decisions(tab, page, server)
        assert made.label == "other"


def test_a_person_goes_through_the_queue_with_the_keyboard_alone(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with reviewed(server, pictures=folder(tmp_path, LOGIN, ACCOUNT)) as page:
        tab = opened(context, page)
        first = shown(tab)
        answered = card(tab).locator("h2").inner_text()
        tab.keyboard.press("Enter")
        assert shown(tab) != first
        runner_up = card(tab).locator(".choices button").nth(1).get_attribute("data-label")
        tab.keyboard.press("2")
        tab.keyboard.press("o")
        third = shown(tab)
        tab.keyboard.press("u")
        assert shown(tab) != third
        tab.keyboard.press("s")
        tab.keyboard.press("l")
        tab.keyboard.type("accou")
        expect(tab.locator("#label-list li").first).to_have_text(ACCOUNT)
        tab.keyboard.press("Enter")
        expect(tab.locator("#labels")).not_to_be_visible()
        made = decisions(tab, page, server)
        assert len(made) == 4
        assert made[0].label == answered
        assert made[0].reviewer == "ann"
        assert made[0].revision == 1
        assert made[0].seconds > 0
        assert made[1].label == runner_up
        assert made[1].shown_label != runner_up
        assert [one.label for one in made[2:]] == ["", ACCOUNT]
        assert quiet(tab)


def test_the_next_five_are_there_without_the_network(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with reviewed(server, pictures=folder(tmp_path, LOGIN, ACCOUNT)) as page:
        tab = opened(context, page)
        expect(tab.locator("#deck > article")).to_have_count(6)
        for at in range(6):
            picture_of = tab.locator("#deck > article").nth(at).locator(".shot img")
            picture_of.evaluate("img => img.decode()")
        context.set_offline(True)
        seen = {shown(tab)}
        for _ in range(5):
            press_apart(tab, "Enter")
            assert card(tab).locator(".shot img").evaluate("img => img.naturalWidth") == 100
            seen.add(shown(tab))
        assert len(seen) == 6
        expect(tab.locator("#toast")).to_contain_text("kept here")
        context.set_offline(False)
        assert len(decisions(tab, page, server)) == 5


def test_digits_are_masked_until_a_press_that_is_noted(
    server: StubServer, tmp_path: Path, context: BrowserContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with reviewed(server, pictures=folder(tmp_path, LOGIN, count=1)) as page:
        tab = opened(context, page)
        assert "Card •••• ••••" in card(tab).inner_text()
        assert "6217" not in tab.content()
        assert card(tab).locator(".shot rect.cover").count() == 1
        tab.keyboard.press("d")
        expect(card(tab)).to_contain_text(CARD_NUMBER)
        assert card(tab).locator("rect.cover").count() == 0
        noted = [record.getMessage() for record in caplog.records if "shown to" in record.message]
        assert noted == [f"digits of {image_id(picture(LOGIN, 20))[:12]} shown to ann"]
        assert quiet(tab)


def test_what_is_decided_is_enrolled_as_one_revision_and_undone_as_one(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with (
        reviewed(
            server, pictures=folder(tmp_path, LOGIN, count=3), export=tmp_path / "labelled"
        ) as page,
        server.client() as client,
    ):
        tab = opened(context, page)
        for _ in range(2):
            tab.keyboard.press("e")
            tab.keyboard.press("1")
        tab.keyboard.press("o")
        assert len(decisions(tab, page, server)) == 3
        exported = {path.parent.name for path in (tmp_path / "labelled").glob("*/*.png")}
        assert exported == {LOGIN, "other"}
        tab.goto(f"{page.root}/batch")
        tab.get_by_role("button", name="What would change?").click()
        expect(tab.locator("#preview")).to_contain_text("answers would turn")
        tab.get_by_role("button", name="Enrol what is ticked").click()
        expect(tab.locator(".made")).to_contain_text("Revision 2")
        assert client.get_gallery().images == 8
        # What the gallery holds says nothing about it: only what is not enrolled is exported.
        assert len(list((tmp_path / "labelled").glob("*/*.png"))) == 1
        tab.get_by_role("button", name="Undo: go back to revision 1").click()
        expect(tab.locator(".made")).to_contain_text("undone")
        assert client.get_gallery().images == 6
        assert quiet(tab)


def test_new_pages_are_found_and_enrolled_and_not_shown_again(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with (
        reviewed(server, pictures=folder(tmp_path, TICKETS, LOGIN)) as page,
        server.client() as client,
    ):
        tab = opened(context, page)
        tab.goto(f"{page.root}/discovery")
        tab.get_by_role("button", name="Look for new pages").click()
        cluster = tab.locator("section.cluster")
        expect(cluster).to_have_count(1)
        expect(cluster).to_contain_text("4 alike")
        expect(cluster.locator(".shared")).to_contain_text(HOSTILE_TEXT)
        assert cluster.locator(".sheet img").count() == 4
        cluster.get_by_label("Name").fill(TICKETS)
        cluster.get_by_role("button", name="Enrol all 4").click()
        expect(tab.locator("#found")).to_contain_text(f"enrolled as {TICKETS}")
        assert {image.label for image in client.list_images()} == {LOGIN, ACCOUNT, TICKETS}
        assert [one.label for one in page.decisions(client)] == 4 * [TICKETS]
        tab.get_by_role("button", name="Look for new pages").click()
        expect(tab.locator("#found")).to_contain_text("No new page turns up")
        assert quiet(tab)


def test_what_one_reviewer_decides_leaves_the_other_s_queue(
    server: StubServer, tmp_path: Path, browser: Browser
) -> None:
    paths = folder(tmp_path, LOGIN, count=3)
    with (
        reviewed(server, pictures=paths) as hers,
        reviewed(server, pictures=paths, reviewer="bob") as his,
        browser.new_context() as one,
        browser.new_context() as other,
    ):
        ann, bob = opened(one, hers), opened(other, his)
        expect(bob.locator("#status")).to_contain_text("3 waiting")
        press_apart(ann, "Enter")
        press_apart(ann, "Enter")
        expect(bob.locator("#status")).to_contain_text("1 waiting", timeout=WAIT_MS)
        # What bob looks at already stays, and what he says of it is kept beside hers.
        bob.keyboard.press("o")
        made = decisions(bob, his, server)
        assert [one.reviewer for one in made] == ["ann", "ann", "bob"]


def test_a_server_that_goes_away_loses_nothing(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with reviewed(server, pictures=folder(tmp_path, LOGIN, ACCOUNT)) as page:
        tab = opened(context, page)
        expect(tab.locator("#deck > article")).to_have_count(6)
        server.stop()
        press_apart(tab, "Enter")
        press_apart(tab, "Enter")
        expect(tab.locator("#status .away")).to_be_visible(timeout=WAIT_MS)
        expect(tab.locator("#status")).to_contain_text("2 to send")
        server.start()
        assert len(decisions(tab, page, server)) == 2
        expect(tab.locator("#status .away")).to_have_count(0, timeout=WAIT_MS)


def test_ten_thousand_items_wait_and_one_is_looked_at(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    path = folder(tmp_path, LOGIN, count=1)[0]
    with reviewed(server, pictures=[path]) as page:
        opened(context, page).close()
        for number in range(10_000):
            page.review.desk.add(
                Waiting(
                    image_id=image_id(f"{number}".encode()),
                    origin="folder",
                    path=str(tmp_path / "gone.png"),
                    label=LOGIN,
                    closest_label=LOGIN,
                    doubt=number / 20_000,
                )
            )
        tab = context.new_page()
        tab.goto(page.url)
        expect(card(tab)).to_be_visible()
        expect(tab.locator("#status")).to_contain_text(
            re.compile(r"\d{3,} waiting|1,\d{3} waiting")
        )
        assert tab.locator("#deck > article").count() <= 8


def test_labels_and_texts_with_markup_are_text(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with server.client() as client:
        client.enrol([EnrolItem(image=picture(TICKETS, n), label=HOSTILE_LABEL) for n in range(3)])
    with reviewed(server, pictures=folder(tmp_path, TICKETS, count=2)) as page:
        tab = opened(context, page)
        expect(card(tab).locator(".choices")).to_contain_text(HOSTILE_LABEL)
        expect(card(tab)).to_contain_text(HOSTILE_TEXT)
        tab.keyboard.press("l")
        tab.keyboard.type("<img")
        expect(tab.locator("#label-list li").first).to_have_text(HOSTILE_LABEL)
        tab.keyboard.press("Enter")
        expect(tab.locator("#labels")).not_to_be_visible()
        assert decisions(tab, page, server)[0].label == HOSTILE_LABEL
        for view in ("batch", "figures"):
            tab.goto(f"{page.root}/{view}")
            expect(tab.locator("main")).to_contain_text(HOSTILE_LABEL)
            assert tab.locator("img[src=x]").count() == 0
        assert quiet(tab)


def test_a_phone_s_width_needs_no_sideways_scrolling(
    server: StubServer, tmp_path: Path, browser: Browser
) -> None:
    with (
        reviewed(server, pictures=folder(tmp_path, LOGIN, ACCOUNT)) as page,
        browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context,
    ):
        tab = opened(context, page)
        for view in ("", "batch", "discovery", "figures"):
            tab.goto(f"{page.root}/{view}")
            width = tab.evaluate("document.documentElement.scrollWidth")
            assert (view, width) == (view, 390)
        tab.goto(page.root)
        before = shown(tab)
        card(tab).get_by_role("button", name="Right").tap()
        assert shown(tab) != before
        assert len(decisions(tab, page, server)) == 1


def test_by_touch_alone_help_opens_and_the_choice_of_a_label_is_left(
    server: StubServer, tmp_path: Path, browser: Browser
) -> None:
    with (
        reviewed(server, pictures=folder(tmp_path, LOGIN)) as page,
        browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True) as context,
    ):
        tab = opened(context, page)
        first = shown(tab)
        tab.get_by_role("button", name="Help").tap()
        expect(tab.locator("#help")).to_contain_text("only the screenshot")
        tab.get_by_role("button", name="Close").tap()
        card(tab).get_by_role("button", name="label…").tap()
        tab.get_by_role("button", name="Cancel").tap()
        expect(tab.locator("dialog[open]")).to_have_count(0)
        assert shown(tab) == first
        assert decisions(tab, page, server) == []
        # Figures keep their line: a score is not broken between two of its digits.
        scores = card(tab).locator(".terms td:last-child")
        lines = scores.evaluate_all(
            """cells => cells.map((cell) => {
                 const range = document.createRange();
                 range.selectNodeContents(cell);
                 return range.getClientRects().length;
               })"""
        )
        assert set(lines) == {1}
        assert quiet(tab)


def test_the_focus_is_seen_and_nothing_is_stored(
    server: StubServer, tmp_path: Path, context: BrowserContext
) -> None:
    with reviewed(server, pictures=folder(tmp_path, LOGIN)) as page:
        tab = opened(context, page)
        assert "token" not in tab.url
        tab.keyboard.press("Tab")
        focused = tab.evaluate(
            "(at => [at.tagName, getComputedStyle(at).outlineStyle])(document.activeElement)"
        )
        assert focused == ["BUTTON", "solid"]
        tab.keyboard.press("Enter")
        assert len(decisions(tab, page, server)) == 1
        assert tab.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        assert tab.evaluate("document.cookie") == ""
        assert quiet(tab)


def test_whoever_may_not_enrol_may_decide(tmp_path: Path, context: BrowserContext) -> None:
    roles = {
        "owner": ["classify", "gallery-read", "gallery-write"],
        "reviewer": ["classify", "gallery-read", "review"],
    }
    with stub_server(tmp_path / "server", roles=roles) as server:
        server.enrol(LOGIN, ACCOUNT, token="owner")
        pictures = folder(tmp_path, LOGIN, count=2)
        with (
            reviewed(server, token="reviewer", pictures=pictures) as page,
            server.client("reviewer") as client,
        ):
            tab = opened(context, page)
            expect(card(tab).locator('[data-act="teach"]')).to_be_disabled()
            tab.keyboard.press("Enter")
            while tab.evaluate("Boolean(outbox.length || sending)"):
                tab.wait_for_timeout(20)
            recorded = page.decisions(client)
            tab.goto(f"{page.root}/batch")
            expect(tab.get_by_role("button", name="Enrol what is ticked")).to_be_disabled()
            assert [one.reviewer for one in recorded] == ["reviewer/ann"]
