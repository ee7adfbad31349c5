"""The files of a run: `metrics.json`, `predictions.jsonl` and `report.html`.

Each is written to a temporary file and renamed, so that a reader never sees a partial file, and
a failed run leaves the files of the one before intact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pagesight_server.common.errors import SetupError
from pagesight_server.common.files import make_folder, write_text
from pagesight_server.evaluation.compare import Comparison
from pagesight_server.evaluation.html import ImageBytes
from pagesight_server.evaluation.report import report
from pagesight_server.evaluation.run import Run
from pagesight_server.evaluation.summary import comparison_markdown


def metrics_json(run: Run) -> str:
    """Writes the text of `metrics.json`."""
    figures = {
        **run.metrics.to_json(),
        "outputs": asdict(run.outputs),
        "drift": asdict(run.drift) if run.drift else None,
        "seconds_per_image": run.seconds_per_image,
        "ran_with": dict(run.ran_with),
    }
    return json.dumps(figures, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def predictions_jsonl(run: Run) -> str:
    """The text of `predictions.jsonl`, sorted by path. Scores are not rounded."""
    return "".join(
        json.dumps(p.to_row(), ensure_ascii=False, allow_nan=False) + "\n" for p in run.predictions
    )


def compare_json(comparison: Comparison) -> str:
    """Writes the text of `compare.json`."""
    return json.dumps(comparison.to_json(), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


COMPARISON = ("compare.json", "compare.md")
"""Files of a run with a comparison; beside the files of a run without, they would be of another."""


def prepare(out: Path) -> None:
    """Makes the folder that a run will be written to, and tries to write a file there.

    Raises:
        SetupError: the folder cannot be written.
    """
    with _written(out):
        make_folder(out)
        probe = out / ".metrics.json.new"
        write_text(probe, "")
        probe.unlink()


def write(
    run: Run, out: Path, image_bytes: ImageBytes, comparison: Comparison | None = None
) -> None:
    """Writes the files of a run into a folder.

    Args:
        run: The run.
        out: The folder, created when missing. Files in it that are not of a run are not touched.
        image_bytes: Returns the gallery's pictures, for the report.
        comparison: A comparison on the same images, for `compare.json`, `compare.md` and the
            report; None leaves the first two out, and removes those of an earlier run.

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
    with _written(out):
        make_folder(out)
        for name, text in texts.items():
            temporary = out / f".{name}.new"
            # A path that is not valid UTF-8 becomes an escape sequence, which is valid JSON.
            write_text(temporary, text)
            temporary.replace(out / name)
        for name in COMPARISON:
            if name not in texts:
                (out / name).unlink(missing_ok=True)


@contextmanager
def _written(out: Path) -> Iterator[None]:
    """Turns what keeps a folder from being written into advice."""
    try:
        yield
    except OSError as error:
        raise SetupError(
            f"{out} cannot be written ({error.strerror}): name another folder with --out"
        ) from None
