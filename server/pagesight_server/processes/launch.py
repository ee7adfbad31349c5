"""From the command `serve` to the supervisor, which takes its place.

settings ──memfd──> exec python -m pagesight_server.processes ──> workers: this command, --worker

The supervisor is another program in the same process: what `serve` has imported, models' runtimes
and all, would stay in memory beside those of the workers. Workers are started by the same command
line, and take the settings from the supervisor: a file that is changed meanwhile makes no two kinds
of them, and nothing of the settings is to be seen in the list of processes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import NoReturn

from pagesight_server.common.errors import SetupError
from pagesight_server.config import Config


def launch(config: Config, *, as_json: bool) -> NoReturn:
    """Replaces this program by the supervisor of several processes.

    Args:
        config: The settings.
        as_json: Whether the line that says where the server listens is JSON.

    Raises:
        SetupError: this system cannot spread connections over processes.
    """
    if sys.platform != "linux":
        raise SetupError("server.processes needs Linux: write 1, and run one server")
    plan = {
        "command": [sys.executable, *sys.orig_argv[1:]],
        "processes": config.processes,
        "config": config.model_dump(mode="json"),
        "as_json": as_json,
    }
    descriptor = os.memfd_create("pagesight-plan", 0)  # inherited, unlike by default
    os.write(descriptor, json.dumps(plan).encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    sys.stdout.flush()
    sys.stderr.flush()
    as_module = getattr(sys.modules["__main__"], "__spec__", None) is not None
    flags = [f"-W{option}" for option in sys.warnoptions]
    if not as_module:
        flags.append("-P")  # A folder that the server is started in holds no code for it.
    name = "pagesight_server.processes"
    os.execv(sys.executable, [sys.executable, *flags, "-m", name, str(descriptor)])
