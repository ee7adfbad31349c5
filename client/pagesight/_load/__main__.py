"""A worker process of the load generator: JSON lines on standard input and output.

{access, plan, part} ──> {ready} ──{run, start_s}──> {progress} ... {tally} ──> the next run
{stop} ends a run early; end of input ends the process
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import Any

from pagesight._load.crew import LINE_BYTES, Generator
from pagesight._load.drive import Part
from pagesight._load.plan import Plan
from pagesight._load.tally import to_plain
from pagesight._load.wire import Access


def _write_line(**line: Any) -> None:
    print(json.dumps(line), flush=True)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    first = json.loads(await commands.readline())
    number, of = first["part"]
    try:
        generator = Generator(
            Access.from_plain(first["access"]),
            Plan.from_plain(first["plan"]),
            Part(number=number, of=of),
        )
    except Exception as error:
        _write_line(failed=str(error))
        return
    _write_line(ready=True)
    next_line = asyncio.create_task(commands.readline())
    try:
        while line := await next_line:
            command = json.loads(line)
            next_line = asyncio.create_task(commands.readline())
            if "run" not in command:
                continue  # a stop that arrived after the run had ended
            stop = asyncio.Event()
            running = asyncio.create_task(
                generator.run(
                    Plan.from_plain(command["run"]),
                    start_s=command["start_s"],
                    stop=stop,
                    progress=lambda *counts: _write_line(progress=counts),
                )
            )
            await asyncio.wait({running, next_line}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                if not await next_line:  # end of input: the parent is gone
                    running.cancel()
                    return
                stop.set()
                next_line = asyncio.create_task(commands.readline())
            _write_line(tally=to_plain(await running))
    finally:
        next_line.cancel()
        await generator.close()


if __name__ == "__main__":
    # The parent gets the signals and sends commands; when it is gone, our input ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_serve())
