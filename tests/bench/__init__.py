"""Benchmarks, each a command: `make bench`, `make bench-ocr` and so on.

The server's package is imported before numpy, as in a server, because it limits the threads of the
BLAS library; the CPU time of idle threads that spin would count towards every measurement.
"""

import contextlib

# `gpu_check` says what is missing where nothing is installed.
with contextlib.suppress(ImportError):
    import pagesight_server  # noqa: F401
