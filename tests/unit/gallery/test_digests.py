"""What has changed on the disk of what is derived: found when it is read, left out, made anew."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Change, Gallery, backup
from pagesight_server.gallery.digests import digest
from pagesight_server.gallery.location import StoreLocation
from pagesight_server.index.vectors import Vectors
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from pagesight_server.workflows.knowledge import load_calibration, load_knowledge
from pagesight_server.workflows.registry import Registry
from pagesight_server.workflows.reindexing import reindex_gallery, repair_galleries
from tests.support.parts import BUNDLES, OTHER_BUNDLES, reading, unit
from tests.support.stores import content, enrol, picture_id, put, sqlite

ONE, TWO, THREE = (picture_id(name) for name in ("one", "two", "three"))
KEY = f"pagesight 0.05 v{CALIBRATION_VERSION}"


@pytest.fixture
def store(location: StoreLocation) -> Iterator[Gallery]:
    opened = Gallery(location)
    enrol(opened, {"one": "a", "two": "a", "three": "b"})
    yield opened
    opened.close()


Where = tuple[str, dict[str, object]]
"""A condition and its values."""


def run(store: Gallery, sql: str, values: Mapping[str, object]) -> None:
    """Changes the store behind its back."""
    with store.database.writing() as db:
        db.execute(sql, values)


def flip(
    store: Gallery, table: str, column: str, where: Where = ("1 = 1", {}), *, seed: int = 0
) -> None:
    """Flips one bit of a value, as a disk does: the database notices nothing."""
    is_text = column in {"reading", "calibration"}
    dialect = store.database.dialect
    shown = (dialect.text if is_text else dialect.binary).format(column)
    with store.database.reading() as db:
        row = db.execute(f"SELECT {shown} AS data FROM {table} WHERE {where[0]}", where[1])
        before = bytes(row.fetchone()["data"])
    chance = random.Random(seed)
    while True:
        data = bytearray(before)
        at = chance.randrange(8 * len(data))
        data[at // 8] ^= 1 << at % 8
        if not is_text:
            run(store, f"UPDATE {table} SET {column} = :data WHERE {where[0]}",
                {"data": bytes(data), **where[1]})  # fmt: skip
            return
        if dialect.name == "sqlite":
            run(store, f"UPDATE {table} SET {column} = CAST(:data AS TEXT) WHERE {where[0]}",
                {"data": bytes(data), **where[1]})  # fmt: skip
            return
        # PostgreSQL itself notices text that is none: of what it cannot notice there is enough.
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode()
            if "\0" not in text:
                run(store, f"UPDATE {table} SET {column} = :data WHERE {where[0]}",
                    {"data": text, **where[1]})  # fmt: skip
                return


def of(image_id: str, column: str = "image_id") -> Where:
    return f"{column} = :image", {"image": bytes.fromhex(image_id)}


@pytest.mark.parametrize(("table", "column"), [("embeddings", "vector"), ("readings", "reading")])
@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_leaves_its_picture_out_with_a_warning_and_is_found_by_the_check(
    store: Gallery, caplog: pytest.LogCaptureFixture, table: str, column: str, seed: int
) -> None:
    flip(store, table, column, of(TWO), seed=seed)
    snapshot = store.snapshot()
    assert {picture.image_id for picture in snapshot.pictures} == {ONE, THREE}
    assert snapshot.damaged == {TWO}
    assert snapshot.embeddings.shape == (2, 3)
    [warning] = caplog.messages
    assert "text of 1 pictures has changed on the disk" in warning
    assert TWO in warning
    [finding] = backup.check(store)
    assert finding.startswith(f"picture {TWO}: its ")
    assert "has changed: `pagesight-server gallery reindex` makes it anew" in finding
    assert not store.has_content(TWO, BUNDLES)
    assert store.unseen("default", BUNDLES) == [(TWO, "original")]
    # What lists pictures counts lines of texts, and ends at none.
    assert len(store.images("default")[1]) == 3


def test_a_value_that_belongs_to_another_picture_is_no_value(store: Gallery) -> None:
    one, two = ({"image": bytes.fromhex(image_id)} for image_id in (ONE, TWO))
    other = {"vector": b"\0\x3c" + bytes(4)}
    run(store, "UPDATE embeddings SET vector = :vector WHERE image_id = :image", other | one)
    run(
        store,
        "UPDATE embeddings SET (vector, sha256) = (SELECT vector, sha256 FROM embeddings "
        "WHERE image_id = :other) WHERE image_id = :image",
        {**one, "other": two["image"]},
    )
    assert store.snapshot().damaged == {ONE}


def test_a_vector_of_another_length_ends_no_gallery(store: Gallery) -> None:
    where, values = of(ONE)
    run(
        store, f"UPDATE embeddings SET vector = :long WHERE {where}", {"long": bytes(600), **values}
    )
    snapshot = store.snapshot()
    assert snapshot.damaged == {ONE}
    assert snapshot.embeddings.shape == (2, 3)
    run(store, "UPDATE embeddings SET vector = :none", {"none": b""})
    assert store.snapshot().pictures == ()


def test_a_server_that_follows_goes_on_over_damage(store: Gallery) -> None:
    flip(store, "embeddings", "vector", of(TWO))
    before = store.snapshot(rounded=True)
    put(store, "four")
    flip(store, "readings", "reading", of(picture_id("four")))
    store.relabel(Change(), [TWO], "b")  # damaged before and after
    store.remove(Change(), [THREE])
    enrol(store, {"five": "b"})
    four = enrol(store, {"six": "b"})
    changes = store.changes("default", before.revision)
    assert changes is not None
    assert changes.damaged == {TWO}
    after = before.after(changes)
    whole = store.snapshot(rounded=True)
    assert after.revision == four.revision
    assert after.damaged == {TWO}
    assert [p.image_id for p in after.pictures] == [p.image_id for p in whole.pictures]
    assert isinstance(after.embeddings, Vectors)
    np.testing.assert_array_equal(after.embeddings[:], whole.embeddings[:])
    store.remove(Change(), [TWO])
    changes = store.changes("default", after.revision)
    assert changes is not None
    assert after.after(changes).damaged == frozenset()


class Eyes:
    """Sees of an imagined picture what `tests.support.stores` says of it."""

    def __init__(self) -> None:
        self.saw: list[str] = []

    async def __call__(self, data: bytes) -> object:
        self.saw.append(data.decode())
        return content(data.decode())


async def test_what_was_damaged_is_made_anew_from_the_kept_original(
    store: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    sound = store.snapshot()
    flip(store, "embeddings", "vector", of(TWO))
    flip(store, "readings", "reading", of(THREE))
    eyes = Eyes()
    assert await repair_galleries(store, BUNDLES, eyes) == 2  # type: ignore[arg-type]
    assert sorted(eyes.saw) == ["three", "two"]
    again = store.snapshot()
    assert (again.pictures, again.damaged, again.revision) == (sound.pictures, frozenset(), 1)
    np.testing.assert_array_equal(again.embeddings[:], sound.embeddings[:])
    assert backup.check(store) == []
    assert "2 pictures has changed on the disk, or is missing: they are made anew" in caplog.text
    assert await repair_galleries(store, BUNDLES, eyes) == 0  # type: ignore[arg-type]
    assert len(eyes.saw) == 2
    # `gallery reindex` with the bundles that the gallery has does the same.
    flip(store, "embeddings", "vector", of(ONE))
    report = await reindex_gallery(
        store,
        "default",
        BUNDLES,
        eyes,  # type: ignore[arg-type]
        author="mei",
    )
    assert (report.computed, report.missing) == (1, [])
    assert store.snapshot().damaged == frozenset()


async def test_what_has_no_sound_original_stays_left_out_and_is_told(
    store: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    flip(store, "embeddings", "vector", of(TWO))
    flip(store, "images", "bytes", of(TWO, "id"))
    eyes = Eyes()
    assert await repair_galleries(store, BUNDLES, eyes) == 0  # type: ignore[arg-type]
    assert eyes.saw == []
    assert f"picture {TWO} cannot be made anew (its kept bytes have changed" in caplog.text
    assert store.snapshot().damaged == {TWO}
    # Enrolled again from its file it is whole, and no other bundles' business.
    put(store, "two")
    assert store.snapshot().damaged == frozenset()
    assert await repair_galleries(store, OTHER_BUNDLES, eyes) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_calibration_is_made_anew_with_one_warning(
    store: Gallery, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    made = load_knowledge(store, "default", "pagesight", 0.05).calibration
    flip(store, "calibrations", "calibration", seed=seed)
    [finding] = backup.check(store)
    assert finding == (
        "gallery default: its calibration of revision 1 has changed: serve, or "
        "`pagesight-server calibrate`, makes it anew"
    )
    snapshot = store.snapshot()
    for _ in range(3):
        assert load_calibration(store, snapshot, "pagesight", 0.05) is None
    assert len(caplog.messages) == 1
    assert "the calibration of revision 1 has changed on the disk" in caplog.messages[0]
    assert load_knowledge(store, "default", "pagesight", 0.05).calibration == made
    assert load_calibration(store, snapshot, "pagesight", 0.05) == made
    assert backup.check(store) == []


@pytest.mark.parametrize("stored", ["", "[]", "null", "{}", '{"epsilon": 1}', "stored"])
def test_a_calibration_that_was_damaged_before_it_had_a_digest_is_made_anew(
    store: Gallery, caplog: pytest.LogCaptureFixture, stored: str
) -> None:
    made = load_knowledge(store, "default", "pagesight", 0.05).calibration
    store.put_calibration("default", 1, KEY, stored)
    assert load_knowledge(store, "default", "pagesight", 0.05).calibration == made
    assert load_calibration(store, store.snapshot(), "pagesight", 0.05) == made


def test_a_damaged_threshold_from_labelled_traffic_gives_way_to_the_one_before(
    store: Gallery, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{KEY} validation {BUNDLES.encoder} {BUNDLES.ocr}"
    store.put_calibration("default", 1, key, "first")
    enrol(store, {"four": "b"})
    store.put_calibration("default", 2, key, "second")
    flip(store, "calibrations", "calibration", ("revision = 2", {}))
    assert store.last_calibration("default", 2, key) == "first"
    [finding] = backup.check(store)
    assert finding.endswith("run `calibrate --validation DIR` again, or --forget-validation")
    assert store.drop_calibrations("default", key) == 2
    assert backup.check(store) == []


def test_the_calibrations_of_some_methods_are_told_by_revision_and_digest(store: Gallery) -> None:
    enrol(store, {"four": "b"}, gallery="second")
    enrol(store, {"five": "b"}, gallery="gone")
    for gallery, method in [("default", "a"), ("default", "b"), ("second", "a"), ("gone", "a")]:
        store.put_calibration(gallery, 1, method, "first")
    store.put_calibration("default", 2, "a", "second")
    store.delete(Change(gallery="gone"))
    first, second = (digest(1, "a", b"first"), digest(2, "a", b"second"))
    assert store.stored_calibrations({"a", "none"}) == {
        ("default", "a"): [(1, first), (2, second)],
        ("second", "a"): [(1, first)],
    }
    assert store.stored_calibrations({"a", "b"}).keys() == {
        ("default", "a"), ("default", "b"), ("second", "a")
    }  # fmt: skip
    assert store.stored_calibrations(set()) == {}


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_damaged_calibration_keeps_no_backup_from_being_made(
    store: Gallery, tmp_path: Path
) -> None:
    load_knowledge(store, "default", "pagesight", 0.05)
    flip(store, "calibrations", "calibration")
    file = tmp_path / "copy.db"
    backup.backup(store, file)
    copy = Gallery(file)
    assert backup.check(copy) == []
    assert copy.calibration("default", 1, KEY) is None
    copy.close()


async def test_a_registry_over_damage_answers_from_the_rest(store: Gallery) -> None:
    flip(store, "embeddings", "vector", of(TWO))
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.05)
    await registry.refresh()
    assert len(registry.get("default").snapshot.pictures) == 2
    store.remove(Change(), [TWO])
    enrol(store, {"four": "b"})
    await registry.refresh()
    assert len(registry.get("default").snapshot.pictures) == 3
    await registry.close()


async def anew(store: Gallery, *names: str) -> None:
    assert await repair_galleries(store, BUNDLES, Eyes()) == len(names)  # type: ignore[arg-type]


async def enrolled_again(store: Gallery, *names: str) -> None:
    for name in names:
        put(store, name)
    assert not enrol(store, dict.fromkeys(names, "a")).counts["added"]


@pytest.mark.parametrize("made", [anew, enrolled_again])
async def test_what_is_made_anew_without_a_revision_is_answered_from_by_whoever_follows(
    store: Gallery, made: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = load_knowledge(store, "default", "pagesight", 0.05)
    store.drop_calibrations("default", KEY)
    flip(store, "embeddings", "vector", of(TWO))
    leading, other = (
        Registry(store, BUNDLES, method="pagesight", epsilon=0.05, calibrates=calibrates)
        for calibrates in (True, False)
    )
    for registry in (leading, other):
        await registry.load()
        await registry.refresh()
        assert registry.get("default").snapshot.damaged == {TWO}
        assert registry.get("default").calibration != sound.calibration
    await made(store, "two")
    for registry in (leading, other):
        await registry.refresh()
        await registry.settled()
        assert registry.get("default").snapshot.pictures == sound.snapshot.pictures
        assert registry.get("default").snapshot.revision == 1
        assert registry.get("default").calibration == sound.calibration
    # Once it is whole again, nothing of it is read any more.
    monkeypatch.setattr(store, "snapshot", None)
    await leading.refresh()
    for registry in (leading, other):
        await registry.close()


async def test_over_damage_the_calibration_of_all_pictures_is_used_where_it_was_made(
    store: Gallery,
) -> None:
    sound = load_knowledge(store, "default", "pagesight", 0.05)
    flip(store, "embeddings", "vector", of(TWO))
    registry = Registry(store, BUNDLES, method="pagesight", epsilon=0.05, calibrates=False)
    await registry.load()
    assert registry.get("default").snapshot.damaged == {TWO}
    assert registry.get("default").calibration == sound.calibration
    await registry.close()


def test_pages_of_a_file_that_are_damaged_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "gallery.db"
    store = Gallery(path)
    enrol(store, {f"p{i}": "a" for i in range(200)})
    store.close()
    data = bytearray(path.read_bytes())
    data[8192:] = random.Random(1).randbytes(len(data) - 8192)
    path.write_bytes(data)

    def read() -> None:
        with contextlib.closing(Gallery(path)) as damaged:
            damaged.snapshot()

    with pytest.raises(SetupError, match=r"run `pagesight-server gallery check`") as told:
        read()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_a_mistake_in_a_statement_is_no_damage_of_the_file(store: Gallery) -> None:
    with pytest.raises(sqlite3.ProgrammingError), store.database.reading() as db:
        db.execute("SELECT ?")
    with pytest.raises(sqlite3.IntegrityError), store.database.writing():
        sqlite(store).execute("INSERT INTO galleries VALUES (1, 'x', 0, '', '', 0)")


def test_texts_and_vectors_are_stored_as_they_were(store: Gallery) -> None:
    # The digest is of what is stored, so what is read back is what was stored.
    first = store.snapshot().pictures[0]
    assert first.reading == reading("额度", "首页")
    np.testing.assert_allclose(store.snapshot().embeddings[0], unit(1, 2, 2), atol=2**-12)
