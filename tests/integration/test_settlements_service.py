"""Findings settled on the real server: who may, what the log says, what a purge takes along."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest

import pagesight
from pagesight import AsyncClient, EnrolItem, GalleryFinding
from pagesight_server.service.auth import RequireRole, read_tokens
from tests.support import WAIT_S
from tests.support.pictures import GREEN, RED, solid
from tests.support.serving import serving

TOKENS = {"owner": "gallery-write", "reader": "gallery-read"}


async def few(client: AsyncClient, label: str) -> GalleryFinding:
    """The finding that a label has few pictures."""
    found = (await client.diagnose()).findings
    [one] = [one for one in found if one.kind == "few_pictures" and one.labels == (label,)]
    return one


async def test_whoever_may_change_a_gallery_settles_and_leaves_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "tokens.toml"
    file.write_text(
        "".join(
            f"[[token]]\nname = '{name}'\nroles = ['{role}']\n"
            f"sha256 = '{hashlib.sha256(name.encode()).hexdigest()}'\n"
            for name, role in TOKENS.items()
        ),
        "utf-8",
    )
    async with (
        serving(tmp_path, guards=[RequireRole(read_tokens(file))]) as guarded,
        AsyncClient(guarded.address, token="owner", timeout_s=WAIT_S) as owner,
        AsyncClient(guarded.address, token="reader", timeout_s=WAIT_S) as reader,
    ):
        await owner.enrol([EnrolItem(image=solid(RED), label="a")])
        finding = await few(reader, "a")
        with pytest.raises(pagesight.PermissionDeniedError):
            await reader.settle_findings([finding])
        with pytest.raises(pagesight.PermissionDeniedError):
            await reader.unsettle_findings([finding.key])
        await owner.settle_findings([finding], author="mei", note="a secret")
        settled = (await few(reader, "a")).settled
        assert settled is not None
        assert (settled.author, settled.note) == ("mei", "a secret")
        await owner.unsettle_findings([finding.key])
        await owner.unsettle_findings([finding.key])  # which changes nothing
        assert guarded.store.revisions() == {"default": 1}
    lines = [r.getMessage() for r in caplog.records if r.name == "pagesight_server.audit"]
    _, first, second = lines
    assert first.startswith(
        "gallery 'default': findings settled by 'owner' (author 'mei') from ipv4:127"
    )
    assert second.startswith("gallery 'default': findings unsettled by 'owner'")
    assert first.endswith(f": {finding.key}")
    assert second.endswith(f": {finding.key}")
    assert "a secret" not in caplog.text


async def test_a_purge_by_the_operator_takes_along_what_was_settled(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        AsyncClient(served.address, timeout_s=WAIT_S) as client,
    ):
        await client.enrol(
            [EnrolItem(image=solid(RED), label="a"), EnrolItem(image=solid(GREEN), label="b")]
        )
        await client.settle_findings([await few(client, "a"), await few(client, "b")])
        served.store.purge([hashlib.sha256(solid(RED)).hexdigest()], author="li")
        assert served.store.settlements("default").keys() == {(await few(client, "b")).key}
