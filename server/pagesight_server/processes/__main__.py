"""The program of the supervisor: `python -m pagesight_server.processes DESCRIPTOR`.

The descriptor holds the plan that `launch.py` has written.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

from pagesight_server.common.errors import PagesightError
from pagesight_server.common.logs import configure_logs
from pagesight_server.processes.supervisor import Plan, supervise


def main() -> None:
    """Runs the supervisor; an expected failure is one line on stderr and exit code 1."""
    with os.fdopen(int(sys.argv[1]), encoding="utf-8") as file:
        plan = Plan(**json.load(file))
    configure_logs(plan.config["telemetry"]["logs"], sys.stderr, lambda: None, process="supervisor")
    try:
        asyncio.run(supervise(plan))
    except PagesightError as error:
        print(f"pagesight-server: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
