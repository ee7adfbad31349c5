"""The sides of `make bench-ocr`: their order, their rows, and the engine that may be missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pagesight_server.text.reading import Box, TextLine
from tests.bench.bench_ocr import References, Side, chosen, in_turns, pages_that_differ, show
from tests.bench.ocr_sides import FasterPaddle, find_faster_paddle, same_weights


def line(text: str, top: int = 0) -> TextLine:
    return TextLine(text, 1.0, Box(0, top, 100, top + 20))


def side(name: str, cpu_s: Sequence[float], pages: Sequence[Sequence[TextLine]]) -> Side:
    made = Side(name, "cold", lambda _pixels: [])
    made.cpu_s, made.lines = list(cpu_s), list(pages)
    return made


LIBRARY = side("rapidocr", [2.0, 4.0, 9.0], [[line("abcd")], [line("efgh")], []])
PLAIN = side("no classifier", [2.0, 4.0, 9.0], [[line("abcd")], [line("efg")], []])
RUST = side("faster-paddle, small", [1.0, 1.0, 1.0], [[], [], []])
OURS = side("ours", [1.0, 2.0, 3.0], [[line("abcd")], [line("efg")], [line("x")]])


def test_a_row_has_the_ratios_and_how_many_characters_differ() -> None:
    row = References(library=LIBRARY, plain=PLAIN, rust=RUST).row(OURS)
    # Medians 2 of 4, 2 of 1; means 2 of 5.
    assert (row["cpu_s_median"], row["ratio_of_medians"]) == (2.0, 0.5)
    assert (row["ratio_of_means"], row["ratio_to_faster_paddle"]) == (0.4, 2.0)
    # The "x" of seven characters; the "x" and the "h" of eight.
    assert row["cer_percent_without_classifier"] == pytest.approx(14.286)
    assert row["cer_percent_as_it_comes"] == 25.0
    assert (row["lines_per_image"], row["screenshots"]) == (1.0, 3)


def test_without_the_rust_engine_there_is_no_ratio_to_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = References(library=LIBRARY, plain=PLAIN, rust=None).row(OURS)
    assert row["ratio_to_faster_paddle"] is None
    show([row])
    assert "faster-paddle" not in capsys.readouterr().out


def test_pages_differ_by_a_text_or_a_box() -> None:
    moved = side("moved", [1.0] * 3, [[line("abcd", top=1)], [line("efg")], [line("y")]])
    assert pages_that_differ(OURS, OURS) == 0
    assert pages_that_differ(OURS, moved) == 2


def test_every_side_reads_every_picture_and_each_is_the_first_in_turn() -> None:
    read: list[tuple[str, int]] = []

    def reader(name: str) -> Side:
        def note(number: int) -> list[TextLine]:
            read.append((name, number))
            return []

        return Side(name, "none", note, lambda pixels: int(pixels[0, 0, 0]))

    sides = [reader("a"), reader("b"), reader("c")]
    pictures = [np.full((2, 2, 3), number, np.uint8) for number in range(4)]
    in_turns(sides, pictures)
    warm_ups, measured = read[:3], read[3:]
    assert warm_ups == [("a", 0), ("b", 0), ("c", 0)]
    order = ["abc", "bca", "cab", "abc"]
    assert measured == [(name, number) for number in range(4) for name in order[number]]
    assert [len(one.cpu_s) for one in sides] == [4, 4, 4]


def test_pictures_are_spread_over_the_folders(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.PNG", "b/1.webp", "b/2.jpeg", "b/labels.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path.relative_to(tmp_path)) for path in chosen(tmp_path, 2)] == [
        "a/1.jpg",
        "b/1.webp",
    ]
    with pytest.raises(SystemExit, match="give SCREENS=DIR"):
        chosen(tmp_path / "none", 2)


class FakeEngine:
    """Answers as `faster_paddle.OcrEngine` does; the text is what it was asked for."""

    config: ClassVar = {"threads": 1}

    def __init__(self, model_size: str, threads: int) -> None:
        self._text = f"{model_size}, {threads} thread"

    def ocr(self, image: bytes) -> dict[str, Any]:
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        height, width = pixels.shape[:2]
        found = {"topLeftCoord": (1, 2), "bottomRightCoord": (width, height), "confidence": 0.5}
        return {"text": "", "bounds": {0: found | {"text": self._text}}}


def test_the_rust_engine_reads_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("faster_paddle")
    module.OcrEngine = FakeEngine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_paddle", module)
    reader = FasterPaddle("tiny")
    file = reader.encoded(np.zeros((40, 30, 3), np.uint8))
    assert reader.read(file) == [TextLine("tiny, 1 thread", 0.5, Box(1, 2, 30, 40))]
    assert reader.config == {"threads": 1}


def test_its_picture_has_the_pixels_that_all_others_read() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    file = np.frombuffer(FasterPaddle.encoded(pixels), np.uint8)
    decoded = cv2.cvtColor(cv2.imdecode(file, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(decoded, pixels)


def test_where_the_rust_engine_is_missing_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "faster_paddle", None)
    installed, words = find_faster_paddle()
    assert not installed
    assert "pip install faster-paddle==" in words
    assert "\n" not in words


def weights_file(folder: Path) -> tuple[Path, bytes]:
    """A model with two arrays of weights and a small one, and the bytes of the first two."""
    rng = np.random.default_rng(0)
    arrays = [rng.random(100, np.float32), rng.random((9, 30), np.float32), np.ones(3, np.float32)]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "weights",
        [x],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(array, f"w{i}") for i, array in enumerate(arrays)],
    )
    onnx.save(helper.make_model(graph), folder / "model.onnx")
    return folder / "model.onnx", arrays[1].tobytes() + b"between" + arrays[0].tobytes()


@pytest.mark.parametrize(("changed", "same"), [(False, True), (True, False)])
def test_one_other_byte_makes_other_weights(tmp_path: Path, changed: bool, same: bool) -> None:
    model, content = weights_file(tmp_path)
    if changed:
        content = content[:500] + bytes([content[500] ^ 1]) + content[501:]
    (tmp_path / "extension.so").write_bytes(b"ELF" + content)
    assert same_weights(tmp_path / "extension.so", [model]) is same


def test_it_says_where_the_rust_engine_reads_with_other_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "extension.so").write_bytes(b"none of them")
    package, extension = ModuleType("faster_paddle"), ModuleType("faster_paddle.faster_paddle")
    package.__version__ = "9.9"  # type: ignore[attr-defined]
    extension.__file__ = str(tmp_path / "extension.so")
    monkeypatch.setitem(sys.modules, "faster_paddle", package)
    monkeypatch.setitem(sys.modules, "faster_paddle.faster_paddle", extension)
    installed, words = find_faster_paddle()
    assert installed
    assert "9.9" in words
    assert "small's weights are NOT rapidocr's" in words
