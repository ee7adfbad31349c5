"""Sessions of fixed shapes read what one session for any shape reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from rapidocr.utils.process_img import resize_image_within_bounds

from pagesight_server import wiring
from pagesight_server.config import read_config
from pagesight_server.inference import bundle
from pagesight_server.inference.bundle import Tensors
from pagesight_server.inference.fixed_shapes import Canvases, InTurn, Lines, ShapedGraph
from pagesight_server.inference.ocr.detector import Detector
from pagesight_server.inference.ocr.recogniser import Recogniser
from pagesight_server.inference.ocr.settings import CUDA_CANVASES
from pagesight_server.inference.onnx_session import Bound, OutputShapes, provider_options
from pagesight_server.inference.settings import Compute, FixedShapes
from tests.bench.gpu_path import page

PHONES = [
    (640, 1136), (720, 1280), (720, 1520), (720, 1560), (720, 1600), (750, 1334), (828, 1792),
    (1080, 1920), (1080, 2160), (1080, 2220), (1080, 2280), (1080, 2310), (1080, 2340),
    (1080, 2400), (1080, 2412), (1080, 2460), (1125, 2436), (1170, 2532), (1179, 2556),
    (1206, 2622), (1220, 2712), (1242, 2208), (1242, 2688), (1256, 2760), (1264, 2780),
    (1284, 2778), (1290, 2796), (1320, 2868), (1440, 2560), (1440, 2960), (1440, 3040),
    (1440, 3088), (1440, 3120), (1440, 3200),
]  # fmt: skip
"""Widths and heights in pixels of phones' screens."""


def test_of_threads_that_share_a_graph_one_runs_it_at_a_time() -> None:
    class Busy:
        def run(self, inputs: Tensors) -> Tensors:
            assert shared._lock.locked()
            if "broken" in inputs:
                raise ValueError
            return inputs

    shared = InTurn(Busy())
    for _ in range(2):
        assert shared.run({}) == {}
        with pytest.raises(ValueError, match=r"^$"):
            shared.run({"broken": np.zeros(1)})
    assert not shared._lock.locked()


class Graph:
    """Doubles pixels and lines, and remembers the shapes that it was run with."""

    def __init__(self) -> None:
        self.ran: list[tuple[int, ...]] = []

    def run(self, inputs: Tensors) -> Tensors:
        if "crops" in inputs:
            self.ran.append(inputs["crops"].shape)
            return {"indices": inputs["crops"][:, 0, :, 0].astype(np.int64) * 2}
        self.ran.append(inputs["pixels"].shape)
        return {"probability": inputs["pixels"][..., 0].astype(np.float32)[:, None] * 2}


def shaped(padding: Canvases | Lines) -> tuple[ShapedGraph, Graph, dict[Any, Graph]]:
    made: dict[Any, Graph] = {}

    def make(shape: Any) -> Graph:
        made[shape] = Graph()
        return made[shape]

    any_shape = Graph()
    return ShapedGraph(padding, any_shape, make), any_shape, made


def lines(count: int, width: int) -> dict[str, NDArray[Any]]:
    crops = np.zeros((count, 8, width, 3), np.uint8)
    crops[:, 0, 0, 0] = np.arange(1, count + 1)
    return {"crops": crops, "widths": np.arange(count)}


def test_lines_are_padded_to_the_one_size_of_their_width() -> None:
    graph, any_shape, made = shaped(Lines([(4, 32), (2, 64)], 8))
    assert graph.run(lines(3, 32))["indices"][:, 0].tolist() == [2, 4, 6]
    assert graph.run(lines(4, 32))["indices"][:, 0].tolist() == [2, 4, 6, 8]
    assert graph.run(lines(1, 64))["indices"].shape == (1, 64)
    assert (made[4, 32].ran, made[2, 64].ran) == ([(4, 8, 32, 3)] * 2, [(2, 8, 64, 3)])
    assert any_shape.ran == []


def test_lines_of_another_width_or_number_run_in_any_shape() -> None:
    graph, any_shape, _ = shaped(Lines([(4, 32)], 8))
    assert graph.run(lines(5, 32))["indices"][:, 0].tolist() == [2, 4, 6, 8, 10]
    graph.run(lines(1, 40))
    assert any_shape.ran == [(5, 8, 32, 3), (1, 8, 40, 3)]


@pytest.mark.parametrize(
    ("size", "ran"),
    [
        pytest.param((96, 64), (96, 64), id="as it is"),
        pytest.param((80, 64), (96, 64), id="padded by a fifth"),
        pytest.param((96, 40), None, id="too much smaller"),
        pytest.param((128, 64), None, id="taller than all"),
        pytest.param((90, 90), (96, 96), id="the smallest that holds it"),
    ],
)
def test_a_canvas_is_padded_to_the_smallest_that_is_not_much_larger(
    size: tuple[int, int], ran: tuple[int, int] | None
) -> None:
    graph, any_shape, made = shaped(Canvases([(96, 64), (96, 96), (112, 96)]))
    pixels = np.random.default_rng(7).integers(0, 120, (1, *size, 3), np.uint8)
    found = graph.run({"pixels": pixels})["probability"]
    np.testing.assert_array_equal(found[0, 0], pixels[0, ..., 0] * 2)
    assert any_shape.ran == ([] if ran else [(1, *size, 3)])
    assert {shape: one.ran for shape, one in made.items() if one.ran} == (
        {ran: [(1, *ran, 3)]} if ran else {}
    )


def test_a_canvas_is_padded_with_its_last_row_and_column() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1).repeat(3, axis=3)
    padded = Canvases([(3, 3)]).pad({"pixels": pixels}, (3, 3))["pixels"]
    assert padded[0, ..., 0].tolist() == [[0, 1, 1], [2, 3, 3], [2, 3, 3]]


def test_sessions_of_fixed_shapes_share_one_limit_by_their_areas() -> None:
    padding = Canvases([(100, 10), (100, 20), (100, 70)])
    # 128 MB each, and what is left by area.
    assert [padding.share_mb(shape, 1384) for shape in padding.shapes] == [228, 328, 828]
    assert padding.share_mb((100, 10), 100) == 128
    assert padding.share_mb((100, 10), 0) == 0


def fixed(**shapes: Any) -> Compute:
    return Compute(fixed=FixedShapes(**{"lines": (), "canvases": ()} | shapes))


@pytest.mark.heavy
def test_recognition_reads_the_same_in_fixed_shapes(bundles: Path) -> None:
    loaded = bundle.load(bundles / "ocr", "ocr")
    regions = Detector(loaded, Compute(), max_enlarged_px=3_000_000).find(pixels_of(0))
    strips = [region.strip for region in regions if region.strip.shape[1] <= 320][:3]
    assert len(strips) == 3
    free = Recogniser(loaded, Compute()).read(strips, 320)
    padded = Recogniser(loaded, fixed(lines=((4, 320),))).read(strips, 320)
    assert [text.text for text in padded] == [text.text for text in free]
    assert all(text.text for text in free)
    np.testing.assert_allclose(
        [text.confidence for text in padded], [text.confidence for text in free], atol=1e-5
    )


@pytest.mark.heavy
def test_detection_finds_the_same_on_a_fixed_canvas_and_nearly_on_a_larger(bundles: Path) -> None:
    loaded = bundle.load(bundles / "ocr", "ocr")
    pixels = pixels_of(2)  # 720 x 1280: a canvas of 1312 x 736

    def boxes(*canvases: tuple[int, int]) -> NDArray[np.float64]:
        compute = fixed(canvases=canvases)
        found = Detector(loaded, compute, max_enlarged_px=3_000_000).find(pixels)
        return np.asarray(
            sorted((region.box for region in found), key=lambda box: box.top), np.float64
        )

    free = boxes()
    assert len(free) == 8
    np.testing.assert_array_equal(boxes((1312, 736)), free)
    larger = boxes((1344, 736))
    assert larger.shape == free.shape
    assert np.abs(larger - free).max() <= 4


def pixels_of(number: int) -> NDArray[np.uint8]:
    from pagesight_server.inference.decode import decode
    from pagesight_server.inference.settings import ImageLimits

    return decode(page(number, 8), ImageLimits())


def test_every_phone_has_a_canvas_of_its_own_or_one_that_is_not_much_larger(bundles: Path) -> None:
    loaded = bundle.load(bundles / "ocr", "ocr")
    detector = Detector(loaded, Compute(), max_enlarged_px=3_000_000)
    canvases = Canvases(CUDA_CANVASES)
    exact = 0
    for width, height in PHONES:
        screen = np.zeros((height, width, 3), np.uint8)
        within, _, _ = resize_image_within_bounds(screen, 30, 2000)
        canvas = detector._canvas(*within.shape[:2])[::-1]
        pixels = np.zeros((1, *canvas, 3), np.uint8)
        shape = canvases.shape_for({"pixels": pixels})
        assert shape is not None, (width, height, canvas)
        exact += shape == canvas
    assert exact == 28


def test_outputs_may_stay_where_they_are(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    doubled = helper.make_tensor_value_info("doubled", TensorProto.FLOAT, ["batch", 3])
    node = helper.make_node("Add", ["x", "x"], ["doubled"])
    graph = helper.make_graph([node], "test", [x], [doubled])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(made.SerializeToString())
    outputs: OutputShapes = {"doubled": ((2, 3), np.dtype(np.float32))}
    bound = Bound(session, "cpu", outputs=outputs)
    first = bound.run({"x": np.ones((2, 3), np.float32)})["doubled"]
    second = bound.run({"x": np.full((2, 3), 4, np.float32)})["doubled"]
    assert (first[0, 0], second[0, 0]) == (2, 8)
    (buffers,) = bound._buffers.values()
    address = buffers.binding.get_outputs()[0].data_ptr()
    bound.run({"x": np.zeros((2, 3), np.float32)})
    assert buffers.binding.get_outputs()[0].data_ptr() == address


def test_kernels_are_recorded_only_where_it_was_asked_for() -> None:
    cuda = Compute(device="cuda")
    assert "enable_cuda_graph" not in provider_options(cuda)
    assert provider_options(cuda, graphs=True)["enable_cuda_graph"] == "1"


def test_on_cuda_every_width_has_one_size_and_sessions_of_its_own() -> None:
    config = read_config(None, {"compute": {"device": "cuda"}})
    fixed_shapes = wiring.session_defaults(config).fixed
    assert fixed_shapes is not None
    # 5120 columns in one run.
    assert fixed_shapes.lines == (
        (32, 160), (16, 320), (10, 480), (8, 640), (5, 960), (4, 1280), (2, 2048),
    )  # fmt: skip
    assert fixed_shapes.canvases == CUDA_CANVASES
    assert not fixed_shapes.cuda_graphs
    # No batch is larger than its session takes.
    settings = wiring.ocr_settings(config)
    sizes = {width: size for size, width in fixed_shapes.lines}
    assert all(settings.count(width, 1000) == sizes[width] for width in settings.widths)
    assert list(settings.shapes()) == []


@pytest.mark.parametrize("changed", [{"device": "cpu"}, {"fixed_shapes": False}])
def test_elsewhere_one_session_serves_all_shapes(changed: dict[str, Any]) -> None:
    config = read_config(None, {"compute": {"device": "cuda"} | changed})
    assert wiring.session_defaults(config).fixed is None
