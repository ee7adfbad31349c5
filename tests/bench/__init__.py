"""Benches, each a command: `make bench`, `make bench-ocr` and so on.

The server's package is loaded before numpy, as in a server: it says how many threads a product of
matrices takes, and a second one that waits for work, spinning, would be counted as everybody's.
"""

import contextlib

# `gpu_check` says what is missing where nothing is installed.
with contextlib.suppress(ImportError):
    import pagesight_server  # noqa: F401
