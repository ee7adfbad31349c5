"""How many threads a product of matrices takes, asked of the library that computes it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("threadpoolctl", reason="asks OpenBLAS; comes with the extra `compare`")

ASK = """
import pagesight_server.recognition.evidence
from threadpoolctl import threadpool_info
print({pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]})
"""


@pytest.mark.parametrize(
    ("asked", "threads"),
    [
        pytest.param(None, "{1}", id="one unless asked otherwise"),
        pytest.param("2", "{2}", id="as many as the operator says"),
    ],
)
@pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two cores to tell the difference"
)
def test_a_query_multiplies_its_matrices_in_one_thread(asked: str | None, threads: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    if asked is not None:
        environment["OPENBLAS_NUM_THREADS"] = asked
    told = subprocess.run(
        [sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=60
    )
    assert told.stdout.strip() == threads, told.stderr
