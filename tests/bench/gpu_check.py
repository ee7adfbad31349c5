"""`make gpu-check`: whether pagesight does on a GPU what it promises, in one run.

    what is missing? ──yes──> said, exit 2
      └─no──> golden pairs, nodes on the GPU -> encoder against torch -> index against the CPU's
                -> whole path, 40 lines -> Poisson arrivals -> table, bench/gpu.json, exit 0 or 1

A stage that breaks is a finding that was not met; the others run, and what is found is written
after each. `--device cpu --small` goes the same way with small models and no limits, so that the
way is known to work; the figures of a GPU come from a GPU alone. It has not run on one yet.
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
    """Checks, prints, writes."""
    asked = _parser().parse_args()
    encoder, ocr = asked.bundles / "encoder", asked.bundles / "ocr"
    lacks = verdict.missing(asked.device, encoder, ocr, small=asked.small)
    if lacks:
        print("gpu-check cannot start; it needs:", *(f"  {what}" for what in lacks), sep="\n",
              file=sys.stderr)  # fmt: skip
        return verdict.CANNOT_START
    stages: dict[str, Callable[[], list[Finding]]] = {
        "bundles": lambda: [*gpu_models.golden(asked), *gpu_models.providers(asked)],
        "encoder": lambda: gpu_models.throughput(encoder, asked),
        "index": lambda: gpu_path.index(asked.device, small=asked.small),
        "whole path": lambda: asyncio.run(gpu_path.whole_path(asked)),
    }
    findings: list[Finding] = []
    broken = False
    conditions = _conditions(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, stage in stages.items():
        try:
            found = stage()
        except Exception as error:
            traceback.print_exc()
            broken = True
            note = f"{type(error).__name__}: {error}"
            found = [Finding(what=f"{name}: ran to its end", found=0, limit=1, note=note)]
        findings += verdict.without_limits(found) if asked.small else found
        body = json.dumps(verdict.rows(findings, conditions), indent=2)
        (asked.out / "gpu.json").write_text(body, "utf-8")
        print(f"{name}: done", file=sys.stderr, flush=True)
    _show(findings, conditions)
    if asked.small:
        return verdict.MISSED if broken else verdict.MET
    return verdict.exit_code(findings)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="few runs, no limits")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR",
                        help="holds encoder/, FP16 of 256 patches, and ocr/")  # fmt: skip
    parser.add_argument("--checkpoint", type=Path, metavar="DIR",
                        help="torch's weights; none: so400m, random")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ocr-threads", type=int, nargs="+", default=[1, 4, 8],
                        help="tried for the whole path, as each prepares pictures too")  # fmt: skip
    return parser


def _conditions(asked: argparse.Namespace) -> dict[str, Any]:
    from tests.bench.measure import machine

    gpu = "none"
    if asked.device == "cuda" and not asked.small:
        import torch

        gpu = f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    import onnxruntime

    return machine() | {
        "device": asked.device,
        "gpu": gpu,
        "onnxruntime": onnxruntime.__version__,
        "small": asked.small,
        "bundles": str(asked.bundles),
        "variables": {k: v for k, v in os.environ.items() if k.startswith("PAGESIGHT_")},
    }


def _show(findings: Sequence[Finding], conditions: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"gpu-check on {conditions['device']}", title_justify="left")
    for column in ("what", "found", "asked for", "met", "note"):
        table.add_column(column)
    for finding in findings:
        table.add_row(*verdict.columns(finding))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    if conditions["small"]:
        console.print("A small run: the way works. No limit was asked of it.")


if __name__ == "__main__":
    sys.exit(main())
