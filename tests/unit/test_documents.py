"""Links between documents lead to a page and a heading that exist; the index lists every page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.manual import DOCS, pages

ROOT = DOCS.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
NAMING = sorted(
    path
    for folder in ("ops", "server", "client", "examples", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".yml", ".yaml", ".json", ".html", ".mjs", ".toml"}
    and "node_modules" not in path.parts
)
"""Files that may name a page of the documentation, and a heading of it behind `#`."""

OTHER_SUBJECTS = {
    "architecture.md",
    "benchmarks.md",
    "bundles.md",
    "client.md",
    "gallery-care.md",
    "load-testing.md",
    "operations.md",
    "recognition.md",
    "review.md",
}
"""Pages that are not of those for whoever runs a server."""


def headings(text: str) -> set[str]:
    """The anchors of a document, as GitHub makes them of its headings."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def assert_leads_somewhere(target: Path, anchor: str) -> None:
    assert target.exists(), f"there is no {target}"
    if anchor:
        assert anchor in headings(target.read_text("utf-8")), f"{target} has no #{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if not re.match(r"https?://|mailto:", link):
            file, _, anchor = link.partition("#")
            assert_leads_somewhere(path.parent / file if file else path, anchor)


def test_every_page_that_code_and_settings_name_is_there() -> None:
    named = {
        (page, anchor)
        for path in NAMING
        for page, anchor in re.findall(
            r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", path.read_text("utf-8", "replace")
        )
    }
    assert len(named) > 10
    for page, anchor in named:
        assert_leads_somewhere(DOCS / page, anchor)


def test_the_index_of_the_manual_lists_every_page_once() -> None:
    found = {path.name for path in DOCS.glob("*.md")} - OTHER_SUBJECTS
    assert sorted(pages()) == sorted(found)
