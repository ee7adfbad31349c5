"""The OCR graphs answer as the libraries' own code does, which is where expectations come from."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper
from rapidocr import RapidOCR
from rapidocr.ch_ppocr_det.utils import DetPreProcess

from pagesight_export import golden, graph, ocr, recipes, sources
from pagesight_export.errors import MissingPackageError, SourceError
from pagesight_export.runtime import Graph

HALF = [0.5, 0.5, 0.5]
TEXTS = ("credit limit", "12,345.67", "Settings", "pagesight 2026", "a")


@cache
def located() -> sources.Located:
    return sources.locate("rapidocr")


@cache
def recogniser() -> onnx.ModelProto:
    return graph.load_graph(located().recognition)


@cache
def recognition_bytes() -> bytes:
    return graph.to_bytes(ocr.recognition(recogniser()))


@cache
def library() -> RapidOCR:
    return RapidOCR(params={"Global.log_level": "error"})


def plain_session(model: bytes | str) -> ort.InferenceSession:
    """Run without fusions, which reorder sums: bits can be compared."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def decode(indices: NDArray[np.int64], table: list[str]) -> str:
    return "".join(
        table[index]
        for step, index in enumerate(indices)
        if index and (step == 0 or indices[step - 1] != index)
    )


def test_a_batch_of_crops_reads_as_each_reads_alone_in_the_library() -> None:
    crops, widths = golden.lines(TEXTS, height=48)
    padded = np.zeros((len(TEXTS), 48, max(320, crops.shape[2]), 3), dtype=np.uint8)
    padded[:, :, : crops.shape[2]] = crops

    found = Graph(recognition_bytes()).run({"crops": padded, "widths": widths})

    table = ocr.characters(recogniser())
    for crop, width, indices in zip(crops, widths, found["indices"], strict=True):
        alone = library()(crop[:, :width], use_det=False, use_cls=False, use_rec=True)
        assert alone.txts is not None
        assert decode(indices.astype(np.int64), table) == alone.txts[0]
    assert decode(found["indices"][0].astype(np.int64), table) == "credit limit"


def test_padding_is_bit_equal_to_the_librarys_whatever_the_padding_held() -> None:
    crops, widths = golden.lines(TEXTS[:2], height=48)
    noise = np.random.default_rng(7).integers(0, 256, crops.shape, dtype=np.uint8)
    dirty = np.where(np.arange(crops.shape[2])[None, None, :, None] < widths[:, None, None, None],
                     crops, noise)  # fmt: skip
    # resize_norm_img of rapidocr's TextRecognizer, for crops that are 48 high already
    wanted = np.zeros((2, 3, 48, crops.shape[2]), dtype=np.float32)
    for row, crop, width in zip(wanted, crops, widths, strict=True):
        image = crop[:, :width].astype("float32").transpose((2, 0, 1)) / 255
        image -= 0.5
        image /= 0.5
        row[:, :, :width] = image
    (scores,) = plain_session(str(located().recognition)).run(None, {"x": wanted})

    indices, confidences = plain_session(recognition_bytes()).run(
        None, {"crops": dirty, "widths": widths}
    )

    np.testing.assert_array_equal(indices, scores.argmax(axis=2))
    np.testing.assert_array_equal(confidences, scores.max(axis=2))


def test_only_indices_and_confidences_leave_the_recognition_graph() -> None:
    session = plain_session(recognition_bytes())

    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("crops", "tensor(uint8)", ["N", 48, "W", 3]),
        ("widths", "tensor(int64)", ["N"]),
    ]
    assert [(value.name, value.type, value.shape) for value in session.get_outputs()] == [
        ("indices", "tensor(int64)", ["N", "T"]),
        ("confidences", "tensor(float)", ["N", "T"]),
    ]


@pytest.mark.parametrize(("width", "steps"), [(8, 1), (17, 2), (320, 40), (325, 41)])
def test_time_steps_are_half_of_a_quarter_rounded_up(width: int, steps: int) -> None:
    crops = np.zeros((1, 48, width, 3), dtype=np.uint8)

    found = Graph(recognition_bytes()).run({"crops": crops, "widths": np.array([width])})

    assert found["indices"].shape == found["confidences"].shape == (1, steps)


def test_detection_is_the_librarys_preprocessing_and_network_but_for_rounding() -> None:
    page = np.ascontiguousarray(golden.pages(256, 192)[1][:, :, ::-1])
    feed = DetPreProcess(32, "min", HALF, HALF)(page)
    (wanted,) = plain_session(str(located().detection)).run(None, {"x": feed})
    network = graph.load_graph(located().detection)
    made = graph.to_bytes(ocr.detection(network, mean=HALF, std=HALF))

    (found,) = plain_session(made).run(None, {"pixels": page[None]})

    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert found.max() > 0.9, "the page has text"


def test_detection_normalises_bit_by_bit_as_the_library() -> None:
    page = np.ascontiguousarray(golden.pages(64, 96)[0][:, :, ::-1])
    w = graph.Writer("identity")
    w.op("Identity", "x", output="y")
    shape: list[int | str] = ["N", 3, "H", "W"]
    plain = helper.make_graph(
        w.nodes, "plain", [graph.tensor("x", 1, shape)], [graph.tensor("y", 1, shape)]
    )
    opset = helper.make_opsetid("", 12)
    model = helper.make_model(plain, opset_imports=[opset], ir_version=8)

    (found,) = plain_session(ocr.detection(model, mean=HALF, std=HALF).SerializeToString()).run(
        None, {"pixels": page[None]}
    )

    np.testing.assert_array_equal(found, DetPreProcess(32, "min", HALF, HALF)(page))


def test_no_weight_is_so_small_that_processors_slow_down() -> None:
    def denormal(model: onnx.ModelProto) -> int:
        weights = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
        return sum(
            int(np.count_nonzero((w != 0) & (np.abs(w) < np.finfo(np.float32).tiny)))
            for w in weights
            if w.dtype == np.float32
        )

    network = graph.load_graph(sources.locate("rapidocr").detection)
    half = [0.5] * 3
    assert denormal(network) > 250_000
    assert denormal(ocr.detection(network, mean=half, std=half)) == 0


def test_the_character_table_is_the_librarys() -> None:
    library()(golden.lines(["a"], height=48)[0][0], use_det=False, use_cls=False, use_rec=True)
    assert library().text_rec is not None
    wanted = library().text_rec.postprocess_op.character

    table = json.loads(ocr.characters_file(ocr.characters(recogniser())))

    assert wanted[0] == "blank"
    assert table[0] == ""
    assert table[1:] == wanted[1:]
    assert table[-1] == " "


def test_the_manifest_holds_the_numbers_of_the_librarys_configuration() -> None:
    config = library().cfg

    draft = recipes.ocr_models(located(), progress=lambda step: None)

    numbers = draft.manifest.preprocessing
    for key in ("limit_side_len", "thresh", "box_thresh", "unclip_ratio", "use_dilation"):
        assert numbers["detection"][key] == config["Det"][key]
    assert numbers["result"] == {"text_score": config["Global"]["text_score"]}
    assert numbers["recognition"]["rec_img_shape"] == list(config["Rec"]["rec_img_shape"])
    assert draft.manifest.embedding_dim is None


def small_package(root: Path, *, classes: int = 4) -> Path:
    """Write a folder laid out as `rapidocr-onnxruntime`, with networks of one layer."""
    (root / "models").mkdir(parents=True)
    w = graph.Writer("tiny")
    w.op("Sigmoid", w.op("ReduceMean", "x", axes=[1], keepdims=1), output="map")
    save(w, root / "models" / "ch_PP-OCRv4_det_infer.onnx", "map", ["N", 1, "H", "W"])
    w = graph.Writer("tiny")
    columns = w.op("Transpose", w.op("ReduceMean", "x", axes=[1, 2], keepdims=0), perm=[1, 0])
    steps = w.op("Transpose", w.op("Unsqueeze", columns, axes=[2]), perm=[1, 0, 2])
    weights = w.constant(np.linspace(-1, 1, classes, dtype=np.float32).reshape(1, classes))
    w.op("MatMul", steps, weights, output="scores")
    save(w, root / "models" / "ch_PP-OCRv4_rec_infer.onnx", "scores", ["N", "T", classes])
    config = located().detection.parent.parent / "config.yaml"
    (root / "config.yaml").write_bytes(config.read_bytes())
    return root


def save(w: graph.Writer, path: Path, output: str, shape: list[int | str]) -> None:
    made = helper.make_graph(
        w.nodes,
        "tiny",
        [graph.tensor("x", graph.FLOAT, ["N", 3, "H", "W"])],
        [graph.tensor(output, graph.FLOAT, shape)],
        w.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    helper.set_model_props(model, {"character": "x\ny"})
    onnx.save(model, path)


@pytest.mark.parametrize("below", ["", "models"])
def test_an_unpacked_package_is_read_where_it_is_not_installed(tmp_path: Path, below: str) -> None:
    root = small_package(tmp_path / "rapidocr_onnxruntime")

    draft = recipes.ocr_models(
        sources.locate("rapidocr-onnxruntime", root / below), progress=lambda step: None
    )

    assert draft.manifest.name == "ppocrv4-mobile"
    assert draft.manifest.opset == 12
    table = draft.contents["characters.json"]
    assert isinstance(table, bytes)
    assert json.loads(table) == ["", "x", "y", " "]


def test_a_character_table_of_another_length_is_refused(tmp_path: Path) -> None:
    root = small_package(tmp_path, classes=9)

    with pytest.raises(SourceError, match="9 classes but names 4 characters"):
        recipes.ocr_models(sources.locate("rapidocr-onnxruntime", root), progress=lambda step: None)


def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)

    with pytest.raises(MissingPackageError, match=r"pip install 'pagesight\[cpu,builtin\]'"):
        sources.locate("rapidocr")


def test_a_folder_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="point --models at the unpacked package"):
        sources.locate("rapidocr-onnxruntime", tmp_path)


def test_an_unknown_source_is_refused_with_those_known() -> None:
    with pytest.raises(SourceError, match="rapidocr, rapidocr-onnxruntime, not 'tesseract'"):
        sources.locate("tesseract")
