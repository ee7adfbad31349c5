"""`make gpu-check`: checks correctness and speed on a GPU against their targets.

    prerequisites missing? ──yes──> printed, exit 2
      └─no──> load     CUDA found, its memory; what a change of shape costs a small network
              encoder  golden pairs, nodes on the GPU, against torch where that is installed
              ocr      golden pairs, nodes on the GPU, pages of mixed sizes
              index    recall and speed against the CPU's
              path     pipeline and service, Poisson arrivals
                └──> table, a verdict for each, JSON; bench/gpu.json; exit 0 or 1

`ARGS='--only load,encoder'` runs some of them. Each takes at most two minutes and needs nothing
but what it checks. A check that fails is a finding that was not met; the others run, and findings
are written after each. `--device cpu --small` runs the same code with small models and without
targets, as a test of the check itself; only a GPU gives figures for a GPU. It has not run on one
yet.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench import gpu_verdict as verdict
from tests.bench.gpu_verdict import CHECKS, Check, Finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the checks, prints the findings and writes bench/gpu.json."""
    options = _parser().parse_args(arguments)
    if options.device == "cuda":
        # Where CUDA is not in wheels beside ONNX Runtime, torch loads its own for both.
        with contextlib.suppress(ImportError):
            import torch  # noqa: F401
    absent = verdict.missing(
        options.only, options.device, options.bundles, nets=options.nets, small=options.small
    )
    if absent:
        print("gpu-check cannot start; it needs:", *(f"  {item}" for item in absent), sep="\n",
              file=sys.stderr)  # fmt: skip
        return verdict.CANNOT_START
    options.out.mkdir(parents=True, exist_ok=True)
    checks: list[Check] = []
    for name in options.only:
        checks.append(_run(name, _stages()[name], options))
        conditions = _conditions(options)
        rows = [row for check in checks for row in check.rows(conditions)]
        (options.out / "gpu.json").write_text(json.dumps(rows, indent=2), "utf-8")
        print(checks[-1].verdict(), file=sys.stderr, flush=True)
    _show(checks, conditions)
    if options.small:
        return verdict.MISSED if any(check.broken for check in checks) else verdict.MET
    return max(check.exit_code for check in checks)


def _stages() -> dict[str, Callable[[argparse.Namespace], list[Finding]]]:
    """The checks, each of which imports what it needs when it runs."""

    def load(options: argparse.Namespace) -> list[Finding]:
        from tests.bench import gpu_load

        return gpu_load.load(options)

    def encoder(options: argparse.Namespace) -> list[Finding]:
        from tests.bench import gpu_models

        return gpu_models.encoder(options)

    def ocr(options: argparse.Namespace) -> list[Finding]:
        from tests.bench import gpu_models, gpu_path

        return [*gpu_models.ocr(options), *asyncio.run(gpu_path.reading(options))]

    def index(options: argparse.Namespace) -> list[Finding]:
        from tests.bench import gpu_index

        return gpu_index.index(options.device, small=options.small)

    def path(options: argparse.Namespace) -> list[Finding]:
        from tests.bench import gpu_path

        return asyncio.run(gpu_path.whole_path(options))

    return {"load": load, "encoder": encoder, "ocr": ocr, "index": index, "path": path}


def _run(
    name: str,
    stage: Callable[[argparse.Namespace], list[Finding]],
    options: argparse.Namespace,
) -> Check:
    start_s = time.perf_counter()
    broken = False
    try:
        findings = stage(options)
    except (Exception, SystemExit) as error:  # the latter of a service that does not start
        traceback.print_exc()
        broken = True
        note = f"{type(error).__name__}: {error}"
        findings = [Finding(what=f"{name}: completed", found=0, limit=1, note=note)]
    seconds = time.perf_counter() - start_s
    check = Check(name=name, seconds=seconds, findings=tuple(findings), broken=broken)
    return check.without_limits() if options.small else check


def _names(text: str) -> list[str]:
    """The checks of a list with commas, in the order in which they run."""
    names = text.split(",")
    unknown = sorted(set(names) - set(CHECKS))
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)} is none of {', '.join(CHECKS)}")
    return [name for name in CHECKS if name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make gpu-check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=_names, default=list(CHECKS), metavar="NAME,...",
                        help=f"which checks: {', '.join(CHECKS)}")  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="few runs, no targets")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"), metavar="DIR",
                        help="holds encoder/, FP16 of 256 patches, and ocr/")  # fmt: skip
    parser.add_argument("--nets", type=Path, metavar="DIR",
                        help="networks of `load`, as gpu_carry makes them; if not given, "
                             "they are made with onnx")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ocr-threads", type=int, nargs="+", default=[1, 2],
                        help="thread counts to try for the whole path")  # fmt: skip
    return parser


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    """The machine, the versions, and what was asked for."""
    conditions: dict[str, Any] = {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "device": options.device,
        "small": options.small,
        "bundles": str(options.bundles),
        "variables": {k: v for k, v in os.environ.items() if k.startswith("PAGESIGHT_")},
    }
    for name in ("onnxruntime", "faiss", "torch"):
        if name in sys.modules:
            conditions[name] = str(sys.modules[name].__version__)
    torch_cuda = sys.modules["torch"].cuda if "torch" in sys.modules else None
    if torch_cuda is not None and torch_cuda.is_available():
        conditions["gpu"] = torch_cuda.get_device_name()
    return conditions


def _show(checks: Sequence[Check], conditions: dict[str, Any]) -> None:
    """Prints the table, the verdicts and, as the last line, all of it as JSON."""
    lines: list[tuple[str, ...]] = [("what", "measured", "target", "met", "note")]
    lines += [verdict.columns(finding) for check in checks for finding in check.findings]
    print(verdict.table(lines))
    if conditions["small"]:
        print("A small run: the check works. No target was applied.")
    for check in checks:
        print(check.verdict())
    found = {check.name: [(one.what, one.found, one.unit, one.met) for one in check.findings]
             for check in checks}  # fmt: skip
    print(json.dumps({"conditions": conditions, "checks": found}))


if __name__ == "__main__":
    sys.exit(main())
