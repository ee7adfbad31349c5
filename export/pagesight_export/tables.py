"""The output of the commands: one table for each result, and the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from pagesight_export.parity import LIMITS, SPREAD_MEDIAN_COSINE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pagesight_export.bundle import Manifest
    from pagesight_export.reference import ReferenceCheck
    from pagesight_export.verify import Report


def exported(manifest: Manifest) -> Table:
    """Return a table of an export's cost and of the bundle's parity with its source."""
    report, parity = manifest.report, manifest.report["parity"]
    limits = LIMITS[manifest.dtype]
    table = Table(title=f"{manifest.id}, {manifest.dtype}, {parity['pictures']} pictures")
    table.add_column("measured")
    table.add_column("value", justify="right")
    table.add_column("allowed", justify="right")
    share = "" if limits.error_share is None else f"≤ {limits.error_share}"
    spread = f"≤ {SPREAD_MEDIAN_COSINE}" if parity["spread"] else "too alike: cosines say little"
    for name, value, allowed in (
        ("size", f"{report['bytes'] / 2**20:.1f} MiB", ""),
        ("export time", f"{report['export_seconds']:.1f} s", ""),
        ("peak memory", f"{report['peak_memory_bytes'] / 2**20:.0f} MiB", ""),
        ("median cosine of two pictures", f"{parity['median_cosine_of_pairs']:.3f}", spread),
        ("cosine with the source, least", f"{parity['cosine_min']:.6f}", f"≥ {limits.cosine_min}"),
        ("cosine with the source, mean", f"{parity['cosine_mean']:.6f}", ""),
        ("largest difference of a value", f"{parity['max_abs_difference']:.2g}", ""),
        (
            "largest error / median distance",
            f"{parity['max_error_over_median_distance']:.2g}",
            share,
        ),
        ("same nearest picture as the source", f"{parity['top1_agreement']:.1%}", ""),
    ):
        table.add_row(name, value, allowed)
    return table


def verified(report: Report, pairs: Sequence[ReferenceCheck]) -> Table:
    """Return a table of the checks of `verify`."""
    table = Table(title=report.manifest.id)
    table.add_column("checked")
    table.add_column("found")
    table.add_column("allowed", justify="right")
    table.add_column("verdict")
    for file in report.files:
        table.add_row(file.name, "sha256", "", file.state)
    for check in report.golden:
        table.add_row(
            f"{check.graph} case {check.case}: {check.output}",
            f"off by {check.difference:.2g}",
            f"{check.tolerance:.2g}",
            "ok" if check.ok else "wrong",
        )
    for pair in pairs:
        verdict = "ok" if pair.ok else "wrong"
        table.add_row(pair.name, f"cosine {pair.cosine:.6f}", f"≥ {pair.needed}", verdict)
    return table


def verified_json(report: Report, pairs: Sequence[ReferenceCheck]) -> dict[str, Any]:
    """Return the checks of `verify` as one JSON object."""
    return {
        "id": report.manifest.id,
        "kind": report.manifest.kind,
        "ok": report.ok and all(pair.ok for pair in pairs),
        "files": [{"name": file.name, "state": file.state} for file in report.files],
        "golden": [
            {
                "graph": check.graph,
                "case": check.case,
                "output": check.output,
                "difference": check.difference,
                "tolerance": check.tolerance,
                "ok": check.ok,
            }
            for check in report.golden
        ],
        "reference": [
            {"name": pair.name, "cosine": pair.cosine, "needed": pair.needed, "ok": pair.ok}
            for pair in pairs
        ],
    }
