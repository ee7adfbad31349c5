"""What a run leaves behind: `metrics.json`, `predictions.jsonl` and `report.html`.

Each file is written beside its place and renamed, so a reader never meets half of
one, and a run that fails leaves the last one's files whole.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.evaluation.compare import Comparison
from pagesight_server.evaluation.html import ImageBytes
from pagesight_server.evaluation.report import report
from pagesight_server.evaluation.run import Run
from pagesight_server.evaluation.summary import comparison_markdown


def metrics_json(run: Run) -> str:
    """The text of `metrics.json`."""
    figures = {
        **run.metrics.to_json(),
        "outputs": asdict(run.outputs),
        "drift": asdict(run.drift) if run.drift else None,
        "seconds_per_image": run.seconds_per_image,
        "ran_with": dict(run.ran_with),
    }
    return json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def predictions_jsonl(run: Run) -> str:
    """The text of `predictions.jsonl`, by path. Scores are written in full."""
    return "".join(
        json.dumps(p.to_row(), ensure_ascii=False, allow_nan=False) + "\n" for p in run.predictions
    )


def compare_json(comparison: Comparison) -> str:
    """The text of `compare.json`."""
    return json.dumps(comparison.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def write(
    run: Run, out: Path, image_bytes: ImageBytes, comparison: Comparison | None = None
) -> None:
    """Writes the files of a run into a folder, made if missing.

    Args:
        run: What to write.
        out: The folder. Other files in it are left alone.
        image_bytes: Gives the gallery's pictures for the report.
        comparison: Of the same images, for `compare.json`, `compare.md` and the report.

    Raises:
        SetupError: the folder cannot be written.
    """
    texts = {
        "metrics.json": metrics_json(run),
        "predictions.jsonl": predictions_jsonl(run),
        "report.html": report(run, image_bytes, comparison),
    }
    if comparison is not None:
        texts["compare.json"] = compare_json(comparison)
        texts["compare.md"] = comparison_markdown(comparison)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            beside = out / f".{name}.new"
            # A file name that is no UTF-8 becomes an escape, which JSON has a meaning for.
            beside.write_text(text, encoding="utf-8", errors="backslashreplace")
            beside.replace(out / name)
    except OSError as error:
        raise SetupError(
            f"{out} cannot be written ({error.strerror}): name another folder with --out"
        ) from None
