"""The pages for whoever runs a server: docs/operations.md is their index."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    """The text of one page."""
    return (DOCS / name).read_text("utf-8")


def pages() -> list[str]:
    """The names of the pages that the index lists, one line each."""
    return re.findall(r"^\| \[(\S+\.md)\]\(\1\) \|", page("operations.md"), re.MULTILINE)


def manual() -> str:
    """The index and all of its pages."""
    return "\n".join(map(page, ["operations.md", *pages()]))
