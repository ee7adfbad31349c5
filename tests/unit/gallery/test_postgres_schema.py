"""A store on PostgreSQL is brought forward whole, once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from pagesight_server.common.errors import (
    SetupError,
)
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import PostgresUrl
from pagesight_server.gallery.schema import VERSION
from tests.support.postgres import WRITERS, at_once
from tests.support.stores import enrol


@pytest.fixture
def store(postgres_url: PostgresUrl) -> Iterator[Gallery]:
    opened = Gallery(postgres_url)
    yield opened
    opened.close()


# --- migrations -------------------------------------------------------------------------

STEP = "CREATE TABLE later (it TEXT);\nINSERT INTO later VALUES ('made');\n"


def of_next_version(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Makes this code that of the version after."""
    from pagesight_server.gallery import schema, schema_postgres

    steps = (*schema_postgres.POSTGRES_MIGRATIONS, step)
    monkeypatch.setattr(schema, "POSTGRES_MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)


def test_both_databases_are_at_one_version() -> None:
    from pagesight_server.gallery import schema, schema_postgres

    steps = len(schema_postgres.POSTGRES_MIGRATIONS)
    assert schema_postgres.POSTGRES_SINCE + steps - 1 == schema.VERSION


def test_a_store_of_the_version_before_is_brought_forward_once(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {"one": "a"})
    of_next_version(monkeypatch, STEP)
    assert isinstance(store.location, PostgresUrl)
    revisions = at_once(store.location, lambda mine, _: mine.revisions())
    assert revisions == [{"default": 1}] * WRITERS
    with closing(Gallery(store.location)) as opened, opened.database.reading() as db:
        assert [row["it"] for row in db.execute("SELECT it FROM later")] == ["made"]
    monkeypatch.undo()
    newer = rf"newer pagesight \(schema {VERSION + 1}, this one reads {VERSION}\)"
    with pytest.raises(SetupError, match=newer):
        Gallery(store.location)


def test_a_new_store_has_what_every_step_makes(
    postgres_url: PostgresUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_next_version(monkeypatch, STEP)
    with closing(Gallery(postgres_url)) as opened, opened.database.reading() as db:
        assert [row["it"] for row in db.execute("SELECT it FROM later")] == ["made"]


def test_a_step_that_fails_leaves_the_store_as_it_was(
    store: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(store, {"one": "a"})
    of_next_version(monkeypatch, f"{STEP}INSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(SetupError, match='relation "nowhere" does not exist'):
        Gallery(store.location)
    monkeypatch.undo()
    with closing(Gallery(store.location)) as opened:
        assert opened.revisions() == {"default": 1}
    with pytest.raises(SetupError), store.database.reading() as db:
        db.execute("SELECT * FROM later")
