"""Findings are asked about, answered once and listed no more: the command and both clients."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer.testing import CliRunner, Result

from pagesight import AsyncClient, Client, EnrolItem, NotFoundError
from pagesight._cli import app
from tests.support.fake_curation import OTHER_PAGE
from tests.support.fake_server import FakeServer

Run: TypeAlias = Callable[..., Result]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """A client of a gallery with two pictures of one label."""
    with Client(server.address) as made:
        made.enrol([EnrolItem(image=data, label="login") for data in (b"1", b"2")])
        yield made


@pytest.fixture
def doctor(server: FakeServer, client: Client) -> Run:
    def run(*arguments: object, columns: int = 100) -> Result:
        settings = {
            "PAGESIGHT_ADDRESS": server.address,
            "PAGESIGHT_AUTHOR": "mei",
            "COLUMNS": str(columns),
        }
        return CliRunner().invoke(app, ["gallery", "doctor", *map(str, arguments)], env=settings)

    return run


def key_of(client: Client, kind: str) -> str:
    """The key of the only finding of a kind."""
    [key] = [found.key for found in client.diagnose().findings if found.kind == kind]
    return key


def commands(result: Result) -> dict[str, list[str]]:
    """The commands that are printed behind "if ...", as a shell splits them."""
    lines = [line.strip().split("  ", 1) for line in result.stdout.splitlines()]
    return {line[0]: shlex.split(line[1]) for line in lines if line[0].startswith("if ")}


def test_a_label_is_asked_about_with_a_command_for_either_answer(
    doctor: Run, client: Client
) -> None:
    shown = doctor()
    assert shown.exit_code == 0, shown.output
    suspect = client.diagnose().suspects[0]
    assert (
        f"is {suspect.image_id[:12]} rightly login? Without it {OTHER_PAGE} fits better, by 0.500; "
        "2 of its 2 nearest pictures carry another label"
    ) in " ".join(shown.stdout.split())
    asked = commands(shown)
    assert asked["if it is wrong"] == [
        *("pagesight", "gallery", "relabel"),
        OTHER_PAGE,
        suspect.image_id,
    ]
    key = key_of(client, "wrong_label")
    assert asked["if it is right"] == ["pagesight", "gallery", "doctor", "--settle", key]
    # What to look at comes before any command that changes the gallery.
    first = shown.stdout.index("look first: `pagesight gallery doctor --html doctor.html`")
    assert first < shown.stdout.index("gallery relabel") < shown.stdout.index("gallery remove")
    assert asked["if all are right"][-1] == key_of(client, "near_duplicates")


def test_what_is_settled_is_listed_no_more_unless_all_is_asked_for(
    doctor: Run, client: Client
) -> None:
    keys = [key_of(client, kind) for kind in ("wrong_label", "few_pictures")]
    before = doctor().stdout
    assert all(found.key in before for found in client.diagnose().findings)
    assert "with few pictures: enrol more" in before
    assert "settled before" not in before
    done = doctor("--settle", keys[0], "--settle", keys[1].upper(), "--note", "one look")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"settled {keys[0]}: the label login is right\n"
        f"settled {keys[1]}: login has pictures enough\n"
    )
    after = doctor().stdout
    assert "0 labels in doubt" in after
    assert not [line for line in after.splitlines() if line.startswith("is ")]
    assert "with few pictures" not in after
    assert "2 findings settled before; --all shows them" in after
    told = doctor("--all").stdout
    assert f"  settled by mei on 2025-11-22: one look ({keys[0]})" in told
    assert "settled before" not in told
    assert "gallery relabel" not in told
    again = doctor("--unsettle", keys[0])
    assert (again.exit_code, again.stdout) == (0, f"settled no longer: {keys[0]}\n")
    assert "1 finding settled before" in doctor().stdout
    assert "1 label in doubt" in doctor().stdout


def test_everything_can_be_settled_and_then_nothing_is_asked(doctor: Run, client: Client) -> None:
    keys = [found.key for found in client.diagnose().findings]
    assert len(keys) == 7
    settle = [argument for key in keys for argument in ("--settle", key)]
    assert doctor(*settle).exit_code == 0
    shown = " ".join(doctor().stdout.split())
    assert shown == (
        "revision 1, 2 of 2 pictures examined: 0 labels in doubt, 0 odd pictures, 0 groups of "
        "near duplicates "
        "1 of 2 pictures, each left out in turn, would be rejected (50%); that is many: enrol more "
        "pictures of the labels that are rejected most, like those that are rejected, or place the "
        "threshold by labelled traffic "
        "Of all known pages at most 50% are rejected (95 % confidence), where traffic looks like "
        "the gallery. "
        "7 findings settled before; --all shows them"
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_commands_stand_in_one_line_and_words_in_many(
    doctor: Run, client: Client, columns: int
) -> None:
    shown = doctor(columns=columns)
    asked = commands(shown)
    assert asked["if it is wrong"][-1] == client.diagnose().suspects[0].image_id
    assert asked["if it is right"][-1] == key_of(client, "wrong_label")
    others = [line for line in shown.stdout.splitlines() if not line.startswith("  if ")]
    assert max(len(line.rstrip()) for line in others) <= columns


def test_for_machines_each_finding_has_its_key_and_who_settled_it(
    doctor: Run, client: Client
) -> None:
    key = key_of(client, "hardly_read")
    done = doctor("--settle", key, "--note", "Thai", "--author", "li", "--json")
    assert json.loads(done.stdout) == {"keys": [key]}
    [found] = [json.loads(line) for line in doctor("--json").stdout.splitlines()]
    settled = {one["key"]: one["settled"] for one in found["findings"]}
    assert settled.pop(key) == {
        "author": "li",
        "note": "Thai",
        "settled_at": "2025-11-22T12:00:00+00:00",
    }
    assert set(settled.values()) == {None}
    assert json.loads(doctor("--unsettle", key, "--json").stdout) == {"keys": [key]}


def test_the_page_asks_too_and_leaves_out_what_is_settled(
    doctor: Run, client: Client, tmp_path: Path
) -> None:
    page = tmp_path / "doctor.html"
    key = key_of(client, "wrong_label")
    assert doctor("--html", page).exit_code == 0
    asked = page.read_text("utf-8")
    assert all(found.key in asked for found in client.diagnose().findings)
    assert "<h3>Is it rightly login, or &lt;other page&gt;?" in asked
    wrong, right = asked.index("If it is wrong:"), asked.index("If it is right:")
    assert wrong < asked.index("pagesight gallery relabel") < right < asked.index(key)
    doctor("--settle", key, "--note", "<b>new look")
    assert doctor("--html", page).exit_code == 0
    assert "Is it rightly" not in page.read_text("utf-8")
    assert doctor("--html", page, "--all").exit_code == 0
    assert "settled by mei on 2025-11-22: &lt;b&gt;new look" in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["--settle", "123"], 2, "is not a key", id="too short"),
        pytest.param(["--unsettle", "x" * 16], 2, "is not a key", id="no digits"),
        pytest.param(["--note", "why"], 2, "is for --settle", id="a note on nothing"),
        pytest.param(
            ["--settle", "0" * 16, "--html", "x.html"], 2, "without --settle", id="a page"
        ),
        pytest.param(["--settle", "0" * 16], 1, "nothing was settled", id="no such finding"),
        pytest.param(["--unsettle", "0" * 16], 1, "was not settled", id="not settled"),
    ],
)
def test_what_cannot_be_settled_is_told_in_one_line(
    doctor: Run, server: FakeServer, arguments: list[str], code: int, message: str
) -> None:
    refused = doctor(*arguments)
    assert refused.exit_code == code
    assert message in " ".join(refused.stderr.split())
    assert server.gallery["default"].settled == {}


def test_a_finding_whose_pictures_changed_is_a_new_one(doctor: Run, client: Client) -> None:
    key = key_of(client, "wrong_label")
    assert doctor("--settle", key).exit_code == 0
    client.relabel([client.diagnose().suspects[0].image_id], "start")
    shown = doctor().stdout
    assert "1 label in doubt" in shown
    assert key not in shown


async def test_both_clients_settle_and_take_back(server: FakeServer, client: Client) -> None:
    async with AsyncClient(server.address) as other:
        found = (await other.diagnose()).findings
        [few] = [one for one in found if one.kind == "few_pictures"]
        assert (few.labels, few.settled) == (("login",), None)
        assert len(few.image_ids) == 2
        done: Any = await other.settle_findings([few], author="li", note="all there are")
        assert done.keys == (few.key,)
        [told] = [one for one in client.diagnose().findings if one.key == few.key]
        assert told.settled is not None
        assert (told.settled.author, told.settled.note) == ("li", "all there are")
        assert told.settled.settled_at == datetime(2025, 11, 22, 12, tzinfo=UTC)
        assert client.unsettle_findings([few.key]).keys == (few.key,)
        assert (await other.unsettle_findings([few.key])).keys == ()
        assert client.settle_findings([told]).keys == (few.key,)
        with pytest.raises(NotFoundError):
            await other.settle_findings([few], gallery="none")
    with pytest.raises(TypeError, match="several keys"):
        client.unsettle_findings(few.key)
