"""ONNX Runtime sessions: devices that are not there, limits, and runs over bound buffers."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from pagesight_server.common.errors import GpuLostError, SetupError
from pagesight_server.inference import cuda
from pagesight_server.inference.cuda import Cuda
from pagesight_server.inference.onnx_session import (
    Bound,
    Graph,
    check_device,
    check_gpu_memory,
    provider_options,
)
from pagesight_server.inference.settings import Compute
from tests.support.cuda import FakeLibrary

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives `doubled`, twice x, and `kept`, x where the mask says so and 0 elsewhere."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])
    mask = helper.make_tensor_value_info("mask", TensorProto.BOOL, ["batch", 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3])
        for name in ("doubled", "kept")
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["x", "x"], ["doubled"]),
            helper.make_node("Where", ["mask", "x", "zero"], ["kept"]),
        ],
        "test",
        [x, mask],
        outputs,
        [zero],
    )
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, path)
    return path


def inputs(rows: int) -> dict[str, Any]:
    x = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
    return {"x": x, "mask": x % 2 == 0}


@pytest.mark.parametrize(
    "load",
    [
        "from pagesight_server.inference.onnx_session import Compute, Graph\n"
        "Graph(path, Compute())",
        "from pagesight_export.runtime import Graph; Graph(path)",
    ],
    ids=["server", "export"],
)
def test_onnx_runtime_reports_to_nobody_and_leaves_nothing_in_home(
    load: str, model: Path, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    code = f"from pathlib import Path; path = Path({str(model)!r}); {load}"
    subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )
    assert list(tmp_path.rglob("*")) == []


def bound(model: Path, **options: Any) -> Bound:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return Bound(session, "cpu", **options)


def test_a_graph_runs(model: Path) -> None:
    outputs = Graph(model, Compute()).run(inputs(1))
    assert outputs["doubled"].tolist() == [[0, 2, 4]]
    assert outputs["kept"].tolist() == [[0, 0, 2]]


def test_many_threads_run_one_graph_at_once(model: Path) -> None:
    graph = Graph(model, Compute())
    with ThreadPoolExecutor(4) as threads:
        outputs = list(threads.map(lambda rows: graph.run(inputs(rows)), range(1, 200)))
    for rows, values in enumerate(outputs, 1):
        assert np.array_equal(values["doubled"], 2 * inputs(rows)["x"])


def test_on_a_cpu_all_graphs_share_what_one_of_them_keeps(model: Path) -> None:
    # The outputs of a run, twice 48 MB, are in the arena. In a process of its own: what other
    # tests left in this one's would hide what is added.
    code = (
        "import sys, os; from pathlib import Path; import numpy as np\n"
        "from pagesight_server.inference.onnx_session import Graph\n"
        "from pagesight_server.inference.settings import Compute\n"
        "graphs = [Graph(Path(sys.argv[1]), Compute()) for _ in range(6)]\n"
        "x = np.ones((4_000_000, 3), np.float32); given = {'x': x, 'mask': x > 0}\n"
        "def run(graph): graph.run(given)\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "run(graphs[0]); first = resident()\n"
        "for graph in graphs: run(graph)\n"
        "print((resident() - first) // 2**20)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(model)], check=True, capture_output=True, timeout=60
    )
    assert int(ran.stdout) < 100


def test_bound_buffers_give_what_a_plain_run_gives(model: Path) -> None:
    graph, over = Graph(model, Compute()), bound(model)
    for rows in (1, 4, 1, 2, 4):
        expected, got = graph.run(inputs(rows)), over.run(inputs(rows))
        assert list(got) == ["doubled", "kept"]
        for name, values in got.items():
            np.testing.assert_array_equal(values, expected[name])
    assert over.shapes == 3


def test_a_later_run_leaves_earlier_results_alone(model: Path) -> None:
    over = bound(model)
    first = over.run(inputs(2))["doubled"]
    before = first.copy()
    over.run({"x": np.full((2, 3), 9, np.float32), "mask": np.ones((2, 3), bool)})
    np.testing.assert_array_equal(first, before)


def test_buffers_of_shapes_long_unused_are_given_back(model: Path) -> None:
    # A row is three floats and three bools, 15 bytes.
    over = bound(model, max_bytes=4 * 15)
    for rows in (1, 2, 1, 3, 1):
        assert over.run(inputs(rows))["doubled"].shape == (rows, 3)
    assert over.shapes == 2
    over.run(inputs(3))
    assert over.shapes == 2


def test_a_shape_larger_than_all_that_is_kept_runs_alone(model: Path) -> None:
    over = bound(model, max_bytes=4 * 15)
    for rows in (1, 9, 9):
        assert over.run(inputs(rows))["doubled"].shape == (rows, 3)
    assert over.shapes == 1


def test_inputs_are_copied_from_the_memory_that_is_asked_for(model: Path) -> None:
    library = FakeLibrary()
    over = bound(model, empty=Cuda(library).pinned)
    assert over.run(inputs(1))["doubled"].tolist() == [[0, 2, 4]]
    assert len(library.held) == 2


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is installed"
)
def test_cuda_is_refused_where_it_is_not_installed(model: Path) -> None:
    with pytest.raises(SetupError, match=r"CUDAExecutionProvider is not in this onnxruntime"):
        Graph(model, Compute(device="cuda"))
    with pytest.raises(SetupError, match=r"install the extra `gpu` or `gpu-cu13`"):
        check_device(Compute(device="cuda"), 3)


def test_sessions_that_do_not_fit_the_gpu_are_refused_before_they_are_made() -> None:
    compute = Compute(device="cuda", gpu_memory_mb=4096)
    # Three arenas, three sets of inputs of 192 MB, CUDA itself with 1024 MB, the index with 300.
    needed_mb = 3 * 4096 + 3 * 192 + 1024 + 300
    check_gpu_memory(compute, 3, needed_mb * MEGABYTE, index_mb=300)
    with pytest.raises(
        SetupError,
        match=r"14187 MB free, and 14188 MB .* 3 sessions .* 1600 MB for CUDA .* 300 MB for the in",
    ):
        check_gpu_memory(compute, 3, needed_mb * MEGABYTE - 1, index_mb=300)


def test_without_a_limit_only_what_is_certain_must_fit() -> None:
    compute = Compute(device="cuda", gpu_memory_mb=0)
    check_gpu_memory(compute, 1, (1024 + 192) * MEGABYTE)
    with pytest.raises(SetupError, match="1215 MB free, and 1216 MB may be needed"):
        check_gpu_memory(compute, 1, (1024 + 192) * MEGABYTE - 1)


@pytest.mark.parametrize(("half", "tf32"), [(False, "0"), (True, None)])
def test_tensor_cores_are_left_to_bundles_that_compute_in_half_precision(
    half: bool, tf32: str | None
) -> None:
    options = provider_options(Compute(device="cuda"), half=half)
    assert options.get("use_tf32") == tf32


def test_an_error_of_the_provider_is_raised_and_not_printed(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected")

    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fails)
    with pytest.raises(SetupError, match=r"cannot load .*CUDA failure 100: no CUDA-capable"):
        Graph(model, Compute())
    assert capfd.readouterr().out == ""


def test_what_cannot_be_preloaded_is_not_told_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: sys.stdout.write("no libcudnn.so.9\n"))
    check_device(Compute(device="cuda", gpu_memory_mb=0), 1, load=lambda: Cuda(FakeLibrary()))
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "no libcudnn.so.9\n")


def test_the_limit_of_a_session_reaches_the_provider() -> None:
    options = provider_options(Compute(device="cuda", gpu_memory_mb=2))
    assert options["gpu_mem_limit"] == "2097152"
    assert "gpu_mem_limit" not in provider_options(Compute(device="cuda"))
    assert provider_options(Compute(gpu_memory_mb=2)) == {}


def test_what_is_no_model_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(SetupError, match=r"cannot load .*/model\.onnx"):
        Graph(tmp_path / "model.onnx", Compute())


@pytest.mark.parametrize("settings", [{"threads": 0}, {"gpu_memory_mb": -1}])
def test_a_setting_that_cannot_be_says_so(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need threads >= 1"):
        Compute(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        pytest.param(0, ValueError, id="of one run"),
        pytest.param(700, GpuLostError, id="of CUDA for good"),  # cudaErrorIllegalAddress
    ],
)
def test_a_run_that_fails_tells_whether_cuda_is_lost(
    model: Path, monkeypatch: pytest.MonkeyPatch, error: int, raised: type[Exception]
) -> None:
    class Broken:
        def run(self, _inputs: object) -> None:
            raise ValueError("CUDA failure")

    monkeypatch.setattr(cuda, "load", lambda: Cuda(FakeLibrary(error=error)))
    graph = Graph(model, Compute())
    graph._bound = Broken()  # type: ignore[assignment]
    with pytest.raises(raised, match=r"CUDA failure|ask another replica"):
        graph.run(inputs(1))
