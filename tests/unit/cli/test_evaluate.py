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


@pytest.mark.parametrize(
    ("test", "out", "told"),
    [
        ("test", "file/out", "cannot be written"),
        ("test", "file/out", "name another folder with --out"),
        ("none", "out", "none is not a folder"),
        ("empty", "out", "empty holds no pictures"),
    ],
)
def test_what_would_end_a_run_is_found_before_the_models_are_loaded(
    test: str,
    out: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a": "login", "b": "home"})
    store.close()
    (tmp_path / "test" / "login").mkdir(parents=True)
    (tmp_path / "test" / "login" / "1.png").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    # There are no bundles either: that is found when they are loaded.
    options = ["--store", "gallery.db", "--bundles", "none", "--out", out]
    monkeypatch.setattr("sys.argv", ["pagesight-server", "evaluate", test, *options])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 1
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / out).exists()
