"""`make gpu-check`: checks correctness and speed on a GPU against their targets, in one run.

    prerequisites missing? ──yes──> printed, exit 2
      └─no──> golden pairs, nodes on the GPU -> encoder against torch -> index against the CPU's
                -> whole path, 40 lines -> Poisson arrivals -> table, bench/gpu.json, exit 0 or 1

A stage that fails is a finding that was not met; the others run, and the findings are written after
each stage. `--device cpu --small` runs the same code with small models and without targets, as a
test of the check itself; only a GPU gives figures for a GPU. It has not run on one yet.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import gpu_models, gpu_path
from tests.bench import gpu_verdict as verdict
from tests.bench.gpu_verdict import Finding


def main() -> int:
    """Runs all stages, prints the findings and writes bench/gpu.json."""
    options = _parser().parse_args()
    encoder, ocr = options.bundles / "encoder", options.bundles / "ocr"
    missing = verdict.missing(options.device, encoder, ocr, small=options.small)
    if missing:
        print("gpu-check cannot start; it needs:", *(f"  {item}" for item in missing), sep="\n",
              file=sys.stderr)  # fmt: skip
        return verdict.CANNOT_START
    stages: dict[str, Callable[[], list[Finding]]] = {
        "bundles": lambda: [*gpu_models.golden(options), *gpu_models.providers(options)],
        "encoder": lambda: gpu_models.throughput(encoder, options),
        "index": lambda: gpu_path.index(options.device, small=options.small),
        "whole path": lambda: asyncio.run(gpu_path.whole_path(options)),
    }
    findings: list[Finding] = []
    broken = False
    conditions = _conditions(options)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, stage in stages.items():
        try:
            of_stage = stage()
        except Exception as error:
            traceback.print_exc()
            broken = True
            note = f"{type(error).__name__}: {error}"
            of_stage = [Finding(what=f"{name}: completed", found=0, limit=1, note=note)]
        findings += verdict.without_limits(of_stage) if options.small else of_stage
        body = json.dumps(verdict.rows(findings, conditions), indent=2)
        (options.out / "gpu.json").write_text(body, "utf-8")
        print(f"{name}: done", file=sys.stderr, flush=True)
    _show(findings, conditions)
    if options.small:
        return verdict.MISSED if broken else verdict.MET
    return verdict.exit_code(findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="few runs, no targets")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR",
                        help="holds encoder/, FP16 of 256 patches, and ocr/")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="DIR",
                        help="weights for torch; if not given, random ones of so400m")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ocr-threads", type=int, nargs="+", default=[1, 4, 8],
                        help="thread counts to try for the whole path")  # fmt: skip
    return parser


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    from tests.bench.measure import machine

    gpu = "none"
    if options.device == "cuda" and not options.small:
        import torch

        gpu = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    import onnxruntime

    return machine() | {
        "device": options.device,
        "gpu": gpu,
        "onnxruntime": onnxruntime.__version__,
        "small": options.small,
        "bundles": str(options.bundles),
        "variables": {k: v for k, v in os.environ.items() if k.startswith("PAGESIGHT_")},
    }


def _show(findings: Sequence[Finding], conditions: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"gpu-check on {conditions['device']}", title_justify="left")
    for column in ("what", "measured", "target", "met", "note"):
        table.add_column(column)
    for finding in findings:
        table.add_row(*verdict.columns(finding))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if conditions["small"]:
        console.print("A small run: the check works. No target was applied.")


if __name__ == "__main__":
    sys.exit(main())
