"""What `evaluate` finds before it loads anything, and what it says of the machine."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pagesight_server.__main__ import main
from pagesight_server.cli.evaluate import _versions
from pagesight_server.common import packages
from pagesight_server.gallery import Gallery
from tests.support.stores import enrol


@pytest.mark.parametrize(
    "installed",
    [
        {"pagesight": "1.0", "onnxruntime": "1.31.1", "faiss-cpu": "1.15.1"},
        {"pagesight": "1.0", "onnxruntime-gpu": "1.26.0", "faiss-gpu": "1.15.1"},
        {"pagesight": "1.0", "onnxruntime-gpu": "1.31.1", "faiss-gpu-cuvs": "1.15.1"},
    ],
    ids=["cpu", "gpu", "cuvs"],
)
def test_the_versions_are_of_what_is_installed(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(packages, "version", version)
    versions = _versions()["versions"]
    assert isinstance(versions, dict)
    del versions["python"]
    assert versions == installed


def test_a_report_that_could_not_be_written_is_refused_before_the_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a": "login", "b": "home"})
    store.close()
    (tmp_path / "file").write_bytes(b"")
    out = tmp_path / "file" / "out"
    command = ["evaluate", str(tmp_path), "--store", str(tmp_path / "gallery.db")]
    # There are no bundles either: that is found when they are loaded.
    options = ["--out", str(out), "--bundles", str(tmp_path / "none")]
    monkeypatch.setattr("sys.argv", ["pagesight-server", *command, *options])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert f"{out} cannot be written" in " ".join(told.split())
    assert "name another folder with --out" in " ".join(told.split())
