"""Findings of `make gpu-check`, their targets, and the prerequisites of the check.

Nothing here needs a device or imports a heavy module, so that it is tested anywhere.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

MET, MISSED, CANNOT_START = 0, 1, 2
"""Exit codes of the check."""

PATCHES = 256
"""Patches of a picture for which the targets hold."""
EXPORT = (
    "make export ARGS='encoder --model google/siglip2-so400m-patch16-naflex --dtype fp16 "
    "--max-num-patches 256 --out {folder}'; without a model hub, random weights of that shape: "
    "make bench-export ARGS='--keep DIR', then ln -s DIR/fp16 {folder}"
)
"""How to export an encoder bundle into a folder."""


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


def exit_code(findings: Sequence[Finding]) -> int:
    """MET when there are targets and all are met, else MISSED."""
    verdicts = [finding.met for finding in findings if finding.met is not None]
    return MET if verdicts and all(verdicts) else MISSED


def rows(findings: Sequence[Finding], conditions: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `bench/gpu.json`."""
    return [
        asdict(finding) | {"met": finding.met, "conditions": conditions} for finding in findings
    ]


def columns(finding: Finding) -> tuple[str, ...]:
    """A line of the table: quantity, measured value, target, whether it is met, note."""
    target = "" if finding.limit is None else f"{finding.side} {finding.limit:g} {finding.unit}"
    met = {None: "", True: "yes", False: "NO"}[finding.met]
    return (finding.what, f"{finding.found:.4g} {finding.unit}", target, met, finding.note)


def without_limits(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without targets: a small run on a CPU tests the check, not the speed."""
    values = [asdict(finding) for finding in findings]
    return [Finding(**value | {"limit": None}) for value in values]


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _cuda_provider() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _torch_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _faiss_gpu() -> bool:
    import faiss

    return bool(getattr(faiss, "get_num_gpus", lambda: 0)())


def _encoder(folder: Path) -> tuple[str, int | None]:
    """The dtype of an encoder bundle, and its number of patches; None where it has no patches."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    return manifest["dtype"], manifest["input"].get("max_num_patches")


def missing(
    device: str,
    encoder: Path,
    ocr: Path,
    *,
    small: bool = False,
    installed: Callable[[str], bool] = _installed,
    works: Callable[[str], bool] | None = None,
) -> list[str]:
    """Returns the missing prerequisites, each with how to get it; empty when the check can run.

    Args:
        device: Device, `cpu` or `cuda`.
        encoder: Folder of the encoder bundle.
        ocr: Folder of the OCR bundle.
        small: Whether this is a small run, which takes any encoder and needs no torch.
        installed: Returns whether a module can be imported.
        works: Returns whether an installed module, onnxruntime, torch or faiss, can use the GPU.
    """
    absent = [
        f"the Python module {module}: pip install --require-hashes -r requirements/"
        f"{'gpu' if device == 'cuda' else 'dev'}.txt"
        for module in ("onnxruntime", "faiss", "cv2", "rapidocr")
        if not installed(module)
    ]
    if not installed("pagesight_server"):
        absent.append("the Python module pagesight_server: pip install --no-deps -e .")
    if not small:
        absent += [
            f"the Python module {module}, to compare with: pip install torch transformers==4.57.6, "
            "torch of the CUDA release of the extra, 12 for `gpu` and 13 for `gpu-cu13`"
            for module in ("torch", "transformers")
            if not installed(module)
        ]
    if device == "cuda":
        probes = {"onnxruntime": _cuda_provider, "torch": _torch_cuda, "faiss": _faiss_gpu}
        has_gpu = works or (lambda module: probes[module]())
        for module, what in (
            ("onnxruntime", "onnxruntime has no CUDAExecutionProvider: uninstall `onnxruntime`, "
             "which shadows it, and install onnxruntime-gpu (requirements/gpu.txt)"),
            ("torch", "torch sees no CUDA device: check `nvidia-smi`, and that torch is not the "
             "CPU build"),
            ("faiss", "faiss sees no GPU: install faiss-gpu instead of faiss-cpu "
             "(requirements/gpu.txt)"),
        ):  # fmt: skip
            needed = module != "torch" or not small
            if needed and installed(module) and not has_gpu(module):
                absent.append(what)
    if not (encoder / "manifest.json").is_file():
        absent.append(f"an encoder bundle in {encoder}: {EXPORT.format(folder=encoder)}")
    elif not small and (kind := _encoder(encoder)) != ("float16", PATCHES):
        absent.append(
            f"another encoder bundle in {encoder}: this one is {kind[0]} with "
            f"{f'{kind[1]} patches' if kind[1] else 'a fixed input size'}; "
            f"the targets are for FP16 with {PATCHES} patches: {EXPORT.format(folder=encoder)}"
        )
    if not (ocr / "manifest.json").is_file():
        absent.append(f"an OCR bundle in {ocr}: pagesight-export ocr --out {ocr}")
    return absent
