"""What importing a package must not load, so that tools start at once and need little."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["supervisor", "__main__"])
def test_the_supervisor_of_several_processes_loads_no_more_than_it_needs(module: str) -> None:
    heavy = (*HEAVY, "numpy", "grpc", "pydantic")
    code = f"import sys, pagesight_server.processes.{module}\n"
    code += f"print(*(name for name in {heavy!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


HEAVY = ("faiss", "onnxruntime", "cv2", "PIL", "rapidocr")


@pytest.mark.parametrize("module", ["pagesight_server.gallery", "pagesight_server.config"])
def test_what_only_keeps_or_configures_loads_no_model_codec_or_index(module: str) -> None:
    code = f"import sys, {module}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_a_server_starts_without_what_answers_need_not() -> None:
    needless = (
        "rapidocr.ch_ppocr_det",  # It parses its list of models twice and imports an HTTP client.
        "omegaconf",
        "requests",
        "shapely",
        "jinja2",
        "pagesight_server.evaluation",
    )
    code = "import sys, pagesight_server.__main__\n"
    code += f"print(*(name for name in {needless!r} if name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
