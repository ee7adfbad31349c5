"""`make gpu-check` without a GPU: verdicts, prerequisites, and what its parts compute."""

from __future__ import annotations

import asyncio
import json
import math
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pagesight_server.common.errors import SetupError
from tests.bench import gpu_check, gpu_load, gpu_models, gpu_nets, gpu_path, gpu_weights
from tests.bench import gpu_verdict as verdict
from tests.bench.gpu_verdict import Check, Finding


@pytest.mark.parametrize(
    ("finding", "met"),
    [
        (Finding(what="rate", found=100, limit=100), True),
        (Finding(what="rate", found=99.9, limit=100), False),
        (Finding(what="p50", found=60, limit=60, side="at most"), True),
        (Finding(what="p50", found=60.1, limit=60, side="at most"), False),
        (Finding(what="rate", found=math.nan, limit=100), False),
        (Finding(what="p50", found=math.nan, limit=60, side="at most"), False),
        (Finding(what="no target", found=1), None),
    ],
)
def test_a_limit_holds_or_not(finding: Finding, met: bool | None) -> None:
    assert finding.met is met


def check(*findings: Finding, broken: bool = False) -> Check:
    return Check(name="load", seconds=3.4, findings=findings, broken=broken)


def test_a_check_is_met_when_all_its_targets_are() -> None:
    good, bad = Finding(what="a", found=2, limit=1), Finding(what="b", found=0, limit=1)
    reported = Finding(what="c", found=0)
    assert (check(good, reported).exit_code, check(good, reported).verdict()) == (
        0,
        "load: met 1 of 1 targets, 3 s",
    )
    assert (check(good, bad).exit_code, check(good, bad).verdict()) == (1, "load: MISSED b, 3 s")
    assert (check(reported).exit_code, check(reported).verdict()) == (1, "load: no target, 3 s")
    assert (check(good, broken=True).exit_code, check(good, broken=True).verdict()) == (
        1,
        "load: FAILED, 3 s",
    )
    assert check(bad).without_limits().findings == (Finding(what="b", found=0),)
    assert check(bad).rows({"gpu": "none"})[0] | {"note": ""} == {
        "check": "load",
        "what": "b",
        "found": 0,
        "unit": "",
        "limit": 1,
        "side": "at least",
        "note": "",
        "met": False,
        "conditions": {"gpu": "none"},
    }


def test_a_table_has_columns_as_wide_as_their_cells() -> None:
    assert verdict.table([("a", "b"), ("long", ""), ("", "c")]) == "a     b\nlong\n      c"


def test_what_is_missing_is_said_with_the_way_to_get_it(tmp_path: Path) -> None:
    lacks = verdict.missing(
        verdict.CHECKS,
        "cuda",
        tmp_path,
        installed=lambda module: module not in {"rapidocr", "onnx"},
        works=lambda module: False,
    )
    assert [what.partition(":")[0] for what in lacks] == [
        "the Python module rapidocr",
        "the Python module onnx, to make networks with",
        "onnxruntime has no CUDAExecutionProvider",
        "faiss sees no GPU",
        f"an encoder bundle in {tmp_path / 'encoder'}",
        f"an OCR bundle in {tmp_path / 'ocr'}",
    ]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("load", {"numpy", "onnxruntime", "onnx", "pagesight_server"}),
        ("encoder", {"numpy", "onnxruntime", "pagesight_server"}),
        ("ocr", {"numpy", "onnxruntime", "cv2", "rapidocr", "pagesight_server"}),
        ("index", {"numpy", "faiss", "pagesight_server"}),
        (
            "path",
            {"numpy", "onnxruntime", "faiss", "cv2", "rapidocr", "grpc", "pagesight_server"},
        ),
    ],
)
def test_a_check_alone_asks_for_nothing_that_it_does_not_use(
    name: str, needs: set[str], bundles: Path
) -> None:
    asked: set[str] = set()

    def installed(module: str) -> bool:
        asked.add(module)
        return True

    verdict.missing([name], "cuda", bundles, installed=installed, works=lambda _: True)
    assert asked == needs


def test_nothing_is_missing_where_everything_is(bundles: Path) -> None:
    assert verdict.missing(verdict.CHECKS, "cpu", bundles, small=True) == []
    lacks = verdict.missing(
        ["encoder"], "cuda", bundles, installed=lambda _: True, works=lambda _: True
    )
    assert [what.partition(";")[0] for what in lacks] == [
        f"another encoder bundle in {bundles / 'encoder'}: this one is float32 with a fixed input "
        "size"
    ]


def test_checks_run_in_their_order_and_misspelt_ones_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = gpu_check._parser().parse_args(["--only", "ocr,load"])
    assert options.only == ["load", "ocr"]
    with pytest.raises(SystemExit):
        gpu_check.main(["--only", "loda"])
    assert "loda is none of load, encoder, ocr, index, path" in capsys.readouterr().err


def test_two_checks_run_on_a_cpu_and_tell_what_they_found(
    tmp_path: Path, bundles: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = gpu_check.main(
        ["--device", "cpu", "--small", "--only", "load,encoder", "--bundles", str(bundles),
         "--out", str(tmp_path)]
    )  # fmt: skip
    told = capsys.readouterr().out.splitlines()
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert code == 0
    assert {row["check"] for row in rows} == {"load", "encoder"}
    found = {row["what"]: row["found"] for row in rows}
    assert found["encoder model: compute-heavy nodes on CPUExecutionProvider"] == 1
    assert any(what.startswith("golden pairs of builtin@") for what in found)
    assert found["FP32: one shape"] > 0
    assert "load: no target" in told[-3]
    assert set(json.loads(told[-1])["checks"]) == {"load", "encoder"}


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("the service did not start")])
def test_a_check_that_breaks_is_a_finding_and_the_next_one_runs(
    error: BaseException,
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def breaks(_options: object) -> list[Finding]:
        raise error

    stages = gpu_check._stages() | {
        "load": breaks,
        "encoder": lambda _options: [Finding(what="measured", found=1)],
    }
    monkeypatch.setattr(gpu_check, "_stages", lambda: stages)
    code = gpu_check.main(
        ["--device", "cpu", "--small", "--only", "load,encoder", "--bundles", str(bundles),
         "--out", str(tmp_path)]
    )  # fmt: skip
    assert code == verdict.MISSED
    rows = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert [(row["what"], row["found"]) for row in rows] == [
        ("load: completed", 0), ("measured", 1)
    ]  # fmt: skip
    assert str(error) in rows[0]["note"]
    assert "load: FAILED" in capsys.readouterr().out


def test_without_memory_for_any_number_of_threads_the_path_says_why(
    bundles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scarce(*_arguments: object) -> tuple[float, float]:
        raise SetupError("the GPU has 9 MB free")

    monkeypatch.setattr(gpu_path, "_rate", scarce)
    options = Namespace(device="cpu", small=True, bundles=bundles, ocr_threads=[1])
    with pytest.raises(SetupError, match="9 MB free"):
        asyncio.run(gpu_path.whole_path(options))


def test_a_change_of_shape_is_what_alternating_costs_beyond_one_shape() -> None:
    # 2 and 4 ms alone are 3 ms each in turns, so a change costs 16 ms: 1 for each of 16 layers.
    change = gpu_load.change_findings("FP32", [[2.0, 2.0, 2.0], [4.0]], [19.0] * 4, [3.3, 3.3])
    assert [(one.found, one.met) for one in change] == [
        (3.0, None),
        (16.0, None),
        (pytest.approx(1.1), True),
    ]
    assert change[1].note == "1 ms a convolution; a plan is made anew at each change"
    (_, steady, _) = gpu_load.change_findings("FP32", [[3.0], [3.0]], [3.1], [3.0])
    assert steady.note.endswith("not made anew at each change")


def test_a_run_is_warmed_up_once_and_then_measured_in_order() -> None:
    ran: list[str] = []
    a, b = (lambda: ran.append("a")), (lambda: ran.append("b"))
    taken_ms = gpu_load.in_order([a, b, a])
    assert "".join(ran) == "ab" + "aba"
    assert len(taken_ms) == 3


@pytest.mark.parametrize("half", [False, True])
def test_the_networks_take_any_shape_and_stay_within_half_precision(
    half: bool, tmp_path: Path
) -> None:
    gpu_nets.write(tmp_path)
    session = ort.InferenceSession(str(tmp_path / gpu_nets.file_name(half=half)))
    for height, width in ((16, 24), (32, 8)):
        pixels = np.random.default_rng(7).random((2, 3, height, width), dtype=np.float32)
        (means,) = session.run(None, {"pixels": pixels})
        assert means.shape == (2, gpu_nets.CHANNELS, 1, 1)
        assert np.isfinite(means).all()
        assert means.std() > 0
    convolutions = [node for node in onnx.load(tmp_path / gpu_nets.file_name(half=half)).graph.node
                    if node.op_type == "Conv"]  # fmt: skip
    assert len(convolutions) == gpu_nets.LAYERS


def test_drawn_pages_have_the_sizes_of_several_phones() -> None:
    import cv2

    sizes = set()
    for data in gpu_path.pages(range(len(gpu_path.SIZES)), 5):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels is not None
        height, width = pixels.shape[:2]
        sizes.add((width, height))
    assert sizes == set(gpu_path.SIZES)
    assert len(sizes) > 4


def matrix_bundle(folder: Path) -> Path:
    """An encoder bundle with one large matrix and a small bias, as far as the check reads it."""
    folder.mkdir()
    weights = np.random.default_rng(7).normal(0, 0.5, (256, 128)).astype(np.float32)
    bias = np.arange(128, dtype=np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["sums"]),
            helper.make_node("Add", ["sums", "bias"], ["embedding"]),
        ],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 256])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 128])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / "model.onnx")
    manifest = {
        "dtype": "float32",
        "input": {"max_num_patches": 256},
        "golden": {"file": "golden.npz", "tolerance": {"embedding": 1e-3}},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    golden: dict[str, Any] = {
        "model.0.x": np.zeros((3, 256), np.float32),
        "model.0.embedding": np.zeros((3, 128), np.float32),
        "model.1.x": np.ones((1, 256), np.float32),
        "model.1.embedding": np.ones((1, 128), np.float32),
    }
    np.savez(folder / "golden.npz", **golden)
    return folder


def test_weights_that_were_left_out_are_drawn_anew_of_the_same_scale(tmp_path: Path) -> None:
    left_out = gpu_weights.strip(matrix_bundle(tmp_path / "bundle"), tmp_path / "carried")
    assert left_out == 256 * 128 * 4
    assert (tmp_path / "carried" / "model.onnx").stat().st_size < 2_000
    loaded = gpu_models.model(tmp_path / "carried", "encoder")
    assert (loaded.bundle, loaded.half, loaded.name) == (None, False, "encoder with random weights")
    (inputs,) = loaded.inputs().values()
    assert {name: values.shape for name, values in inputs.items()} == {"x": (3, 256)}
    session = ort.InferenceSession(str(loaded.file("model")))
    (embedding,) = session.run(None, {"x": np.zeros((1, 256), np.float32)})
    np.testing.assert_array_equal(embedding[0], np.arange(128))
    (embedding,) = session.run(None, {"x": np.ones((1, 256), np.float32)})
    # A sum of 256 values of scale 0.5 has a scale of 8.
    assert 6 < (embedding[0] - np.arange(128)).std() < 10
    before = (tmp_path / "carried" / "weights.bin").read_bytes()
    (tmp_path / "carried" / "weights.bin").unlink()
    gpu_weights.draw(tmp_path / "carried")
    assert (tmp_path / "carried" / "weights.bin").read_bytes() == before


def test_a_batch_of_any_size_is_made_of_golden_inputs() -> None:
    made = gpu_models.repeated({"x": np.asarray([[1], [2], [3]])}, 5)
    assert made["x"].ravel().tolist() == [1, 2, 3, 1, 2]
    assert gpu_models.repeated({"x": np.asarray([[1], [2], [3]])}, 2)["x"].ravel().tolist() == [
        1,
        2,
    ]


def test_the_operations_of_a_picture_are_counted() -> None:
    # One layer, 2 patches, hidden 3, inner 5: each token meets 4 * 9 + 2 * 15 = 66 weights, and
    # 2 * 4 * 3 = 24 products for attention; patches of 1 pixel: 2 * 3 * 3 = 18 more.
    assert gpu_models.image_flops(patches=2, hidden=3, inner=5, layers=1, patch=1) == 2 * (
        2 * 66 + 24 + 18
    )


def test_a_profile_tells_where_the_nodes_ran() -> None:
    def event(name: str, provider: str, micros: int) -> dict[str, object]:
        return {"cat": "Node", "name": name, "dur": micros, "args": {"provider": provider}}

    events = [
        event("a_kernel_time", "CUDAExecutionProvider", 900_000),
        event("b_kernel_time", "CPUExecutionProvider", 100_000),
        event("b_fence_before", "CPUExecutionProvider", 5_000_000),
        {"cat": "Session", "name": "model_run", "dur": 7, "args": {}},
    ]
    assert gpu_models.node_seconds(events) == {
        "CUDAExecutionProvider": 0.9,
        "CPUExecutionProvider": 0.1,
    }


def test_a_profile_tells_which_nodes_that_multiply_ran_elsewhere() -> None:
    def event(operator: str, provider: str) -> dict[str, object]:
        args = {"op_name": operator, "provider": provider}
        return {"cat": "Node", "name": f"{operator}_kernel_time", "dur": 1, "args": args}

    events = [
        event("FusedConv", "CUDAExecutionProvider"),
        event("MatMul", "CPUExecutionProvider"),
        event("Gemm", "CUDAExecutionProvider"),
        event("Shape", "CPUExecutionProvider"),
        {"cat": "Session", "name": "model_run", "dur": 7, "args": {}},
    ]
    assert gpu_models.heavy_nodes(events, "CUDAExecutionProvider") == (2, 3)


def test_everyone_runs_once_in_every_round() -> None:
    ran: list[str] = []
    seconds = gpu_models.in_turns(
        {"ours": lambda: ran.append("o"), "torch": lambda: ran.append("t")}, 2
    )
    assert "".join(ran) == "ot" * 5
    assert [len(taken) for taken in seconds.values()] == [2, 2]
