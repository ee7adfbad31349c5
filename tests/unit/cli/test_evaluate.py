"""What `evaluate` says of the machine that it ran on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from pagesight_server.cli.evaluate import _versions
from pagesight_server.common import packages


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
