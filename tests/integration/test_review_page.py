"""The routes of the review page, beside a server with fake models: who may do what."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from pagesight import GalleryFinding, UnavailableError
from pagesight._review_page.model import Question
from pagesight._review_page.security import CSP
from tests.support import WAIT_S
from tests.support.reviewing import (
    ACCOUNT,
    CARD_NUMBER,
    LOGIN,
    TICKETS,
    Page,
    StubServer,
    image_id,
    picture,
    reviewed,
    stub_server,
)

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StubServer]:
    with stub_server(tmp_path / "server") as made:
        made.enrol(LOGIN, ACCOUNT)
        yield made


@pytest.fixture
def page(server: StubServer, tmp_path: Path) -> Iterator[Page]:
    (tmp_path / "query.png").write_bytes(picture(LOGIN, 20))
    with reviewed(server, pictures=[tmp_path / "query.png"]) as made:
        made.wait_until_fed()
        yield made


def until(ask: Callable[[], T | None]) -> T:
    """What is asked for, once it is there."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if answer := ask():
            return answer
    raise AssertionError("it did not come")


class Visitor:
    """A browser's way in: cookie, then the token that each change needs."""

    def __init__(self, page: Page) -> None:
        self.http = httpx.Client(base_url=page.root, trust_env=False)
        self.entered = self.http.get(page.url)
        self.http.get("/")
        found = re.search(r'name="csrf" content="([^"]+)"', self.http.get("/").text)
        assert found
        self.changes = {"x-csrf-token": found[1], "origin": page.root}

    def post(self, path: str, **fields: str) -> httpx.Response:
        """Makes a change."""
        return self.http.post(path, data=fields, headers=self.changes)

    def key(self) -> str:
        """The key of the first card."""
        return until(lambda: re.search(r'data-key="([^"]+)"', self.http.get("/more?have=").text))[1]


@pytest.fixture
def visitor(page: Page) -> Iterator[Visitor]:
    made = Visitor(page)
    yield made
    made.http.close()


def test_the_token_becomes_a_cookie_and_leaves_the_address(page: Page, visitor: Visitor) -> None:
    entered = visitor.entered
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert page.review.secrets.token not in cookie
    assert visitor.http.get("/").status_code == 200


def test_without_cookie_or_with_a_wrong_token_nothing_is_shown(page: Page) -> None:
    with httpx.Client(base_url=page.root, trust_env=False) as stranger:
        for path in ("/", "/more?have=", "/status", "/static/style.css", "/?token=wrong"):
            assert stranger.get(path).status_code == 403


def test_cookies_of_other_programs_on_this_machine_do_no_harm(visitor: Visitor) -> None:
    ours = "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())
    for odd in ('prefs={"theme":"dark"}', "a b=c", "=", "no sign", "k\u00e9=\u00e9"):
        cookie = f"{odd}; {ours}".encode()
        assert visitor.http.get("/", headers={b"cookie": cookie}).status_code == 200


def test_another_host_s_name_is_refused_whatever_it_knows(page: Page, visitor: Visitor) -> None:
    answer = visitor.http.get("/", headers={"host": "attacker.example"})
    assert answer.status_code == 421
    port = page.root.rpartition(":")[2]
    assert visitor.http.get("/", headers={"host": f"localhost:{port}"}).status_code == 200


def test_every_answer_forbids_what_the_page_does_not_need(visitor: Visitor) -> None:
    for path in ("/", "/nowhere", "/static/keys.js", "/more?have="):
        headers = visitor.http.get(path).headers
        assert headers["content-security-policy"] == CSP
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CSP
    assert "default-src 'none'" in CSP


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"x-csrf-token": "guess"}, id="a token that is not the page's"),
        pytest.param({"origin": "http://attacker.example"}, id="another origin"),
        pytest.param({"origin": "null"}, id="a sandboxed page"),
    ],
)
def test_a_change_from_elsewhere_is_refused(
    page: Page, visitor: Visitor, wrong: dict[str, str]
) -> None:
    data = {"key": visitor.key(), "label": LOGIN}
    answer = visitor.http.post("/decide", data=data, headers=visitor.changes | wrong)
    assert answer.status_code == 403
    assert visitor.http.post("/decide", data=data).status_code == 403
    assert page.review.desk.decided == ()


def test_a_decision_sent_twice_is_recorded_once(
    server: StubServer, page: Page, visitor: Visitor
) -> None:
    key = visitor.key()
    for _ in range(2):
        assert visitor.post("/decide", key=key, label=ACCOUNT, seconds="1.5").status_code == 204
    with server.client() as client:
        (made,) = page.decisions(client)
    assert (made.image_id, made.label) == (image_id(picture(LOGIN, 20)), ACCOUNT)
    assert (made.shown_label, made.revision, made.seconds) == (LOGIN, 1, 1.5)
    assert visitor.post("/undo").status_code == 200
    assert visitor.post("/undo").status_code == 409
    with server.client() as client:
        assert page.decisions(client) == []


@pytest.mark.parametrize("label", ["a/b", "other_kind", "x" * 129])
def test_a_label_that_cannot_be_decided_is_refused(
    page: Page, visitor: Visitor, label: str
) -> None:
    assert visitor.post("/decide", key=visitor.key(), label=label).status_code == 400
    assert page.review.desk.decided == ()


def test_a_key_that_was_never_dealt_is_not_found(visitor: Visitor) -> None:
    assert visitor.post("/decide", key="guess", label=LOGIN).status_code == 404
    assert visitor.http.get("/picture/guess").status_code == 404
    assert visitor.http.get("/cluster/guess").status_code == 404


def test_a_question_is_settled_for_everybody_and_reopened(
    server: StubServer, page: Page, visitor: Visitor
) -> None:
    with server.client() as client:
        finding = GalleryFinding(kind="few_pictures", labels=(LOGIN,), image_ids=(), key="")
        question = Question(
            finding=next(one for one in client.diagnose().findings if one.kind == finding.kind)
        )
        page.review.desk.add_question(question)
        assert visitor.post("/question/settle", key=question.key).status_code == 204
        (settled,) = [one for one in client.diagnose().findings if one.settled is not None]
        assert (settled.key, settled.settled and settled.settled.author) == (
            question.finding.key,
            "ann",
        )
        assert visitor.post("/question/reopen", key=question.key).status_code == 204
        assert all(one.settled is None for one in client.diagnose().findings)


def test_hidden_known_items_look_like_others_and_give_an_accuracy(
    server: StubServer, tmp_path: Path
) -> None:
    (tmp_path / "query.png").write_bytes(picture(LOGIN, 20))
    with reviewed(server, pictures=[tmp_path / "query.png"], known_share=0.5) as page:
        page.wait_until_fed()
        desk, visitor = page.review.desk, Visitor(page)
        item = until(lambda: next((one for one in desk._queue._known.values()), None))
        desk._queue.put_back(item, "doubtful")
        shown = until(
            lambda: re.search(
                f"/picture/{item.key}.*?</svg>", visitor.http.get("/more?have=").text, re.DOTALL
            )
        )
        # Its boxes count in pixels of what the gallery received, whatever the server keeps of it.
        assert 'viewBox="0 0 100 200"' in shown[0]
        label = item.known_label
        assert visitor.post("/decide", key=item.key, label=label, teach="1").status_code == 204
        assert not desk.decided[0].teach
        with server.client() as client:
            (made,) = page.decisions(client)
            assert made.known_label == label
            (figures,) = client.review_figures().reviewers
            assert (figures.known_items, figures.known_right, figures.decided) == (1, 1, 0)
        visitor.http.close()


@pytest.mark.parametrize(
    ("how", "told"), [("unknown", "known to be unknown"), ("dismiss", "dismissed")]
)
def test_a_cluster_that_is_settled_does_not_come_again(
    server: StubServer, tmp_path: Path, how: str, told: str
) -> None:
    for number in range(20, 24):
        (tmp_path / f"{number}.png").write_bytes(picture(TICKETS, number))
    with reviewed(server, pictures=sorted(tmp_path.glob("*.png"))) as page:
        page.wait_until_fed()
        visitor = Visitor(page)
        visitor.post("/discovery")
        found = until(
            lambda: re.search(
                r'name="key" value="(\w+)"', visitor.http.get("/discovery/found").text
            )
        )
        sheet = re.findall(r'src="(/cluster/\w+)"', visitor.http.get("/discovery/found").text)
        assert len(sheet) == 4
        assert visitor.http.get(sheet[0]).headers["content-type"] == "image/png"
        assert told in visitor.post(f"/discovery/{how}", key=found[1]).text
        visitor.post("/discovery")
        until(lambda: "No new page turns up" in visitor.http.get("/discovery/found").text)
        with server.client() as client:
            labels = [image.label for image in client.list_images()]
        assert labels.count("other") == (4 if how == "unknown" else 0)
        visitor.http.close()


def test_what_the_server_kept_is_looked_at(tmp_path: Path) -> None:
    with stub_server(tmp_path / "server", keep=10) as server:
        server.enrol(LOGIN, ACCOUNT)
        with server.client() as client:
            client.classify(picture(TICKETS, 30))
            until(lambda: list(client.list_kept()))
        with reviewed(server) as page:
            visitor = Visitor(page)
            key = visitor.key()
            assert visitor.http.get(f"/picture/{key}").content == picture(TICKETS, 30)
            assert visitor.post("/decide", key=key, label="other").status_code == 204
            with server.client() as client:
                assert len(page.decisions(client)) == 1
                assert list(client.list_kept(undecided_by="ann")) == []
            visitor.http.close()


def test_a_server_keeps_nothing_of_a_folder_that_is_reviewed(tmp_path: Path) -> None:
    with stub_server(tmp_path / "server", keep=10) as server:
        server.enrol(LOGIN, ACCOUNT)
        (tmp_path / "query.png").write_bytes(picture(TICKETS, 30))
        with reviewed(server, pictures=[tmp_path / "query.png"]) as page:
            page.wait_until_fed()
            until(lambda: page.review.desk.deal(()).cards)  # answered twice, once with reasons
        with server.client() as client:
            client.classify(picture(TICKETS, 31))
            (kept,) = until(lambda: list(client.list_kept()))
    assert kept.image_id == image_id(picture(TICKETS, 31))


def test_with_all_digits_shown_the_server_notes_each_picture_before_it_is_seen(
    server: StubServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pagesight_server.audit")
    (tmp_path / "query.png").write_bytes(picture(LOGIN, 20))
    with reviewed(server, pictures=[tmp_path / "query.png"], show_digits=True) as page:
        desk = page.review.desk
        note = desk.client.record_reveal

        def refusing(*_arguments: str, **_names: str) -> None:
            raise UnavailableError("nobody notes anything")

        def nothing_is_dealt() -> str:
            assert desk.deal(()).cards == ()
            return desk.reach.away

        monkeypatch.setattr(desk.client, "record_reveal", refusing)
        page.wait_until_fed()
        assert until(nothing_is_dealt) == "nobody notes anything"
        monkeypatch.setattr(desk.client, "record_reveal", note)
        visitor = Visitor(page)
        key = visitor.key()
        assert CARD_NUMBER in visitor.http.get("/more?have=").text
        visitor.post("/reveal", key=key)
        visitor.http.close()
    seen = image_id(picture(LOGIN, 20))
    lines = [record.getMessage() for record in caplog.records if "revealed" in record.message]
    assert [line.rpartition(": ")[2] for line in lines] == [seen]
    assert "(reviewer 'ann')" in lines[0]


def test_a_batch_is_not_undone_over_somebody_else_s_change(
    server: StubServer, page: Page, visitor: Visitor
) -> None:
    visitor.post("/decide", key=visitor.key(), label=ACCOUNT, teach="1")
    (decided,) = page.review.desk.decided
    assert "Revision 2" in visitor.post("/batch/enrol", decision=decided.decision_id).text
    # A decision that is enrolled is not taken back by itself.
    assert visitor.post("/undo").status_code == 409
    server.enrol(TICKETS)
    (batch,) = page.review.batches.made
    refused = visitor.post("/batch/undo", batch=batch.key).text
    assert "Somebody changed the gallery since" in refused
    with server.client() as client:
        assert client.get_gallery().revision == 3
        client.rollback(2)
        labels = [image.label for image in client.list_images()]
    assert labels.count(ACCOUNT) == 4


def test_an_empty_batch_changes_nothing(server: StubServer, page: Page, visitor: Visitor) -> None:
    visitor.post("/decide", key=visitor.key(), label=ACCOUNT)
    assert "choose at least one picture" in visitor.post("/batch/enrol").text
    with server.client() as client:
        assert client.get_gallery().revision == 1
