"""A server with fake models and tokens in a process of its own, whose memory can be looked at.

python -m tests.support.serving_alone FOLDER ──> prints its address; ends with its input
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support.serving import serving

TOKEN = "let-me-in"
"""May classify, and nothing else."""


async def main(folder: Path) -> None:
    """Serves until standard input ends."""
    file = folder / "tokens.toml"
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    file.write_text(f"[[token]]\nname = 'a'\nsha256 = '{digest}'\nroles = ['classify']\n", "utf-8")
    async with serving(folder, guards=[RequireRole(read_tokens(file))]) as served:
        print(served.address, flush=True)  # noqa: T201
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def process(folder: Path) -> Iterator[tuple[str, int]]:
    """Runs this module; gives its address and its process."""
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.serving_alone", str(folder)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, root])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip(), server.pid
        finally:
            server.stdin.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
