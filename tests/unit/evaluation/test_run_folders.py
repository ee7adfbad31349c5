"""What of a folder is tested, and which folders are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pagesight_server.common.errors import InvalidRequestError, SetupError
from pagesight_server.evaluation import evaluate
from pagesight_server.inference.settings import ImageLimits
from tests.support.evaluations import FILES, RED, pipeline_over, png, put


async def test_unreadable_images_are_listed_and_count_as_wrong(tmp_path: Path) -> None:
    put(tmp_path, {**FILES, "red/broken.jpg": b"no picture", "other/empty.webp": b""})
    run = await evaluate(pipeline_over(), tmp_path)
    assert [p.path for p in run.unreadable] == ["other/empty.webp", "red/broken.jpg"]
    assert "no JPEG, PNG or WebP" in run.unreadable[1].error
    assert run.metrics.n == 6
    assert run.metrics.accuracy == 4 / 6
    assert run.metrics.open_set.kinds["other"].rejected == 1
    assert run.metrics.open_set.overall_accuracy == 5 / 9
    assert any("2 of 9 images could not be read" in warning for warning in run.warnings)


async def test_a_file_over_the_limit_is_unreadable_and_never_read(tmp_path: Path) -> None:
    put(tmp_path, {"red/1.png": png(RED), "red/huge.png": b"x" * 5000})
    seen: list[bytes] = []
    run = await evaluate(
        pipeline_over(seen=seen.append), tmp_path, limits=ImageLimits(max_bytes=4999)
    )
    assert [p.path for p in run.unreadable] == ["red/huge.png"]
    assert "the limit is 4,999" in run.unreadable[0].error
    assert seen == [png(RED)]


async def test_other_files_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "red/1.png": png(RED),
            "red/notes.txt": b"x",
            "red/._1.png": b"x",
            "red/deeper/2.png": png(RED),
            ".cache/3.png": png(RED),
            "labels.toml": b"",
            "top.png": png(RED),
        },
    )
    run = await evaluate(pipeline_over(), tmp_path)
    assert [p.path for p in run.predictions] == ["red/1.png"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda folder: folder / "missing", "is not a folder", id="missing"),
        pytest.param(lambda folder: folder, "holds no pictures", id="empty"),
        pytest.param(
            lambda folder: put(folder, {"1.png": png(RED)}),
            "one folder per label",
            id="pictures without labels",
        ),
        pytest.param(
            lambda folder: put(folder, {"red/readme.txt": b""}),
            "holds no pictures",
            id="labels without pictures",
        ),
    ],
)
async def test_a_folder_without_tests_is_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(SetupError, match=message) as caught:
        await evaluate(pipeline_over(), prepare(tmp_path))
    assert "\n" not in str(caught.value)


async def test_a_folder_whose_name_cannot_be_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be a label"):
        await evaluate(pipeline_over(), put(tmp_path, {"red /1.png": png(RED)}))


async def test_a_page_that_the_gallery_lacks_is_wrong_and_warned_of(tmp_path: Path) -> None:
    run = await evaluate(pipeline_over(), put(tmp_path, {"crimson/1.png": png(RED, (40, 80))}))
    assert run.metrics.per_class["crimson"].fn == 1
    assert "the gallery has no pictures of crimson" in run.warnings[0]
