"""Exports a full-size SigLIP 2 tower in every dtype and measures it: `make bench-export`.

    random weights, so400m's own configuration -> checkpoint folder (1.7 GB)
      -> fp32, fp16, int8 -> parity, size, time, memory
                          -> latency of all, in turns   -> bench/export.json and a table

Interleaved runs are slowed down alike by other work, so ratios of latencies hold on a busy machine.
With `--keep DIR` the bundles stay there, and the next run measures only their latency.

The weights are random, so this measures what the export does to the architecture, not to a trained
model. They are scaled up until the embeddings of the parity pictures spread, as in the checkpoint
tests; the INT8 error of trained weights can only be measured on an export of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

from pagesight_export import checkpoints, encoders, feeds, parity, pictures
from pagesight_export.bundle import read_manifest
from pagesight_export.encoders import Reference
from pagesight_export.errors import ParityError
from pagesight_export.folder import need_space, scratch, write
from pagesight_export.runtime import Graph

SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_patches": 256,
    "patch_size": 16,
}
"""The vision configuration of google/siglip2-so400m-patch16-naflex."""
DISK_BYTES = 8 * 2**30
"""Disk space that is needed: the checkpoint, one FP32 bundle, and the FP32 and INT8 graphs of the
last."""
ROWS = "rows.json"
"""File of the export's measurements beside kept bundles."""
PHONE = 0
"""Number of the parity picture, 1080 x 2400, with which latency is measured."""


def checkpoint(folder: Path, gain: float) -> Path:
    """Save a tower with random weights; patch and position embeddings are scaled by `gain`."""
    torch.manual_seed(0)
    model = Siglip2VisionModel(Siglip2VisionConfig(**SO400M)).eval()
    with torch.no_grad():
        model.vision_model.embeddings.patch_embedding.weight.mul_(gain)
        model.vision_model.embeddings.position_embedding.weight.mul_(gain)
    model.save_pretrained(folder)
    Siglip2ImageProcessor().save_pretrained(folder)
    return folder


def spread(folder: Path, patches: int) -> float:
    """Return the median cosine of pairs of a few pictures: a quick check before the export."""
    encoder = checkpoints.siglip2(str(folder), max_num_patches=patches)
    embeddings = encoder.embed([pictures.picture(number) for number in (2, 3, 10, 11, 26, 34)])
    return parity.measure(embeddings, embeddings).median_cosine_of_pairs


def latencies(work: Path, rows: list[dict[str, Any]], runs: int) -> None:
    """Add the median latency of a run to each accepted row, without preprocessing.

    Every round runs each dtype once.
    """
    loaded = {
        row["dtype"]: (
            Graph(work / row["dtype"] / "model.onnx"),
            read_manifest(work / row["dtype"]),
        )
        for row in rows
        if row["accepted"]
    }
    for batch in (1, 4):
        say(f"latency of {batch}, {runs} rounds")
        inputs = {
            dtype: feeds.prepare(
                manifest.input, manifest.preprocessing, [pictures.picture(PHONE)] * batch
            )
            for dtype, (_, manifest) in loaded.items()
        }
        taken: dict[str, list[float]] = {dtype: [] for dtype in loaded}
        for round_ in range(-1, runs):
            for dtype, (graph, _) in loaded.items():
                started = time.perf_counter()
                graph.run(inputs[dtype])
                if round_ >= 0:  # round -1 is the warm-up
                    taken[dtype].append((time.perf_counter() - started) * 1000)
        for row in rows:
            if times := taken.get(row["dtype"]):
                row[f"latency_ms_batch_{batch}"] = round(statistics.median(times), 1)


def measured(
    dtype: str, folder: Path, patches: int, reference: Reference, work: Path
) -> dict[str, Any]:
    """Export one dtype and return its measurements; of a refused one only the parity."""
    out = work / dtype
    row: dict[str, Any] = {"dtype": dtype, "max_num_patches": patches}
    try:
        with scratch(out) as temporary:
            draft = encoders.checkpoint_encoder(
                lambda: checkpoints.siglip2(str(folder), max_num_patches=patches),
                dtype=dtype,
                scratch=temporary,
                progress=say,
                need_space=lambda size: need_space(temporary, size),
                reference=reference,
            )
            manifest = write(draft, out)
    except ParityError as error:
        say(str(error))
        return row | flat(error.report) | {"accepted": False}
    return row | flat(manifest.report) | {"accepted": True}


def flat(report: Any) -> dict[str, Any]:
    """Return a bundle's report as columns."""
    return {**{key: value for key, value in report.items() if key != "parity"}, **report["parity"]}


def say(step: str) -> None:
    """Print a step with the time to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {step}", file=sys.stderr, flush=True)


def machine() -> str:
    """Name the processor and how many of its cores this may use."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def table(rows: list[dict[str, Any]]) -> Table:
    """Return the table of all measurements, with a column for each dtype."""
    table = Table(title=f"so400m, random weights, {rows[0]['max_num_patches']} patches")
    table.add_column("measured")
    for row in rows:
        table.add_column(row["dtype"], justify="right")
    for key in dict.fromkeys(key for row in rows for key in row):
        if key not in {"dtype", "max_num_patches", "machine", "conditions"}:
            table.add_row(key, *(_text(row.get(key)) for row in rows))
    return table


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def export(work: Path, patches: int) -> list[dict[str, Any]]:
    """Export every dtype into `work`; return the measurements of each."""
    need_space(work, DISK_BYTES)
    load = os.getloadavg()[0]
    gain = 1.0
    say("making a checkpoint of 1.7 GB with random weights")
    folder = checkpoint(work / "so400m-random", gain)
    while (median := spread(folder, patches)) > parity.SPREAD_MEDIAN_COSINE:
        if gain >= 16:
            sys.exit(f"random weights do not spread: median cosine {median:.3f}")
        gain *= 2
        say(f"median cosine {median:.3f}: enlarging the weights {gain:g} times")
        folder = checkpoint(folder, gain)
    source = checkpoints.siglip2(str(folder), max_num_patches=patches)
    parameters = source.parameters
    started = time.monotonic()
    reference = encoders.refer(source, say)
    source_seconds = (time.monotonic() - started) / len(reference.embeddings)
    del source
    gc.collect()
    rows = [measured(dtype, folder, patches, reference, work) for dtype in ("fp32", "fp16", "int8")]
    shutil.rmtree(folder)
    conditions = (
        f"random weights x {gain:g}, {parameters / 1e6:.0f} million parameters, CPU,"
        f" load {load:.1f} before the export and {os.getloadavg()[0]:.1f} after,"
        f" torch {torch.__version__} takes {source_seconds:.2f} s a picture, numpy {np.__version__}"
    )
    return [row | {"machine": machine(), "conditions": conditions} for row in rows]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patches", type=int, default=256)
    parser.add_argument("--runs", type=int, default=5, help="timed rounds for each latency")
    parser.add_argument("--keep", type=Path, help="leave the bundles here, or take them from here")
    parser.add_argument("--out", type=Path, default=Path("bench/export.json"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=options.out.parent) as temporary:
        work = options.keep or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        file = work / ROWS
        if file.is_file():
            rows = json.loads(file.read_text(encoding="utf-8"))
        else:
            rows = export(work, options.patches)
            file.write_text(json.dumps(rows), encoding="utf-8")
        load = os.getloadavg()[0]
        latencies(work, rows, options.runs)
        conditions = (
            f"{rows[0]['conditions']}; latency: {options.runs} rounds in turns, medians,"
            f" load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
        )
    for row in rows:
        row["conditions"] = conditions
    options.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    Console().print(table(rows))
    print(f"{machine()}; {conditions}\n{options.out}")


if __name__ == "__main__":
    main()
