"""The recipe of each bundle: the only module that names its files and fills in its manifest.

located sources -> graphs (builtin, ocr) -> golden pairs -> Draft, for `folder.write`
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from pagesight_export import builtin, folder, golden, graph, ocr, sources, torch_file
from pagesight_export.bundle import GOLDEN, Manifest, sha256
from pagesight_export.draft import DETECTION_FILE, DETECTION_SHA256, FILE
from pagesight_export.errors import MissingPackageError, SourceError
from pagesight_export.folder import Draft
from pagesight_export.runtime import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from onnx import ModelProto

    from pagesight_export.draft import LocatedDraft
    from pagesight_export.progress import Progress
    from pagesight_export.runtime import Tensors
    from pagesight_export.sources import Located

_TOOLS = ("numpy", "onnx", "onnxruntime", "opencv-python-headless")
_GOLDEN_TEXTS = ("credit limit", "12,345.67", "pagesight")
_LIMITS: dict[str, dict[str, float]] = {"draft": {"sure_from": 0.97}}
"""Confidence of the draft from which a line is not read again (docs/decisions/0014)."""
_LIMIT_FOR = "ppocrv6-small"
"""The source whose readings that limit was found with."""
TOLERANCE_EMBEDDING = 5e-3
"""Processors differ by about 1e-6 and a GPU's TF32 by less than this; channels in the wrong
order differ by ten times this and more (tests/unit/export/test_builtin.py)."""
TOLERANCE_PROBABILITY = 5e-2
"""Absolute tolerance of probabilities and confidences, both from 0 to 1."""
TOLERANCE_INDICES = 0.05
"""Share of time steps that may differ: one between two letters is a near tie, which another
processor's rounding may turn."""


def builtin_encoder(located: Located, *, progress: Progress) -> Draft:
    """Make the built-in encoder from an OCR source's detection network and EfficientNet-Lite0.

    Raises:
        MissingPackageError: the package with EfficientNet-Lite0's weights is not installed.
        SourceError: a network is not the one that the encoder is made from.
    """
    numbers = located.config["Det"]
    progress("reading EfficientNet-Lite0")
    weights = torch_file.read(sources.weights(sources.LITE0), sources.LITE0.file)
    progress("cutting the detector's backbone out and joining colour and EfficientNet-Lite0 to it")
    model = builtin.build(
        graph.load_graph(located.detection), weights, mean=numbers["mean"], std=numbers["std"]
    )
    contents = {"model.onnx": graph.to_bytes(model)}
    progress("running the golden pictures")
    cases: list[Tensors] = [
        {"pixels": page[None]} for page in golden.pages(builtin.HEIGHT, builtin.WIDTH)
    ]
    contents[GOLDEN] = golden.pack(golden.answer("model", Graph(contents["model.onnx"]), cases))
    manifest = Manifest(
        kind="encoder",
        name="builtin",
        source=_builtin_origin(located),
        dtype="float32",
        opset=graph.opset_of(model),
        input={
            "geometry": "fixed",
            "height": builtin.HEIGHT,
            "width": builtin.WIDTH,
            "layout": "NHWC",
            "dtype": "uint8",
            "channels": "RGB",
        },
        preprocessing={"resize": {"library": "opencv", "interpolation": "area"}},
        embedding_dim=builtin.DIMENSION,
        files={},
        tolerance={"embedding": TOLERANCE_EMBEDDING},
        versions=sources.versions(located.source.package, sources.LITE0.package, *_TOOLS),
    )
    return Draft(manifest=manifest, contents=contents)


def checkpoint(
    model: str, *, dtype: str, max_num_patches: int | None, scratch: Path, progress: Progress
) -> Draft:
    """Make an encoder from a SigLIP 2 NaFlex checkpoint; torch is imported on the first call.

    Raises:
        MissingPackageError: this environment has no torch, transformers or optimum.
        ExportError: see `encoders.checkpoint_encoder`.
    """
    try:
        from pagesight_export import checkpoints, encoders
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"--model needs {error.name}, which is not installed here:"
            f" make export ARGS='encoder --model {model}'"
        ) from error
    return encoders.checkpoint_encoder(
        lambda: checkpoints.siglip2(model, max_num_patches=max_num_patches),
        dtype=dtype,
        scratch=scratch,
        progress=progress,
        need_space=lambda size: folder.need_space(scratch, size),
    )


def ocr_models(located: Located, *, draft: LocatedDraft | None = None, progress: Progress) -> Draft:
    """Make an OCR bundle from the detection and recognition networks of an OCR source.

    Args:
        located: The source.
        draft: Cheaper networks that find all lines and read each of them first; None for none.
        progress: Called with each step.

    Raises:
        SourceError: the source's networks or numbers are not of the shape this export knows.
    """
    if draft is not None and located.source.name != _LIMIT_FOR:
        raise SourceError(
            f"--draft tiny goes with {_LIMIT_FOR}: below which confidence its lines must be read"
            f" again was not measured with {located.source.name}"
        )
    progress("wrapping detection and recognition")
    numbers = _preprocessing(located.config)
    networks = _networks(
        graph.load_graph(located.detection), graph.load_graph(located.recognition), numbers
    )
    if draft is not None:
        progress("wrapping the draft's")
        cheaper = _networks(
            graph.parse_graph(draft.detection, DETECTION_FILE),
            graph.parse_graph(draft.weights, FILE),
            numbers,
        )
        networks |= {
            "draft_detection": cheaper["detection"],
            "draft": cheaper["recognition"],
        }
    contents = {_file(name): graph.to_bytes(model) for name, (model, _) in networks.items()}
    contents |= {_table(name): table for name, (_, table) in networks.items() if table is not None}
    progress("running the golden pictures")
    crops, widths = golden.lines(_GOLDEN_TEXTS, height=ocr.CROP_HEIGHT)
    page = golden.pages(256, 192)[1][None, :, :, ::-1]
    lines: list[Tensors] = [
        {"crops": crops, "widths": widths},
        {"crops": crops[:1], "widths": widths[:1]},
    ]
    pairs: Tensors = {}
    for name, (_, table) in networks.items():
        cases = [{"pixels": page}] if table is None else lines
        pairs |= golden.answer(name, Graph(contents[_file(name)]), cases)
    contents[GOLDEN] = golden.pack(pairs)
    manifest = Manifest(
        kind="ocr",
        name=located.source.name + ("+tiny" if draft else ""),
        source=_ocr_origin(located, draft),
        dtype="float32",
        opset=max(graph.opset_of(model) for model, _ in networks.values()),
        input={
            name: (_canvas(name) if table is None else _rows(name)) | _LIMITS.get(name, {})
            for name, (_, table) in networks.items()
        },
        preprocessing=numbers,
        embedding_dim=None,
        files={},
        tolerance={
            "probability": TOLERANCE_PROBABILITY,
            "indices": TOLERANCE_INDICES,
            "confidences": TOLERANCE_PROBABILITY,
        },
        versions=sources.versions(located.source.package, *_TOOLS),
        report={"draft": _told(draft)} if draft else {},
    )
    return Draft(manifest=manifest, contents=contents)


def _networks(
    detector: ModelProto, recogniser: ModelProto, numbers: Mapping[str, Any]
) -> dict[str, tuple[ModelProto, bytes | None]]:
    """Wrap two networks: each by its name, with its character table if it recognises text."""
    mean, std = numbers["detection"]["mean"], numbers["detection"]["std"]
    table = ocr.characters_file(ocr.characters(recogniser))
    return {
        "detection": (ocr.detection(detector, mean=mean, std=std), None),
        "recognition": (ocr.recognition(recogniser), table),
    }


def _file(network: str) -> str:
    """Name a network's file."""
    return f"{network}.onnx"


def _table(network: str) -> str:
    """Name the file of a recogniser's character table."""
    return "characters.json" if network == "recognition" else f"{network}-characters.json"


def _canvas(network: str) -> dict[str, Any]:
    """Describe the input of a detector."""
    return {
        "file": _file(network),
        "geometry": "any",
        "multiple_of": 32,
        "layout": "NHWC",
        "dtype": "uint8",
        "channels": "BGR",
    }


def _rows(network: str) -> dict[str, Any]:
    """Describe the input of a recogniser, and its character table."""
    return {
        "file": _file(network),
        "geometry": "rows",
        "height": ocr.CROP_HEIGHT,
        "layout": "NHWC",
        "dtype": "uint8",
        "channels": "BGR",
        "characters": _table(network),
        "blank": 0,
    }


def _told(draft: LocatedDraft) -> dict[str, Any]:
    """Say for people where a draft is from, and how its limit was found."""
    source = draft.source
    return {
        "origin": source.origin,
        "licence": source.licence,
        "changed": source.changed,
        "limit": "docs/decisions/0014-a-draft-reads-first.md",
    }


def _builtin_origin(located: Located) -> Mapping[str, Any]:
    """Describe the detector's file and EfficientNet-Lite0's."""
    detector, lite0 = located.detection, sources.LITE0
    packages = f"{located.source.package}/{detector.name} + {lite0.package}/{lite0.file}"
    return _origin(packages, {detector.name: sha256(detector), lite0.file: lite0.sha256})


def _ocr_origin(located: Located, draft: LocatedDraft | None) -> Mapping[str, Any]:
    """Describe the files of detection and recognition, and of the draft."""
    files = {path.name: sha256(path) for path in (located.detection, located.recognition)}
    checkpoint = f"{located.source.package}/{located.source.name}"
    if draft is None:
        return _origin(checkpoint, files)
    files |= {FILE: draft.source.sha256, DETECTION_FILE: DETECTION_SHA256}
    return _origin(f"{checkpoint} + {draft.source.origin}", files)


def _origin(checkpoint: str, files: Mapping[str, str]) -> Mapping[str, Any]:
    """Describe several source files; the revision is the hash of their hashes."""
    revision = hashlib.sha256("".join(files.values()).encode()).hexdigest()
    return {"checkpoint": checkpoint, "revision": revision, "files": dict(files)}


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy the parameters of the OCR pipeline, under the library's own names."""
    return {
        "picture": _pick(
            config, "Global", "max_side_len", "min_side_len", "min_height", "width_height_ratio"
        ),
        "detection": _pick(
            config,
            "Det",
            "limit_side_len",
            "limit_type",
            "mean",
            "std",
            "thresh",
            "box_thresh",
            "max_candidates",
            "unclip_ratio",
            "use_dilation",
            "score_mode",
        )
        | {"resize": {"library": "opencv", "interpolation": "linear"}},
        "crop": {
            "library": "opencv",
            "interpolation": "cubic",
            "border": "replicate",
            "turn_from_ratio": 1.5,
        },
        "recognition": _pick(config, "Rec", "rec_img_shape", "rec_batch_num")
        | {"resize": {"library": "opencv", "interpolation": "linear"}},
        "result": _pick(config, "Global", "text_score"),
    }


def _pick(config: Mapping[str, Any], section: str, *keys: str) -> dict[str, Any]:
    values: Mapping[str, Any] = config.get(section, {})
    missing = [key for key in keys if key not in values]
    if missing:
        raise SourceError(
            f"config.yaml has no {section}.{missing[0]}: this release of the OCR package is not"
            " known here; install the one that pagesight's lock names"
        )
    return {key: values[key] for key in keys}
