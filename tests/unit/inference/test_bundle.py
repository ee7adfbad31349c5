"""Bundles made by hand: what is verified, and that each refusal is one clear line."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pagesight_server.common.errors import SetupError
from pagesight_server.inference.bundle import Kind, Tensors, load
from pagesight_server.inference.encoder import Encoder
from pagesight_server.inference.settings import Compute

Manifest = dict[str, Any]
IDENTITY = ["kind", "name", "source", "dtype", "opset", "input", "preprocessing", "embedding_dim"]


def golden_file(pairs: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **dict(pairs))  # type: ignore[arg-type]
    return buffer.getvalue()


PAIRS: dict[str, NDArray[Any]] = {
    "model.0.pixels": np.array([1.0, 2.0]),
    "model.0.embedding": np.array([2.0, 4.0]),
    "model.1.pixels": np.array([5.0]),
    "model.1.embedding": np.array([10.0]),
}


def identity(manifest: Manifest) -> str:
    """As docs/bundles.md says it is made."""
    body = {key: manifest[key] for key in IDENTITY}
    body["files"] = {n: sha for n, sha in manifest["files"].items() if n != "golden.npz"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"{manifest['name']}@{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def make(
    folder: Path,
    change: Callable[[Manifest], object] = lambda manifest: None,
    pairs: Mapping[str, NDArray[Any]] = PAIRS,
    graphs: Sequence[str] = ("model",),
) -> Path:
    """Writes a whole, valid bundle; `change` is applied before its id is made."""
    folder.mkdir(exist_ok=True)
    files = {f"{graph}.onnx": b"a model" for graph in graphs}
    files["golden.npz"] = golden_file(pairs)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    manifest: Manifest = {
        "format": 1,
        "kind": "encoder",
        "name": "手工",
        "source": {"checkpoint": "by hand", "revision": "1"},
        "dtype": "float32",
        "opset": 11,
        "input": {"geometry": "fixed", "height": 4, "width": 2},
        "preprocessing": {"resize": {"library": "opencv", "interpolation": "area"}},
        "embedding_dim": 2,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "golden": {"file": "golden.npz", "tolerance": {"embedding": 0.01}},
    }
    change(manifest)
    manifest["id"] = identity(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), "utf-8")
    return folder


def rewrite(folder: Path, change: Callable[[Manifest], object]) -> None:
    """Changes a manifest behind the bundle's back."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_bytes())
    change(manifest)
    file.write_text(json.dumps(manifest), "utf-8")


def refusal(folder: Path, kind: Kind = "encoder") -> str:
    with pytest.raises(SetupError) as failed:
        load(folder, kind)
    message = str(failed.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def doubled(graph: str, inputs: Tensors) -> Tensors:
    assert graph == "model"
    return {"embedding": inputs["pixels"] * 2}


def test_a_whole_bundle_is_loaded(tmp_path: Path) -> None:
    bundle = load(make(tmp_path / "b"), "encoder")
    assert bundle.id.startswith("手工@")
    assert bundle.embedding_dim == 2
    assert bundle.file("model.onnx").read_bytes() == b"a model"
    bundle.check_golden(doubled)


def test_the_id_follows_from_the_model_and_not_from_the_machine(tmp_path: Path) -> None:
    first = load(make(tmp_path / "a"), "encoder")
    again = load(make(tmp_path / "b", lambda m: m.update(versions={"numpy": "9"})), "encoder")
    other = load(make(tmp_path / "c", lambda m: m.update(dtype="float16")), "encoder")
    assert first.id == again.id
    assert first.id != other.id


def test_a_missing_bundle_names_the_command_that_makes_it(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    assert f"pagesight-export encoder --builtin --out {folder}" in refusal(folder)
    assert f"pagesight-export ocr --out {folder}" in refusal(folder, "ocr")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "model.onnx").write_bytes(b"A model")
    assert "model.onnx is not the file that was exported" in refusal(folder)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "model.onnx").unlink()
    assert "lacks model.onnx" in refusal(folder)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").mkdir()
    assert "model.onnx cannot be read" in refusal(folder)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    assert "is a bundle of kind 'encoder', not 'ocr'" in refusal(make(tmp_path / "b"), "ocr")


def test_another_format_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "b", lambda m: m.update(format=2))
    assert "has bundle format 2, this server reads 1" in refusal(folder)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m.update(embedding_dim=3), id="dimension"),
        pytest.param(lambda m: m["input"].update(width=640), id="input"),
        pytest.param(lambda m: m["preprocessing"].clear(), id="preprocessing"),
        pytest.param(lambda m: m.update(id="手工@000000000000"), id="id"),
        pytest.param(lambda m: m["files"].pop("model.onnx"), id="file taken out"),
    ],
)
def test_a_changed_manifest_is_refused(
    tmp_path: Path, change: Callable[[Manifest], object]
) -> None:
    folder = make(tmp_path / "b")
    rewrite(folder, change)
    assert "manifest.json was changed" in refusal(folder)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/hostname", "a/../../b", "..", ".hidden"])
def test_a_file_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    def add(manifest: Manifest) -> None:
        manifest["files"][name] = hashlib.sha256(b"a model").hexdigest()

    (tmp_path / "model.onnx").write_bytes(b"a model")
    assert "names a file outside its folder" in refusal(make(tmp_path / "b", add))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "manifest.json cannot be read"),
        ("{", "manifest.json cannot be read"),
        ("{}", "lacks 'format'"),
        ("[]", "is no manifest"),
        ("null", "is no manifest"),
        ('{"format": 1, "kind": "encoder", "files": []}', "is no manifest"),
        ('{"format": 1, "kind": "encoder"}', "lacks 'files'"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert problem in refusal(tmp_path)


@pytest.mark.parametrize("kind", ["encoder", "ocr"])
def test_a_manifest_that_is_not_utf8_is_refused(tmp_path: Path, kind: Kind) -> None:
    (tmp_path / "manifest.json").write_bytes(b"{'\xff'}")
    assert "manifest.json cannot be read" in refusal(tmp_path, kind)


def test_only_files_that_were_verified_are_given_out(tmp_path: Path) -> None:
    folder = make(tmp_path / "b")
    (folder / "extra.onnx").write_bytes(b"unverified")
    with pytest.raises(SetupError, match=r"names no file 'extra\.onnx'"):
        load(folder, "encoder").file("extra.onnx")


def test_golden_pairs_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    def elsewhere(manifest: Manifest) -> None:
        manifest["golden"]["file"] = "../golden.npz"
        del manifest["files"]["golden.npz"]

    (tmp_path / "golden.npz").write_bytes(golden_file(PAIRS))
    bundle = load(make(tmp_path / "b", elsewhere), "encoder")
    with pytest.raises(SetupError, match=r"names no file '\.\./golden\.npz'"):
        bundle.check_golden(doubled)


@pytest.mark.parametrize(
    ("error", "told"),
    [(0.009, None), (0.02, r"model case 0, embedding differs by 0\.02, at most 0\.01")],
)
def test_golden_pairs_may_differ_by_the_tolerance(
    tmp_path: Path, error: float, told: str | None
) -> None:
    bundle = load(make(tmp_path / "b"), "encoder")

    def run(graph: str, inputs: Tensors) -> Tensors:
        return {"embedding": inputs["pixels"] * 2 + error}

    if told is None:
        bundle.check_golden(run)
    else:
        with pytest.raises(SetupError, match=told):
            bundle.check_golden(run)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda pixels: pixels[:1], id="another shape"),
        pytest.param(lambda pixels: pixels * np.nan, id="not a number"),
        pytest.param(lambda pixels: pixels * np.inf, id="infinite"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, wrong: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    bundle = load(make(tmp_path / "b"), "encoder")
    with pytest.raises(SetupError, match="computes something else here"):
        bundle.check_golden(lambda _graph, inputs: {"embedding": wrong(inputs["pixels"])})


@pytest.mark.parametrize(("wrong_places", "fits"), [(1, True), (2, False)])
def test_integers_may_differ_in_a_share_of_places(
    tmp_path: Path, wrong_places: int, fits: bool
) -> None:
    pairs: dict[str, NDArray[Any]] = {
        "recognition.0.crops": np.zeros(1),
        "recognition.0.indices": np.arange(10),
    }
    folder = make(
        tmp_path / "b",
        lambda m: m["golden"].update(tolerance={"indices": 0.1}),
        pairs=pairs,
        graphs=("recognition",),
    )
    got = np.arange(10)
    got[:wrong_places] += 1
    bundle = load(folder, "encoder")
    if fits:
        bundle.check_golden(lambda _graph, _inputs: {"indices": got})
    else:
        with pytest.raises(SetupError, match=r"indices differs by 0\.2, at most 0\.1"):
            bundle.check_golden(lambda _graph, _inputs: {"indices": got})


def test_golden_pairs_of_graphs_that_are_not_in_use_are_not_run(tmp_path: Path) -> None:
    bundle = load(make(tmp_path / "b"), "encoder")
    with pytest.raises(SetupError, match="no golden pairs"):
        bundle.check_golden(doubled, unused={"model"})
    bundle.check_golden(doubled, unused={"draft"})
    pairs = PAIRS | {f"draft.{name.partition('.')[2]}": value for name, value in PAIRS.items()}
    both = load(make(tmp_path / "c", pairs=pairs), "encoder")
    both.check_golden(doubled, unused={"draft"})  # which refuses any other graph than `model`


def test_a_bundle_without_golden_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no golden pairs"):
        load(make(tmp_path / "b", pairs={}), "encoder").check_golden(doubled)


@pytest.mark.parametrize(
    "more",
    [{}, {"draft.0.pixels": np.array([1.0])}],
    ids=["no pair", "an input without its output"],
)
def test_a_graph_without_golden_pairs_is_refused_where_it_is_used(
    tmp_path: Path, more: dict[str, NDArray[Any]]
) -> None:
    folder = make(tmp_path / "b", pairs=PAIRS | more, graphs=("model", "draft"))
    bundle = load(folder, "encoder")
    with pytest.raises(SetupError, match="no golden pairs of draft: nothing would be checked"):
        bundle.check_golden(lambda _graph, inputs: {"embedding": inputs["pixels"] * 2})
    bundle.check_golden(doubled, unused={"draft"})


def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"cannot load .*model\.onnx") as failed:
        Encoder(load(make(tmp_path / "b"), "encoder"), Compute())
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["input"].update(geometry="spiral"),
        lambda m: m["preprocessing"].update(resize={"library": "pillow", "interpolation": "none"}),
        lambda m: m["preprocessing"].clear(),
    ],
)
def test_preprocessing_that_this_server_cannot_do_is_refused(
    tmp_path: Path, change: Callable[[Manifest], object]
) -> None:
    with pytest.raises(SetupError, match="needs preprocessing that this server does not know"):
        Encoder(load(make(tmp_path / "b", change), "encoder"), Compute())


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(SetupError, match="CUDAExecutionProvider is not in this onnxruntime"):
        Encoder(load(make(tmp_path / "b"), "encoder"), Compute(device="cuda"))


def test_a_session_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="need threads >= 1"):
        Compute(threads=0)
