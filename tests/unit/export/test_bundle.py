"""The bundle folder: its id, what is found when it is changed, and that it is written whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pagesight_export import bundle, golden
from pagesight_export.bundle import GOLDEN, MANIFEST
from pagesight_export.cli import app
from pagesight_export.errors import BundleError, ExportError
from pagesight_export.folder import write
from pagesight_export.verify import verify
from tests.support.drafts import doubling, draft

run = CliRunner().invoke


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    change(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_written_bundle_verifies_and_reads_back(tmp_path: Path) -> None:
    written = write(draft(), tmp_path / "new" / "encoder")

    report = verify(tmp_path / "new" / "encoder")

    assert report.ok
    assert report.manifest == written
    assert [(check.output, check.difference) for check in report.golden] == [("embedding", 0.0)]
    assert files_below(tmp_path / "new") == [
        "encoder",
        "encoder/golden.npz",
        "encoder/manifest.json",
        "encoder/model.onnx",
    ]


def test_the_id_is_the_hash_that_the_format_describes(tmp_path: Path) -> None:
    manifest = write(draft(), tmp_path / "encoder")

    model = hashlib.sha256(doubling()).hexdigest()
    identity = (
        '{"dtype":"float32","embedding_dim":2,"files":{"model.onnx":"' + model + '"},'
        '"input":{"geometry":"fixed"},"kind":"encoder","name":"double","opset":11,'
        '"preprocessing":{"resize":{"interpolation":"area","library":"opencv"}},'
        '"source":{"checkpoint":"by hand","revision":"1"}}'
    )
    assert manifest.id == f"double@{hashlib.sha256(identity.encode()).hexdigest()[:12]}"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"versions": {"numpy": "3"}}, id="versions"),
        pytest.param({"tolerance": {"embedding": 0.5}}, id="tolerance"),
    ],
)
def test_the_id_does_not_depend_on_the_machine_that_exported(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = write(draft(), tmp_path / "first")
    second = write(draft(**changes), tmp_path / "second")

    assert first.id == second.id


def test_the_id_depends_on_how_pictures_are_prepared(tmp_path: Path) -> None:
    first = write(draft(), tmp_path / "first")
    second = write(draft(preprocessing={"resize": "other"}), tmp_path / "second")

    assert first.id != second.id


def test_two_writings_are_byte_for_byte_the_same(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(draft(), tmp_path / name)

    for file in ("model.onnx", GOLDEN, MANIFEST):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@pytest.mark.parametrize(
    ("tamper", "complaint"),
    [
        pytest.param(
            lambda folder: (folder / "model.onnx").write_bytes(doubling()[:-1] + b"!"),
            "model.onnx is changed",
            id="a changed model",
        ),
        pytest.param(
            lambda folder: (folder / "model.onnx").unlink(), "model.onnx is missing", id="no model"
        ),
        pytest.param(
            lambda folder: (folder / MANIFEST).unlink(), "has no manifest.json", id="no manifest"
        ),
        pytest.param(
            lambda folder: (folder / MANIFEST).write_text("{"), "cannot be read", id="half a file"
        ),
        pytest.param(
            lambda folder: edit(folder, lambda m: m.update(format=2)),
            "not of format 1",
            id="another format",
        ),
        pytest.param(
            lambda folder: edit(folder, lambda m: m.update(embedding_dim=3)),
            "it was changed after the export",
            id="another dimension",
        ),
        pytest.param(
            lambda folder: edit(folder, lambda m: m.pop("opset")),
            "lacks or garbles 'opset'",
            id="a field missing",
        ),
        pytest.param(
            lambda folder: edit(folder, lambda m: m["golden"].update(tolerance={"embedding": -1})),
            "a number from 0 up",
            id="a tolerance that nothing meets",
        ),
    ],
)
def test_a_changed_bundle_is_found(
    tmp_path: Path, tamper: Callable[[Path], object], complaint: str
) -> None:
    write(draft(), tmp_path)
    tamper(tmp_path)

    result = run(app, ["verify", str(tmp_path)])

    assert result.exit_code == 1
    assert complaint in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_file_outside_the_folder_is_never_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"")
    write(draft(), tmp_path / "bundle")

    def add(manifest: dict[str, Any]) -> None:
        manifest["files"]["../secret"] = hashlib.sha256(b"").hexdigest()
        manifest["id"] = bundle.Manifest(
            **{key: manifest[key] for key in bundle.IDENTITY}, tolerance={}, versions={}
        ).id

    edit(tmp_path / "bundle", add)

    with pytest.raises(BundleError, match=r"outside its folder: \.\./secret"):
        verify(tmp_path / "bundle")


def test_a_graph_that_answers_otherwise_is_found(tmp_path: Path) -> None:
    made = draft()
    wrong = golden.pack(
        {
            "model.0.pixels": np.array([[1, 2]], dtype=np.float32),
            "model.0.embedding": np.array([[2, 4.25]], dtype=np.float32),
        }
    )

    with pytest.raises(BundleError, match=r"model case 0: embedding is off by 0\.25"):
        write(replace(made, contents={**made.contents, GOLDEN: wrong}), tmp_path / "encoder")

    assert files_below(tmp_path) == []


def test_a_bundle_whose_golden_pairs_were_emptied_does_not_verify(tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    write(draft(), folder)
    pairs = golden.pack({})
    (folder / GOLDEN).write_bytes(pairs)
    digest = hashlib.sha256(pairs).hexdigest()
    edit(folder, lambda manifest: manifest["files"].update({GOLDEN: digest}))

    with pytest.raises(BundleError, match="golden pairs of model hold no expected output"):
        verify(folder)


def test_a_graph_without_golden_pairs_is_not_exported(tmp_path: Path) -> None:
    whole = draft()
    lacking = replace(whole, contents={**whole.contents, "draft.onnx": doubling()})

    with pytest.raises(BundleError, match="golden pairs of draft hold no expected output"):
        write(lacking, tmp_path / "encoder")

    assert files_below(tmp_path) == []


def test_a_failed_export_leaves_the_bundle_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "encoder"
    write(draft(), target)
    before = (target / MANIFEST).read_bytes()
    made = draft(name="other")

    with pytest.raises(BundleError, match="ONNX Runtime refuses the graph"):
        write(replace(made, contents={**made.contents, "model.onnx": b"not a graph"}), target)

    assert (target / MANIFEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_good_export_replaces_the_bundle_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "encoder"
    write(draft(), target)

    write(draft(name="other"), target)

    assert verify(target).manifest.name == "other"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")

    with pytest.raises(ExportError, match="something that is no bundle: choose another --out"):
        write(draft(), tmp_path)

    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_too_little_space_is_found_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has 1 MiB free and the bundle needs 16 MiB"):
        write(draft(), tmp_path / "encoder", free_bytes=lambda folder: 2**20)

    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a@b", "a/b", "a b"])
def test_a_name_that_would_garble_an_id_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match="name has no"):
        draft(name=name)


def test_packed_arrays_do_not_tell_the_time() -> None:
    packed = golden.pack({"model.0.pixels": np.zeros(3)})

    assert packed == golden.pack({"model.0.pixels": np.zeros(3)})


def test_the_built_in_encoder_is_exported_twice_alike(tmp_path: Path) -> None:
    answers = [
        run(app, ["encoder", "--builtin", "--json", "--out", str(tmp_path / name)])
        for name in ("first", "second")
    ]

    assert [answer.exit_code for answer in answers] == [0, 0]
    first, second = (json.loads(answer.stdout) for answer in answers)
    assert first["id"] == second["id"]
    assert first["id"].startswith("builtin@")
    assert (tmp_path / "first/model.onnx").read_bytes() == (
        tmp_path / "second/model.onnx"
    ).read_bytes()
    assert (tmp_path / "first" / GOLDEN).stat().st_size < 1_000_000


def test_an_ocr_bundle_is_exported_and_verified(tmp_path: Path) -> None:
    made = run(app, ["ocr", "--out", str(tmp_path / "ocr")])
    checked = run(app, ["verify", str(tmp_path / "ocr"), "--json"])

    assert made.exit_code == 0, made.stderr
    assert "ppocrv6-small@" in made.stdout
    report = json.loads(checked.stdout)
    assert report["ok"]
    assert {check["graph"] for check in report["golden"]} == {"detection", "recognition"}
    with zipfile.ZipFile(tmp_path / "ocr" / GOLDEN) as archive:
        assert sum(entry.compress_size for entry in archive.infolist()) < 1_000_000


def test_a_verified_bundle_is_shown_as_a_table(tmp_path: Path) -> None:
    write(draft(), tmp_path)

    result = run(app, ["verify", str(tmp_path)])

    assert result.exit_code == 0
    assert "model.onnx" in result.stdout
    assert "off by 0" in result.stdout


@pytest.mark.parametrize("command", ["encoder", "ocr", "verify"])
def test_every_command_explains_itself(command: str) -> None:
    result = run(app, [command, "--help"])

    assert result.exit_code == 0
    assert "--json" in result.stdout


def without(packages: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `pagesight-export` where some packages cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({packages!r}))"
    program = f"{block}; from pagesight_export.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["encoder", "--builtin"], id="encoder"),
        pytest.param(["ocr"], id="ocr"),
    ],
)
def test_without_onnx_an_export_says_what_to_install(arguments: list[str], tmp_path: Path) -> None:
    done = without(["onnx"], *arguments, "--out", str(tmp_path / "bundle"))

    assert done.returncode == 1
    assert done.stderr.endswith(
        "pagesight-export needs onnx: pip install 'pagesight[cpu,builtin]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_typer_the_command_says_what_to_install() -> None:
    done = without(["typer"], "--help")

    assert done.returncode == 1
    assert done.stderr == "pagesight-export needs typer: pip install 'pagesight[cpu,builtin]'\n"


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ([], "--version"),
        (["encoder"], "--builtin"),
        (["ocr"], "--source"),
        (["verify"], "--reference"),
    ],
)
def test_the_help_needs_no_model_library(arguments: list[str], option: str) -> None:
    heavy = ["onnx", "onnxruntime", "cv2", "rapidocr", "numpy", "PIL"]

    done = without(heavy, *arguments, "--help")

    assert done.returncode == 0, done.stderr
    assert option in done.stdout


def test_an_encoder_must_be_chosen() -> None:
    result = run(app, ["encoder"])

    assert result.exit_code == 1
    assert "pagesight-export encoder --builtin" in result.stderr
