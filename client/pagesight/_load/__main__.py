"""One generating process: commands come as lines of JSON, and what was counted goes back.

{access, plan, part} ──> {ready} ──{run, start_s}──> {progress} ... {tally} ──> the next run
{stop} ends a run early; the end of input ends us
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


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    first = json.loads(await commands.readline())
    number, of = first["part"]
    try:
        generator = Generator(
            Access(**first["access"]), Plan.from_plain(first["plan"]), Part(number=number, of=of)
        )
    except Exception as error:
        _say(failed=str(error))
        return
    _say(ready=True)
    coming = asyncio.create_task(commands.readline())
    try:
        while line := await coming:
            command = json.loads(line)
            coming = asyncio.create_task(commands.readline())
            if "run" not in command:
                continue  # a stop that came after the end
            stop = asyncio.Event()
            running = asyncio.create_task(
                generator.run(
                    Plan.from_plain(command["run"]),
                    start_s=command["start_s"],
                    stop=stop,
                    progress=lambda *counts: _say(progress=counts),
                )
            )
            await asyncio.wait({running, coming}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                if not await coming:  # nobody listens any more
                    running.cancel()
                    return
                stop.set()
                coming = asyncio.create_task(commands.readline())
            _say(tally=to_plain(await running))
    finally:
        coming.cancel()
        await generator.close()


if __name__ == "__main__":
    # The commander hears what ends it, and says what to do; when it is gone, our input ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    asyncio.run(_serve())
