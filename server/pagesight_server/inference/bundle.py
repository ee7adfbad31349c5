"""Bundles: exported models in a folder with a manifest, verified before use.

    folder -> manifest -> hashes of every file -> Bundle -> session -> golden pairs

The format is described in docs/bundles.md and written by `pagesight-export`; the
two sides share files and no code. A bundle that was changed, is half written, or
computes something else on this machine is refused at start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pagesight_server.common.errors import SetupError

FORMAT = 1
Kind = Literal["encoder", "ocr"]
Tensors: TypeAlias = Mapping[str, NDArray[Any]]
Run: TypeAlias = Callable[[str, Tensors], Tensors]
"""Runs a graph, named by its file without `.onnx`, on its inputs."""

_MAKE = {
    "encoder": "pagesight-export encoder --builtin --out {path}",
    "ocr": "pagesight-export ocr --out {path}",
}
_IDENTITY_FIELDS = (
    "kind",
    "name",
    "source",
    "dtype",
    "opset",
    "input",
    "preprocessing",
    "embedding_dim",
)
"""Fields of the manifest that the id is a hash of: all that decides what is computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder whose manifest and files were verified."""

    path: Path
    id: str
    """`name@digits`: bundles of equal ids compute the same."""
    kind: Kind
    manifest: Mapping[str, Any]

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding; encoder bundles only."""
        return int(self.manifest["embedding_dim"])

    @property
    def half(self) -> bool:
        """Whether its graphs compute in FP16, of which GPUs have tensor cores."""
        return bool(self.manifest["dtype"] == "float16")

    def file(self, name: str) -> Path:
        """The path of a file that the manifest names, so it was verified.

        Raises:
            SetupError: the manifest does not name it.
        """
        if name not in self.manifest["files"]:
            raise SetupError(f"{self.path}/manifest.json names no file {name!r}")
        return self.path / name

    def check_golden(self, run: Run, *, unused: Collection[str] = ()) -> None:
        """Runs the golden inputs and compares with the outputs of the source framework.

        Args:
            run: Runs a graph.
            unused: Graphs that are not run here, as the settings do not need them.

        Raises:
            SetupError: this machine computes something else, or a graph has no golden pair, so
                that nothing would be checked.
        """
        golden = self.manifest["golden"]
        with np.load(self.file(golden["file"]), allow_pickle=False) as pairs:
            cases: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}
            for key in pairs.files:
                graph, case, tensor = key.split(".", 2)
                cases.setdefault((graph, case), {})[tensor] = pairs[key]
        cases = {key: tensors for key, tensors in cases.items() if key[0] not in unused}
        if not cases:
            raise SetupError(f"bundle {self.id} has no golden pairs: nothing would be checked")
        tolerances: Mapping[str, float] = golden["tolerance"]
        graphs = {
            name.removesuffix(".onnx") for name in self.manifest["files"] if name.endswith(".onnx")
        }
        checked = {key[0] for key, tensors in cases.items() if tensors.keys() & tolerances.keys()}
        if missing := graphs - checked - set(unused):
            raise SetupError(
                f"bundle {self.id} has no golden pairs of {', '.join(sorted(missing))}: "
                "nothing would be checked"
            )
        for (graph, case), tensors in cases.items():
            inputs = {name: value for name, value in tensors.items() if name not in tolerances}
            outputs = run(graph, inputs)
            for name, expected in tensors.items():
                if name in inputs:
                    continue
                error = _difference(expected, outputs[name])
                if not error <= tolerances[name]:
                    raise SetupError(
                        f"bundle {self.id} computes something else here: {graph} case {case}, "
                        f"{name} differs by {error:.2g}, at most {tolerances[name]:.2g} is allowed"
                    )


def load(path: Path, kind: Kind) -> Bundle:
    """Reads a bundle and verifies that every file is what its manifest says.

    Raises:
        SetupError: missing, of another kind or format, incomplete or changed.
    """
    make = _MAKE[kind].format(path=path)
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
    except FileNotFoundError:
        raise SetupError(f"no {kind} bundle in {path}: make it with `{make}`") from None
    except (OSError, ValueError) as error:
        raise SetupError(f"{path}/manifest.json cannot be read: {error}") from None
    try:
        if manifest["format"] != FORMAT:
            raise SetupError(
                f"{path} has bundle format {manifest['format']}, this server reads {FORMAT}: "
                f"export it again with `{make}`"
            )
        if manifest["kind"] != kind:
            raise SetupError(f"{path} is a bundle of kind {manifest['kind']!r}, not {kind!r}")
        for name, expected in manifest["files"].items():
            _check_file(path, name, expected, make)
        if manifest["id"] != _identity(manifest):
            raise SetupError(f"{path}/manifest.json was changed: export again with `{make}`")
    except KeyError as missing:
        raise SetupError(
            f"{path}/manifest.json lacks {missing}: export again with `{make}`"
        ) from None
    except (AttributeError, TypeError) as error:
        raise SetupError(
            f"{path}/manifest.json is no manifest ({error}): export again with `{make}`"
        ) from None
    return Bundle(path=path, id=manifest["id"], kind=kind, manifest=manifest)


def _check_file(path: Path, name: str, expected: str, make: str) -> None:
    """Raises SetupError unless a file is there and has the SHA-256 of the manifest."""
    if "/" in name or name.startswith("."):
        raise SetupError(f"{path}/manifest.json names a file outside its folder: {name!r}")
    try:
        with (path / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise SetupError(f"{path} lacks {name}: export again with `{make}`") from None
    except OSError as error:
        raise SetupError(f"{path}/{name} cannot be read: {error.strerror}") from None
    if digest != expected:
        raise SetupError(
            f"{path}/{name} is not the file that was exported (sha256 {digest[:12]}..., the "
            f"manifest says {expected[:12]}...): export again with `{make}`"
        )


def _identity(manifest: Mapping[str, Any]) -> str:
    """The id that a manifest must have; golden pairs do not count, as they compute nothing."""
    body = {key: manifest[key] for key in _IDENTITY_FIELDS}
    golden = manifest["golden"]["file"]
    body["files"] = {name: sha for name, sha in manifest["files"].items() if name != golden}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{manifest['name']}@{digest[:12]}"


def _difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Largest absolute difference of floats; share of elements that differ of integers."""
    if expected.shape != got.shape:
        return float("inf")
    if np.issubdtype(expected.dtype, np.integer):
        return float(np.mean(expected != got))
    return float(np.max(np.abs(expected.astype(np.float64) - got.astype(np.float64))))
