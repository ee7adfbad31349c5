"""Verification of a bundle: the hashes of its files, then the golden pairs of its graphs.

    manifest -> every file's hash -> every graph's golden cases -> Report

Hashes come first: a graph that was tampered with is not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagesight_export import golden
from pagesight_export.bundle import GOLDEN, MANIFEST, Manifest, read_manifest, sha256
from pagesight_export.errors import BundleError
from pagesight_export.runtime import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCheck:
    """The state of one file of a bundle, against its hash in the manifest."""

    name: str
    state: str
    """`ok`, `missing` or `changed`."""

    @property
    def ok(self) -> bool:
        """Whether the file is as it was exported."""
        return self.state == "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The checks of one bundle, with their results."""

    folder: Path
    manifest: Manifest
    files: Sequence[FileCheck]
    golden: Sequence[golden.Check]

    @property
    def ok(self) -> bool:
        """Whether everything is as it was exported."""
        return all(file.ok for file in self.files) and all(check.ok for check in self.golden)

    def raise_if_wrong(self) -> None:
        """Raise a `BundleError` that names what is wrong, if anything is."""
        if self.ok:
            return
        wrong = [f"{file.name} is {file.state}" for file in self.files if not file.ok]
        wrong += [
            f"{check.graph} case {check.case}: {check.output} is off by {check.difference:.2g},"
            f" allowed {check.tolerance:.2g}"
            for check in self.golden
            if not check.ok
        ]
        raise BundleError(f"{self.folder}: {'; '.join(wrong)}: export the bundle again")


def verify(folder: Path) -> Report:
    """Check the hashes of a bundle and, where they hold, its golden pairs.

    Raises:
        BundleError: the manifest is absent or wrong, a graph cannot be run at all, or it has no
            golden pair, so that nothing would be checked.
    """
    manifest = read_manifest(folder)
    files = _check_files(folder, manifest)
    checks: list[golden.Check] = []
    if all(file.ok for file in files):
        pairs = golden.unpack(folder / GOLDEN)
        graphs = (name.removesuffix(".onnx") for name in manifest.files if name.endswith(".onnx"))
        for name in dict.fromkeys((*graphs, *pairs)):
            graph = Graph(folder / f"{name}.onnx")
            checks += golden.compare(name, graph, pairs.get(name, {}), manifest.tolerance)
    return Report(folder=folder, manifest=manifest, files=files, golden=checks)


def _check_files(folder: Path, manifest: Manifest) -> list[FileCheck]:
    if GOLDEN not in manifest.files:
        raise BundleError(f"{folder / MANIFEST} lists no {GOLDEN}: export the bundle again")
    checks = []
    for name, digest in manifest.files.items():
        path = folder / name
        if Path(name).name != name:
            raise BundleError(f"{folder / MANIFEST} names a file outside its folder: {name}")
        checks.append(FileCheck(name=name, state=_state(path, digest)))
    return checks


def _state(path: Path, digest: str) -> str:
    if not path.is_file():
        return "missing"
    return "ok" if sha256(path) == digest else "changed"
