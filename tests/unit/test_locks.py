"""Each lock can be installed: its pins are what its pins require, also for an old pip."""

from __future__ import annotations

import json
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from pagesight_server.common.packages import SHARED_FOLDERS
from tests.support.lock_metadata import KEPT, ROOT, pins, requirements

LOCKS = [ROOT / "requirements" / f"{name}.txt" for name in ("client", "cli", "cpu", "builtin")]
GPU_LOCKS = [ROOT / "requirements" / f"{name}.txt" for name in ("gpu", "gpu-cu13")]
ADVICE = "make lock, then see tests/support/lock_metadata.py"


def installed_pip() -> Any:
    """The specifiers of the pip that came with this Python, whose rules may be older."""
    return import_module("pip._vendor.packaging.specifiers").SpecifierSet


@pytest.mark.parametrize("lock", LOCKS + GPU_LOCKS, ids=lambda lock: lock.stem)
def test_every_pin_is_what_the_pins_require(lock: Path) -> None:
    kept: dict[str, list[str]] = json.loads(KEPT.read_text("utf-8"))
    pinned = pins(lock)
    assert len(pinned) > 2
    for name, version in pinned.items():
        try:
            required = list(requirements(name, version, kept))
        except KeyError:
            # Of the other locks all is installed where `make setup` has followed them.
            assert lock not in GPU_LOCKS, f"{name}=={version} is not known: {ADVICE}"
            continue
        for requirement in required:
            other = canonicalize_name(requirement.name)
            assert other in pinned, f"{name} requires {requirement}, which {lock.name} lacks"
            for kind in (SpecifierSet, installed_pip()):
                assert kind(str(requirement.specifier)).contains(pinned[other]), (
                    f"{name} requires {requirement}, {lock.name} has {pinned[other]}"
                )


def test_what_an_old_pip_cannot_compare_would_be_noticed() -> None:
    # Why cuVS is not in requirements/gpu-cu13.txt: pip 24.0, as Python 3.11 brings it, and older
    # ones take 06 and 6 for different numbers. (docs/decisions/0017)
    assert SpecifierSet("==26.06.*").contains("26.6.0")
    pip_version = tuple(map(int, import_module("pip").__version__.split(".")[:2]))
    assert installed_pip()("==26.06.*").contains("26.6.0") == (pip_version > (24, 0))


@pytest.mark.parametrize("family", SHARED_FOLDERS, ids=lambda family: family[0])
def test_no_lock_has_two_packages_of_one_folder(family: tuple[str, ...]) -> None:
    for lock in (ROOT / "requirements").glob("*.txt"):
        assert len(set(family) & set(pins(lock))) <= 1, lock.name


@pytest.mark.parametrize("server", ["cpu", "gpu", "gpu-cu13"])
def test_the_exporter_without_torch_goes_beside_every_server(server: str) -> None:
    exporter, beside = (pins(ROOT / "requirements" / f"{name}.txt") for name in ("builtin", server))
    shared = exporter.keys() & beside.keys()
    assert len(shared) > 5
    assert {name: exporter[name] for name in shared} == {name: beside[name] for name in shared}


def test_the_exporter_without_torch_takes_the_runtime_that_is_there() -> None:
    # Beside `gpu` another ONNX Runtime would overwrite the one with CUDA.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {Requirement(line).name for line in project["optional-dependencies"]["builtin"]}
    named |= set(pins(ROOT / "requirements" / "builtin.txt"))
    assert "onnx" in named
    assert named.isdisjoint(name for family in SHARED_FOLDERS for name in family)
