"""Checkpoints in, bundles out: the `pagesight-export` command.

    checkpoint -> graph surgery -> bundle folder -> (any server, no code shared)

`bundle` defines the folder, which is all that the exporter and the server have in common.
"""

import os

# Before ONNX Runtime is loaded: its official builds report their use to their maker and keep a
# device id in HOME unless told not to (Privacy.md in its wheel).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
