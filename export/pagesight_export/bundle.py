"""The bundle format: the folder that an export writes and a server reads, their only interface.

    <name>/
      manifest.json    what this is, how to feed it, the hash of every other file
      model.onnx       an encoder                        ┐
      detection.onnx   ┐ an OCR bundle: two graphs and   ├ kind "encoder" or kind "ocr"
      recognition.onnx │ the characters, a JSON list     │
      characters.json  ┘ indexed by class                ┘
      draft.onnx, draft-characters.json    a second recogniser of an OCR bundle, if it has one
      golden.npz       inputs, and what the graphs must answer to them

`manifest.json`, UTF-8, one object:

| field           | meaning                                                                     |
|-----------------|-----------------------------------------------------------------------------|
| `format`        | 1; a reader refuses any other                                               |
| `id`            | `<name>@<12 hex digits>`, see below; what a gallery remembers               |
| `kind`          | `encoder` or `ocr`                                                          |
| `name`          | short name of the model, no `@`, no `/`                                     |
| `source`        | `checkpoint` (where the weights are from), `revision` (sha256 or commit)    |
| `dtype`         | `float32`, `float16` or `int8`: what the graph computes in                  |
| `opset`         | ONNX operator set                                                           |
| `input`         | encoder: one input object (below); ocr: `detection`, `recognition`, `draft` |
| `preprocessing` | what happens to a decoded picture before it is the graph's input            |
| `embedding_dim` | length of an embedding; null for ocr                                        |
| `files`         | {file name: sha256} of every file but the manifest                          |
| `golden`        | `file` (`golden.npz`), `tolerance` {output name: number}                    |
| `versions`      | {package: version} that took part; for people, never compared               |
| `report`        | how the export went (size, time, memory, parity); for people; may be absent |

Fields a reader does not know are ignored. The graph's tensors have fixed names:

- encoder, `geometry` `fixed`: `pixels` uint8 `[N,height,width,3]` RGB -> `embedding` float32
  `[N,embedding_dim]`, unit length. `preprocessing` is `{"resize": {"library": "opencv",
  "interpolation": "area"}}`: the decoded RGB picture is resized to height x width with
  `cv2.resize(..., interpolation=cv2.INTER_AREA)`, whatever its shape; where that enlarges,
  OpenCV interpolates linearly. All else is in the graph. Other resizes: docs/bundles.md.
- encoder, `geometry` `naflex`: `patches` uint8 `[N,P,patch_size*patch_size*3]`, `mask` bool
  `[N,P]`, `shapes` int64 `[N,2]` -> the same `embedding`. How a picture becomes them:
  docs/bundles.md.
- detection: `pixels` uint8 `[N,H,W,3]` BGR, H and W multiples of 32 -> `probability` float32
  `[N,1,H,W]`.
- recognition: `crops` uint8 `[N,48,W,3]` BGR and `widths` int64 `[N]`; columns at or right of
  `widths[n]` are padding whatever they hold -> `indices` int64 `[N,T]` (0 is the CTC blank) and
  `confidences` float32 `[N,T]`, both the best class of each time step. A draft is the same, and
  what it reads at a mean confidence below `sure_from` is to be read again by recognition.

`id`: 12 first hex digits of the sha256 of the canonical JSON (keys sorted, separators `,` and
`:`, not ASCII-escaped, UTF-8) of the object with exactly the keys `kind name source dtype opset
input preprocessing embedding_dim files`, where `files` lacks `golden.npz`. Two machines that
export the same source get the same id.

`golden.npz`: arrays named `<graph>.<case>.<tensor>`, e.g. `model.0.pixels` and
`model.0.embedding`; `<graph>` is the file's name without `.onnx`. For each case the graph, fed
the tensors that are its inputs, must give the tensors that are its outputs: float values within
`tolerance` (largest absolute difference), integers different in at most that share of places.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pagesight_export.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
KINDS = ("encoder", "ocr")
IDENTITY = (
    "kind",
    "name",
    "source",
    "dtype",
    "opset",
    "input",
    "preprocessing",
    "embedding_dim",
    "files",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest of a bundle; the module's docstring explains each field."""

    kind: str
    name: str
    source: Mapping[str, Any]
    dtype: str
    opset: int
    input: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    embedding_dim: int | None
    files: Mapping[str, str]
    tolerance: Mapping[str, float]
    versions: Mapping[str, str]
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values that a reader would refuse later."""
        if self.kind not in KINDS:
            raise BundleError(f"a bundle's kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not self.name or set(self.name) & set("@/ "):
            raise BundleError(f"a bundle's name has no '@', '/' or space: {self.name!r}")
        if (self.kind == "encoder") != (self.embedding_dim is not None):
            raise BundleError("an encoder has an embedding_dim, an ocr bundle has none")

    @property
    def id(self) -> str:
        """Return `<name>@<12 hex digits>`: the same wherever the same source was exported."""
        files = {name: digest for name, digest in self.files.items() if name != GOLDEN}
        identity = {key: getattr(self, key) for key in IDENTITY} | {"files": files}
        return f"{self.name}@{hashlib.sha256(canonical(identity)).hexdigest()[:12]}"

    def to_json(self) -> dict[str, Any]:
        """Return the object that `manifest.json` holds."""
        return {
            "format": FORMAT,
            "id": self.id,
            **{key: getattr(self, key) for key in IDENTITY},
            "golden": {"file": GOLDEN, "tolerance": dict(self.tolerance)},
            "versions": dict(self.versions),
            **({"report": dict(self.report)} if self.report else {}),
        }


def canonical(value: object) -> bytes:
    """Return canonical JSON in UTF-8, the form that is hashed."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle; the files it names are not looked at.

    Raises:
        BundleError: there is none, it is not format 1, or its id is not that of its content.
    """
    path = folder / MANIFEST
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read ({error}): export the bundle again") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BundleError(f"{path} is not of format {FORMAT}: export the bundle again")
    try:
        tolerance = {name: float(limit) for name, limit in raw["golden"]["tolerance"].items()}
        manifest = Manifest(
            **{key: raw[key] for key in IDENTITY},
            tolerance=tolerance,
            versions=raw.get("versions", {}),
            report=raw.get("report", {}),
        )
        made_id = manifest.id
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path} lacks or garbles {error}: export the bundle again") from error
    if not all(math.isfinite(limit) and limit >= 0 for limit in tolerance.values()):
        raise BundleError(f"{path}: a golden tolerance is a number from 0 up")
    if raw.get("id") != made_id:
        raise BundleError(
            f"{path} calls itself {raw.get('id')} but its content is {made_id}:"
            " it was changed after the export; export the bundle again"
        )
    return manifest


def sha256(path: Path) -> str:
    """Hash a file without reading it whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
