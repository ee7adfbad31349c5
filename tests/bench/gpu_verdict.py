"""Findings of `make gpu-check`, their targets, and the prerequisites of each of its checks.

Nothing here needs a device or imports a heavy module, so that it is tested anywhere.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

MET, MISSED, CANNOT_START = 0, 1, 2
"""Exit codes of the check."""

CHECKS = ("load", "encoder", "ocr", "index", "path")
"""The checks by name, in the order in which they run; each runs alone too."""

PATCHES = 256
"""Patches of a picture for which the targets hold."""
EXPORT = (
    "make export ARGS='encoder --model google/siglip2-so400m-patch16-naflex --dtype fp16 "
    "--max-num-patches 256 --out {folder}'; without a model hub, random weights of that shape: "
    "make bench-export ARGS='--keep DIR', then ln -s DIR/fp16 {folder}"
)
"""How to export an encoder bundle into a folder."""

_MODULES = {
    "load": ("numpy", "onnxruntime"),
    "encoder": ("numpy", "onnxruntime"),
    "ocr": ("numpy", "onnxruntime", "cv2", "rapidocr"),
    "index": ("numpy", "faiss"),
    "path": ("numpy", "onnxruntime", "faiss", "cv2", "rapidocr", "grpc"),
}
"""Python modules that each check imports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A measured value and its target."""

    what: str
    """The quantity."""
    found: float
    """The measured value."""
    unit: str = ""
    limit: float | None = None
    """The target; None: none, the value is only reported."""
    side: Literal["at least", "at most"] = "at least"
    """Whether the target is a lower or an upper limit."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met, which NaN never is; None without a target."""
        if self.limit is None:
            return None
        return self.found >= self.limit if self.side == "at least" else self.found <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one check found."""

    name: str
    seconds: float
    findings: tuple[Finding, ...]
    broken: bool = False
    """Whether it ended with an error instead of a result."""

    @property
    def exit_code(self) -> int:
        """MET when there are targets and all are met, else MISSED."""
        verdicts = [finding.met for finding in self.findings if finding.met is not None]
        return MET if verdicts and all(verdicts) and not self.broken else MISSED

    def without_limits(self) -> Check:
        """The check without targets: a small run on a CPU tests the code, not the speed."""
        return replace(
            self, findings=tuple(replace(finding, limit=None) for finding in self.findings)
        )

    def verdict(self) -> str:
        """One line: the check, whether its targets are met, and how long it took."""
        limits = [finding.met for finding in self.findings if finding.met is not None]
        missed = [finding.what for finding in self.findings if finding.met is False]
        if self.broken:
            result = "FAILED"
        elif missed:
            result = f"MISSED {', '.join(missed)}"
        else:
            result = f"met {len(limits)} of {len(limits)} targets" if limits else "no target"
        return f"{self.name}: {result}, {self.seconds:.0f} s"

    def rows(self, conditions: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of this check in `bench/gpu.json`."""
        return [
            {"check": self.name} | asdict(finding) | {"met": finding.met, "conditions": conditions}
            for finding in self.findings
        ]


def columns(finding: Finding) -> tuple[str, ...]:
    """A line of the table: quantity, measured value, target, whether it is met, note."""
    target = "" if finding.limit is None else f"{finding.side} {finding.limit:g} {finding.unit}"
    met = {None: "", True: "yes", False: "NO"}[finding.met]
    return (finding.what, f"{finding.found:.4g} {finding.unit}", target, met, finding.note)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of columns as text, each column as wide as its widest cell."""
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _faiss_gpu() -> bool:
    try:
        import faiss
    except RuntimeError:  # its CUDA libraries are missing
        return False
    return bool(getattr(faiss, "get_num_gpus", lambda: 0)())


def _works(module: str) -> bool:
    return {"onnxruntime": _cuda_provider, "faiss": _faiss_gpu}[module]()


def encoder_kind(folder: Path) -> tuple[str, int | None]:
    """The dtype of an encoder bundle, and its number of patches; None where it has no patches."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return manifest["dtype"], manifest["input"].get("max_num_patches")


def other_encoder(folder: Path) -> str:
    """Why an encoder bundle is not the one that the targets are for; empty where it is."""
    kind, patches = encoder_kind(folder)
    if (kind, patches) == ("float16", PATCHES):
        return ""
    return (
        f"another encoder bundle in {folder}: this one is {kind} with "
        f"{f'{patches} patches' if patches else 'a fixed input size'}; "
        f"the targets are for FP16 with {PATCHES} patches: {EXPORT.format(folder=folder)}"
    )


def missing(
    checks: Sequence[str],
    device: str,
    bundles: Path,
    *,
    nets: Path | None = None,
    small: bool = False,
    installed: Callable[[str], bool] = _installed,
    works: Callable[[str], bool] = _works,
) -> list[str]:
    """Returns the missing prerequisites, each with how to get it; empty when the checks can run.

    Args:
        checks: The checks that are to run, of `CHECKS`.
        device: Device, `cpu` or `cuda`.
        bundles: Folder of the bundles `encoder` and `ocr`.
        nets: Folder of the networks of the check `load`; None: they are made, which needs `onnx`.
        small: Whether this is a small run, which takes any encoder.
        installed: Returns whether a module can be imported.
        works: Returns whether an installed module, onnxruntime or faiss, can use the GPU.
    """
    lock = "gpu-cu13" if device == "cuda" else "dev"
    modules = dict.fromkeys(module for check in checks for module in _MODULES[check])
    absent = [
        f"the Python module {module}: pip install --require-hashes -r requirements/{lock}.txt"
        for module in modules
        if not installed(module)
    ]
    if "load" in checks and nets is None and not installed("onnx"):
        absent.append(
            "the Python module onnx, to make networks with: pip install --require-hashes "
            "-r requirements/builtin.txt"
        )
    if not installed("pagesight_server"):
        absent.append("the Python module pagesight_server: pip install --no-deps -e .")
    if device == "cuda":
        for module, what in (
            ("onnxruntime", "onnxruntime has no CUDAExecutionProvider: uninstall `onnxruntime`, "
             "which shadows it, and install onnxruntime-gpu (requirements/gpu-cu13.txt)"),
            ("faiss", "faiss sees no GPU: install faiss-gpu instead of faiss-cpu "
             "(requirements/gpu-cu13.txt)"),
        ):  # fmt: skip
            if module in modules and installed(module) and not works(module):
                absent.append(what)
    encoder, ocr = bundles / "encoder", bundles / "ocr"
    if {"encoder", "path"}.intersection(checks):
        if not (encoder / "manifest.json").is_file():
            absent.append(f"an encoder bundle in {encoder}: {EXPORT.format(folder=encoder)}")
        elif not small and (problem := other_encoder(encoder)):
            absent.append(problem)
    if {"ocr", "path"}.intersection(checks) and not (ocr / "manifest.json").is_file():
        absent.append(f"an OCR bundle in {ocr}: pagesight-export ocr --out {ocr}")
    return absent
