"""`pagesight gallery enrol` against a real server that takes less in a call than is usual."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pagesight._cli import app
from pagesight_server.config_sections import ServerConfig
from tests.support import WAIT_S
from tests.support.pictures import solid
from tests.support.serving import serving


@pytest.mark.parametrize(
    ("limits", "each"),
    [
        pytest.param({"max_enrol_items": 3}, [3, 3, 1], id="pictures"),
        # A plain picture takes some 100 bytes, and 2,048 are reckoned for what goes with it.
        pytest.param({"max_enrol_bytes": 5_000}, [7], id="more bytes than they have"),
        pytest.param({"max_enrol_bytes": 700}, [1] * 7, id="bytes"),
    ],
)
async def test_what_one_call_may_not_hold_is_sent_in_several(
    tmp_path: Path, limits: dict[str, int], each: list[int]
) -> None:
    folder = tmp_path / "pages" / "a"
    folder.mkdir(parents=True)
    for number in range(7):
        (folder / f"{number}.png").write_bytes(solid((number * 30, 90, 200)))
    settings: dict[str, Any] = {"port": 0, "drain_seconds": WAIT_S, **limits}
    async with serving(tmp_path, config=ServerConfig(**settings)) as served:

        def enrol() -> list[Any]:
            command = ["gallery", "enrol", str(folder.parent), "--address", served.address]
            result = CliRunner().invoke(app, [*command, "--json"])
            assert result.exit_code == 0, result.stderr
            return [json.loads(line) for line in result.stdout.splitlines()]

        enrolled = await asyncio.to_thread(enrol)
        assert list(Counter(row["revision"] for row in enrolled).values()) == each
        assert all(row["added"] for row in enrolled)
        again = await asyncio.to_thread(enrol)
        assert [row["added"] for row in again] == [False] * 7
        assert [row["image_id"] for row in again] == [row["image_id"] for row in enrolled]
        assert served.store.revisions() == {"default": len(each)}
