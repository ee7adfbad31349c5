"""What `make gpu-check` demands, what is missing to begin, and how the findings are shown.

No device and nothing heavy in here, so all of it is tested anywhere.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

MET, MISSED, CANNOT_START = 0, 1, 2
"""Exit codes."""

PATCHES = 256
EXPORT = (
    "make export ARGS='encoder --model google/siglip2-so400m-patch16-naflex --dtype fp16 "
    "--max-num-patches 256 --out {folder}'; without a model hub, random weights of that shape: "
    "make bench-export ARGS='--keep DIR', then ln -s DIR/fp16 {folder}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was measured, and what was asked of it."""

    what: str
    found: float
    unit: str = ""
    limit: float | None = None
    """None: only told."""
    side: Literal["at least", "at most"] = "at least"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the limit holds; NaN never does. None without one."""
        if self.limit is None:
            return None
        return self.found >= self.limit if self.side == "at least" else self.found <= self.limit


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when something was demanded and everything demanded holds."""
    verdicts = [finding.met for finding in findings if finding.met is not None]
    return MET if verdicts and all(verdicts) else MISSED


def rows(findings: Sequence[Finding], conditions: dict[str, Any]) -> list[dict[str, Any]]:
    """What `bench/gpu.json` holds."""
    return [
        asdict(finding) | {"met": finding.met, "conditions": conditions} for finding in findings
    ]


def columns(finding: Finding) -> tuple[str, ...]:
    """A line of the table: what, found, asked for, met, note."""
    asked = "" if finding.limit is None else f"{finding.side} {finding.limit:g} {finding.unit}"
    met = {None: "", True: "yes", False: "NO"}[finding.met]
    return (finding.what, f"{finding.found:.4g} {finding.unit}", asked, met, finding.note)


def without_limits(findings: Sequence[Finding]) -> list[Finding]:
    """The same, only told: a small run on a CPU proves the way and not the speed."""
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
    """Of which type its weights are, and how many patches it takes."""
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
    """What must be there first, each with how to get it; empty when the check can begin.

    Args:
        device: cpu or cuda.
        encoder: Folder of the encoder bundle.
        ocr: Folder of the OCR bundle.
        small: Whether any encoder will do, with nothing to compare it with.
        installed: Whether a module can be imported.
        works: Whether onnxruntime, torch and faiss have a GPU; asked of installed modules only.
    """
    lacks = [
        f"the Python module {module}: pip install --require-hashes -r requirements/"
        f"{'gpu' if device == 'cuda' else 'dev'}.txt"
        for module in ("onnxruntime", "faiss", "cv2", "rapidocr")
        if not installed(module)
    ]
    if not installed("pagesight_server"):
        lacks.append("the Python module pagesight_server: pip install --no-deps -e .")
    if not small:
        lacks += [
            f"the Python module {module}, to compare with: pip install torch transformers==4.57.6, "
            "torch of the CUDA release of the extra, 12 for `gpu` and 13 for `gpu-cu13`"
            for module in ("torch", "transformers")
            if not installed(module)
        ]
    if device == "cuda":
        probes = {"onnxruntime": _cuda_provider, "torch": _torch_cuda, "faiss": _faiss_gpu}
        ask = works or (lambda module: probes[module]())
        for module, what in (
            ("onnxruntime", "onnxruntime has no CUDAExecutionProvider: uninstall `onnxruntime`, "
             "which shadows it, and install onnxruntime-gpu (requirements/gpu.txt)"),
            ("torch", "torch sees no CUDA device: check `nvidia-smi`, and that torch is not the "
             "CPU build"),
            ("faiss", "faiss sees no GPU: install faiss-gpu instead of faiss-cpu "
             "(requirements/gpu.txt)"),
        ):  # fmt: skip
            needed = module != "torch" or not small
            if needed and installed(module) and not ask(module):
                lacks.append(what)
    if not (encoder / "manifest.json").is_file():
        lacks.append(f"an encoder bundle in {encoder}: {EXPORT.format(folder=encoder)}")
    elif not small and (found := _encoder(encoder)) != ("float16", PATCHES):
        lacks.append(
            f"another encoder bundle in {encoder}, this one is {found[0]} of {found[1]} patches; "
            f"FP16 of {PATCHES} is what is compared: {EXPORT.format(folder=encoder)}"
        )
    if not (ocr / "manifest.json").is_file():
        lacks.append(f"an OCR bundle in {ocr}: pagesight-export ocr --out {ocr}")
    return lacks
