"""What `serve` prints once it listens."""

from __future__ import annotations

import pytest

from pagesight_server.cli.serve import named_galleries


@pytest.mark.parametrize(
    ("revisions", "words"),
    [
        ({}, "empty"),
        ({"b": 2, "a": 7}, "a at revision 7, b at revision 2"),
        (
            dict.fromkeys("edcba", 1),
            "a at revision 1, b at revision 1, c at revision 1, d at revision 1, e at revision 1",
        ),
        (
            {f"{number:04}": number for number in range(3_000)},
            "0000 at revision 0, 0001 at revision 1, 0002 at revision 2, 0003 at revision 3, "
            "0004 at revision 4, and 2,995 more",
        ),
    ],
)
def test_a_store_is_told_in_a_few_galleries(revisions: dict[str, int], words: str) -> None:
    assert named_galleries(revisions) == words
