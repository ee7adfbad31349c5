"""Where a store is: files, addresses, and passwords that must not be seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import (
    PostgresOptions,
    PostgresUrl,
    derived_folder,
    masked,
    store_location,
)

SECRET = "tr0ub4dor"


@pytest.mark.parametrize("written", ["gallery.db", "/var/lib/it.db", "postgres.db", "a:b@c.db"])
def test_what_is_no_address_is_a_file(written: str) -> None:
    assert store_location(written) == Path(written)


@pytest.mark.parametrize(
    "written",
    [
        "postgresql://db/pages",
        "postgres://pagesight@db:5433/pages?sslmode=verify-full",
        "postgresql:///?service=pagesight",
        "postgresql://one:5432,two:5432/pages?target_session_attrs=read-write",
        "postgresql://[::1]:5432/pages",
        "POSTGRESQL://db/pages?passfile=/run/secrets/pgpass",
    ],
)
def test_an_address_without_a_password_is_taken_as_it_is(written: str) -> None:
    location = store_location(written)
    assert isinstance(location, PostgresUrl)
    assert location == written
    assert masked(location) == written


@pytest.mark.parametrize(
    "written",
    [
        f"postgresql://me:{SECRET}@db/pages",
        f"postgresql://:{SECRET}@db/pages",
        f"postgres://me:{SECRET}/1@2@db/pages",
        f"postgresql://db/pages?user=me&password={SECRET}",
        f"postgresql://db/pages?Password={SECRET}",
        f"postgresql://db/pages?sslpassword={SECRET}&sslkey=k",
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(written: str) -> None:
    with pytest.raises(SetupError, match=r"has a password in its address.*PGPASSWORD") as refused:
        store_location(written)
    assert SECRET not in str(refused.value)
    assert "***" in str(refused.value)
    assert SECRET not in masked(f"cannot open {written}")


@pytest.mark.parametrize(
    "written",
    [
        "postgresql:/db/pages",
        f"postgresql:/me:{SECRET}@db/pages",
        f"postgresql+psycopg://me:{SECRET}@db/pages",
        f"mysql://me:{SECRET}@db/pages",
        f"https://db/pages?password={SECRET}",
        "sqlite:///gallery.db",
    ],
)
def test_what_is_an_address_of_something_else_is_refused(written: str) -> None:
    with pytest.raises(SetupError, match="write postgresql://USER@HOST/NAME, or the name") as told:
        store_location(written)
    assert SECRET not in str(told.value)


def test_indexes_of_stores_that_differ_have_folders_that_differ() -> None:
    none, here = PostgresOptions(), PostgresOptions(folder=Path("/cache"))
    assert derived_folder(Path("/srv/gallery.db"), here) == Path("/srv/gallery.db.index")
    folders = {
        derived_folder(PostgresUrl(url), here)
        for url in ("postgresql://a/pages", "postgresql://b/pages", "postgresql://a/pages?user=x")
    }
    assert len(folders) == 3
    assert {folder.parent for folder in folders} == {Path("/cache")}
    assert all(folder.name.startswith("pages-") for folder in folders)
    assert derived_folder(PostgresUrl("postgresql://a/../.."), none).parent == Path()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("pagesight_server.gallery.pos")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SetupError, match=r"pip install 'pagesight\[postgres\]'") as told:
        Gallery(PostgresUrl("postgresql://db/pages"))
    assert "\n" not in str(told.value)
