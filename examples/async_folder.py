"""An asynchronous pipeline: every picture below a folder, sorted into one list per label.

    python examples/async_folder.py FOLDER

Sixteen pictures are under way at any time; a broken one is told and stops nothing.
"""

import asyncio
import os
import sys
from collections import defaultdict
from pathlib import Path

from pagesight import AsyncClient


async def sort_pictures(pictures: list[Path], address: str) -> dict[str, list[Path]]:
    """Returns the pictures by the label of the page that they show."""
    pages: defaultdict[str, list[Path]] = defaultdict(list)
    async with AsyncClient(address) as client:
        keyed = ((path, path) for path in pictures)
        async for result in client.classify_stream(keyed, max_in_flight=16, priority="low"):
            if result.error is not None:
                print(f"{result.key}: {result.error.message}", file=sys.stderr)
            else:
                pages[result.unwrap().label].append(result.key)
    return dict(pages)


def main() -> None:
    """Prints how many pictures of the folder show which page."""
    address = os.environ.get("PAGESIGHT_ADDRESS", "127.0.0.1:50051")
    found = sorted(p for p in Path(sys.argv[1]).rglob("*") if p.suffix in {".jpg", ".png"})
    pages = asyncio.run(sort_pictures(found, address))
    for label, pictures in sorted(pages.items()):
        print(f"{len(pictures):6} {label}")


if __name__ == "__main__":
    main()
