"""Teaching pages: each picture is looked at once, whatever is killed, repeated or broken."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from pagesight_server.common.errors import (
    BundleMismatchError,
    InvalidRequestError,
    LimitError,
    SetupError,
)
from pagesight_server.gallery import Change, Gallery, Limits, backup
from pagesight_server.gallery.snapshot import LabelFacts
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.workflows.enrolment import (
    Enroller,
    IndexReport,
    Item,
    index_folder,
)
from pagesight_server.workflows.pipeline import Features
from tests.support import WAIT_S
from tests.support.parts import BUNDLES, OTHER_BUNDLES, FakeModels
from tests.support.pictures import BLUE, GREEN, RED, shade, solid


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Gallery]:
    opened = Gallery(tmp_path / "gallery.db")
    yield opened
    opened.close()


class Eyes:
    """Extracts features with fake models, counts, and stops at a picture when told to."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.stop_at = -1
        """Of all pictures that are looked at: the number of the one that is never done."""
        self.stopped = asyncio.Event()
        self._pipeline = FakeModels().pipeline()

    async def extract_features(self, data: bytes) -> Features:
        if len(self.seen) == self.stop_at:
            self.stopped.set()
            await asyncio.Event().wait()
        features = await self._pipeline.extract_features(data)
        self.seen.append(data)
        return features


def enroller(
    store: Gallery,
    eyes: Eyes,
    *,
    keep_images: Literal["original", "thumbnail", "none"] = "original",
) -> Enroller:
    return Enroller(
        store=store,
        bundles=BUNDLES,
        extract_features=eyes.extract_features,
        keep_images=keep_images,
    )


def folder(root: Path, pictures: dict[str, bytes]) -> Path:
    """Writes `DIR/<label>/<file>`."""
    for name, data in pictures.items():
        file = root / "DIR" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return root / "DIR"


async def index(
    store: Gallery, eyes: Eyes, where: Path, *, labels: Path | None = None, concurrency: int = 2
) -> IndexReport:
    return await index_folder(
        enroller(store, eyes),
        where,
        gallery="default",
        author="mei",
        limits=ImageLimits(max_bytes=100_000),
        labels=labels,
        concurrency=concurrency,
    )


def sources(store: Gallery) -> dict[str, str]:
    """Label by file, of the present revision."""
    return {p.source: p.label for p in store.snapshot().pictures}


# --- enrol ------------------------------------------------------------------------------


async def test_pictures_are_enrolled_as_one_revision(store: Gallery) -> None:
    items = [Item(data=solid(RED), label="a", source="s"), Item(data=solid(BLUE), label="b")]
    applied = await enroller(store, Eyes()).enrol(Change(author="mei"), items)
    assert applied.revision == 1
    assert [outcome.added for outcome in applied.outcomes] == [True, True]
    assert store.image_bytes(applied.outcomes[0].image_id) == solid(RED)
    assert store.snapshot().labels == ("a", "b")


async def test_a_picture_is_looked_at_once_for_all_galleries(store: Gallery) -> None:
    eyes = Eyes()
    for gallery in ("first", "second"):
        await enroller(store, eyes).enrol(
            Change(gallery=gallery), [Item(data=solid(RED), label="a")]
        )
    assert len(eyes.seen) == 1
    assert store.revisions() == {"first": 1, "second": 1}


async def test_pictures_need_not_be_kept(store: Gallery) -> None:
    applied = await enroller(store, Eyes(), keep_images="none").enrol(
        Change(), [Item(data=solid(RED), label="a")]
    )
    assert store.image_bytes(applied.outcomes[0].image_id) is None


async def test_a_thumbnail_has_640_pixels_on_its_long_side(store: Gallery) -> None:
    tall, small = solid(RED, width=400, height=1280), solid(BLUE)
    applied = await enroller(store, Eyes(), keep_images="thumbnail").enrol(
        Change(), [Item(data=tall, label="a"), Item(data=small, label="a")]
    )
    kept = [store.image_bytes(outcome.image_id) for outcome in applied.outcomes]
    assert kept[0] is not None
    assert decode(kept[0], ImageLimits()).shape == (640, 200, 3)
    assert kept[1] == small  # as it came
    assert backup.check(store) == []


async def test_what_a_full_gallery_does_not_take_is_not_kept(tmp_path: Path) -> None:
    full = Gallery(tmp_path / "full.db", limits=Limits(max_pictures=1))
    eyes = Eyes()
    pictures = [Item(data=solid(colour), label="a") for colour in (RED, BLUE)]
    with pytest.raises(LimitError, match="may hold 1 pictures"):
        await enroller(full, eyes).enrol(Change(), pictures)
    assert not full.has_content(hashlib.sha256(solid(RED)).hexdigest(), BUNDLES)
    await enroller(full, eyes).enrol(Change(), pictures[:1])
    looked = len(eyes.seen)
    with pytest.raises(LimitError):
        await enroller(full, eyes).enrol(Change(), pictures[1:])
    assert len(eyes.seen) == looked
    full.close()


async def test_a_purged_picture_is_told_and_keeps_no_other_out(store: Gallery) -> None:
    red, blue = Item(data=solid(RED), label="a"), Item(data=solid(BLUE), label="a")
    first = await enroller(store, Eyes()).enrol(Change(), [red])
    store.purge([first.outcomes[0].image_id], author="li")
    refused, added = (await enroller(store, Eyes()).enrol(Change(), [red, blue])).outcomes
    assert refused.error is not None
    assert refused.error[1] == "PURGED"
    assert added.added


@pytest.mark.parametrize(
    ("item", "status"),
    [
        (Item(data=b"no picture", label="a"), "INVALID_ARGUMENT"),
        (Item(data=b"", label="a"), "INVALID_ARGUMENT"),
        (Item(data=solid(BLUE), label="a/b"), "INVALID_ARGUMENT"),
        (Item(data=solid(BLUE), label=""), "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_enrolled_is_told_and_keeps_no_other_out(
    store: Gallery, item: Item, status: str
) -> None:
    items = [item, Item(data=solid(RED), label="a")]
    bad, good = (await enroller(store, Eyes()).enrol(Change(), items)).outcomes
    assert bad.error is not None
    assert bad.error[0] == status
    assert good.added


async def test_a_repeated_enrolment_looks_at_nothing(store: Gallery) -> None:
    eyes = Eyes()
    change = Change(request_id="r1")
    items = [Item(data=b"broken", label="a"), Item(data=solid(RED), label="a")]
    first = await enroller(store, eyes).enrol(change, items)
    looked = len(eyes.seen)
    assert await enroller(store, eyes).enrol(change, items) == first
    assert len(eyes.seen) == looked


async def test_a_bug_in_a_model_enrols_nothing(store: Gallery) -> None:
    models = FakeModels()
    models.failure = RuntimeError("the reader broke")
    broken = Enroller(
        store=store, bundles=BUNDLES, extract_features=models.pipeline().extract_features
    )
    with pytest.raises(RuntimeError, match="the reader broke"):
        await broken.enrol(Change(), [Item(data=solid(RED), label="a")])
    assert store.revisions() == {}


async def test_pictures_seen_by_other_bundles_are_looked_at_again(store: Gallery) -> None:
    eyes = Eyes()
    await enroller(store, eyes).enrol(Change(), [Item(data=solid(RED), label="a")])
    other = Enroller(store=store, bundles=OTHER_BUNDLES, extract_features=eyes.extract_features)
    await other.enrol(Change(gallery="new"), [Item(data=solid(RED), label="a")])
    assert len(eyes.seen) == 2
    with pytest.raises(BundleMismatchError):
        await other.enrol(Change(), [Item(data=solid(RED), label="a")])


# --- folders ----------------------------------------------------------------------------


async def test_a_folder_becomes_one_revision_a_label(store: Gallery, tmp_path: Path) -> None:
    where = folder(
        tmp_path,
        {"a/1.png": solid(RED), "a/2.png": solid(BLUE), "other_ads/1.png": solid(GREEN)},
    )
    done: list[None] = []
    report = await index_folder(
        enroller(store, Eyes()),
        where,
        gallery="default",
        author="mei",
        limits=ImageLimits(),
        progress=lambda: done.append(None),
    )
    assert report == IndexReport(revision=2, added=3, present=0, skipped=[])
    assert sorted(report.added_ids.values()) == ["a/1.png", "a/2.png", "other_ads/1.png"]
    assert len(done) == 3
    assert sources(store) == {"a/1.png": "a", "a/2.png": "a", "other_ads/1.png": "other_ads"}
    # Examples of unknown pages are never an answer.
    assert store.snapshot().labels == ("a",)
    assert [made.author for made in store.history("default")] == ["mei", "mei"]


async def test_a_second_run_adds_what_is_new_and_repeats_nothing(
    store: Gallery, tmp_path: Path
) -> None:
    eyes = Eyes()
    where = folder(tmp_path, {"a/1.png": solid(RED), "b/1.png": solid(BLUE)})
    await index(store, eyes, where)
    assert await index(store, eyes, where) == IndexReport(revision=2, present=2)
    folder(tmp_path, {"b/2.png": solid(GREEN)})
    assert await index(store, eyes, where) == IndexReport(revision=3, added=1, present=2)
    assert len(eyes.seen) == 3


async def test_the_content_decides_and_not_the_name(store: Gallery, tmp_path: Path) -> None:
    eyes = Eyes()
    where = folder(tmp_path, {"a/1.png": solid(RED), "a/copy.png": solid(RED)})
    assert await index(store, eyes, where, concurrency=1) == IndexReport(
        revision=1, added=1, present=1
    )
    (where / "a/1.png").rename(where / "a/renamed.png")
    assert await index(store, eyes, where) == IndexReport(revision=1, present=2)
    assert len(eyes.seen) == 1


@pytest.mark.parametrize("stop_at", [0, 1, 3, 5])
async def test_a_run_that_is_killed_and_run_again_loses_and_repeats_nothing(
    tmp_path: Path, stop_at: int
) -> None:
    pictures = {
        f"{label}/{i}.png": solid(shade(10 * ord(label) + i)) for label in "ab" for i in range(3)
    }
    where = folder(tmp_path, pictures)
    eyes = Eyes()
    eyes.stop_at = stop_at
    store = Gallery(tmp_path / "gallery.db")
    run = asyncio.create_task(index(store, eyes, where, concurrency=1))
    await asyncio.wait_for(eyes.stopped.wait(), WAIT_S)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    store.close()

    store = Gallery(tmp_path / "gallery.db")
    eyes.stop_at = -1
    report = await index(store, eyes, where, concurrency=1)
    assert sorted(eyes.seen) == sorted(pictures.values())
    assert sources(store) == {name: name[0] for name in pictures}
    assert report.revision == 2
    assert report.added + report.present == 6
    # Labels that were complete before are there already: three pictures each.
    assert report.present == 3 * (stop_at // 3)
    store.close()


async def test_broken_files_are_skipped_and_reported(store: Gallery, tmp_path: Path) -> None:
    where = folder(
        tmp_path,
        {
            "a/broken.png": b"no picture",
            "a/cut.png": solid(RED)[:50],
            "a/empty.jpg": b"",
            "a/good.png": solid(RED),
            "a/small.png": solid(RED, width=3),
            "b/broken.png": b"no picture either",
        },
    )
    (where / "a" / "folder.png").mkdir()
    (where / "a" / "gone.png").symlink_to("nowhere.png")
    report = await index(store, Eyes(), where)
    assert report.added == 1
    reasons = dict(report.skipped)
    assert list(reasons) == [
        "a/broken.png",
        "a/cut.png",
        "a/empty.jpg",
        "a/small.png",
        "b/broken.png",
    ]
    assert reasons["a/broken.png"].startswith("the bytes are no JPEG, PNG or WebP picture")
    assert reasons["a/empty.jpg"].startswith("the picture is empty")
    assert report.left_out == "1 a folder in a label's folder, 1 no regular file"
    assert store.snapshot().labels == ("a",)


async def test_a_huge_file_is_skipped_before_it_is_read(store: Gallery, tmp_path: Path) -> None:
    where = folder(tmp_path, {"a/good.png": solid(RED)})
    with (where / "a" / "huge.png").open("wb") as huge:
        huge.truncate(2**40)
    eyes = Eyes()
    report = await index(store, eyes, where)
    assert report.skipped == [
        ("a/huge.png", "the file has 1,099,511,627,776 bytes, the limit is 100,000")
    ]
    assert eyes.seen == [solid(RED)]


async def test_the_same_picture_under_two_labels_is_reported_once(
    store: Gallery, tmp_path: Path
) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED), "b/1.png": solid(RED), "b/2.png": solid(BLUE)})
    eyes = Eyes()
    report = await index(store, eyes, where)
    assert report.skipped == [
        ("b/1.png", "the same picture is enrolled as 'a': relabel it instead")
    ]
    assert sources(store) == {"a/1.png": "a", "b/2.png": "b"}
    assert len(eyes.seen) == 2


async def test_names_that_are_not_utf8_do_not_stop_the_run(store: Gallery, tmp_path: Path) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED)})
    gbk = os.fsdecode("额度".encode("gbk"))
    (where / "a" / f"{gbk}.png").write_bytes(solid(BLUE))
    (where / "a" / f"{gbk}-broken.png").write_bytes(b"no picture")
    report = await index(store, Eyes(), where)
    assert report.added == 2
    for text in [*sources(store), *(path for path, _ in report.skipped)]:
        assert text.encode().startswith(b"a/")


async def test_a_folder_name_that_cannot_be_a_label_is_told_before_any_work(
    store: Gallery, tmp_path: Path
) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED)})
    os.rename(where / "a", os.fsencode(where) + "/额度".encode("gbk"))
    eyes = Eyes()
    with pytest.raises(InvalidRequestError, match="cannot be a label"):
        await index(store, eyes, where)
    assert eyes.seen == []


# --- labels.toml ------------------------------------------------------------------------

FACTS = "[a]\nbrands = ['招商银行']\n"


async def test_the_labels_file_of_the_folder_is_read(store: Gallery, tmp_path: Path) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED), "labels.toml": FACTS.encode()})
    assert (await index(store, Eyes(), where)).revision == 2
    assert dict(store.snapshot().facts) == {"a": LabelFacts(brands=("招商银行",))}
    assert (await index(store, Eyes(), where)).revision == 2


async def test_the_labels_file_of_the_parent_is_not(store: Gallery, tmp_path: Path) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED)})
    (where.parent / "labels.toml").write_text("[a]\nbrnads = 1", "utf-8")
    assert (await index(store, Eyes(), where)).revision == 1
    assert store.snapshot().facts == {}


async def test_a_labels_file_that_is_named_wins(store: Gallery, tmp_path: Path) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED), "labels.toml": b"[a]\nbrands = ['wrong']"})
    named = tmp_path / "mine.toml"
    named.write_text(FACTS, "utf-8")
    await index(store, Eyes(), where, labels=named)
    assert dict(store.snapshot().facts) == {"a": LabelFacts(brands=("招商银行",))}


async def test_a_label_left_out_of_the_next_file_keeps_its_facts_and_an_empty_list_forgets_them(
    store: Gallery, tmp_path: Path
) -> None:
    brands = LabelFacts(brands=("x",))
    where = folder(tmp_path, {"a/1.png": solid(RED), "b/1.png": solid(BLUE)})
    said = where / "labels.toml"
    for text, left in (
        ("[a]\nbrands = ['x']\n[b]\nbrands = ['x']", {"a": brands, "b": brands}),
        ("[b]", {"a": brands, "b": brands}),
        ("[b]\nbrands = []", {"a": brands}),
    ):
        said.write_text(text, "utf-8")
        await index(store, Eyes(), where)
        assert dict(store.snapshot().facts) == left


async def test_a_labels_file_may_name_what_was_enrolled_before(
    store: Gallery, tmp_path: Path
) -> None:
    eyes = Eyes()
    await enroller(store, eyes).enrol(Change(), [Item(data=solid(BLUE), label="old")])
    where = folder(tmp_path, {"a/1.png": solid(RED), "labels.toml": b"[old]\nbrands = ['x']"})
    await index(store, eyes, where)
    assert dict(store.snapshot().facts) == {"old": LabelFacts(brands=("x",))}


async def test_a_mistake_in_the_labels_file_is_told_before_any_work(
    store: Gallery, tmp_path: Path
) -> None:
    where = folder(tmp_path, {"a/1.png": solid(RED), "labels.toml": b"\n[b]\nbrands = ['x']"})
    eyes = Eyes()
    with pytest.raises(SetupError, match=r"labels\.toml, line 2: the gallery has no label 'b'"):
        await index(store, eyes, where)
    assert eyes.seen == []
    assert store.revisions() == {}


async def test_a_label_whose_every_picture_is_broken_is_told(
    store: Gallery, tmp_path: Path
) -> None:
    where = folder(
        tmp_path,
        {"a/1.png": solid(RED), "b/1.png": b"broken", "labels.toml": b"[b]\nbrands = ['x']"},
    )
    with pytest.raises(SetupError, match=r"labels\.toml: the gallery has no label b"):
        await index(store, Eyes(), where)
    assert sources(store) == {"a/1.png": "a"}
