"""Checkpoints in, bundles out: the `pagesight-export` command.

    checkpoint -> graph surgery -> bundle folder -> (any server, no code shared)

`bundle` defines the folder, which is all that the exporter and the server have in common.
"""
