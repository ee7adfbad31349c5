"""What the pins of the GPU locks require, which this environment cannot know without gigabytes.

    pip install --dry-run --ignore-installed --no-deps --report R.json -r requirements/gpu.txt
    the same for requirements/gpu-cu13.txt ──> python -m tests.support.lock_metadata R.json R2.json
                                                 └──> tests/data/lock_metadata.json

Only what is not installed here is kept; everything else tells its requirements itself. pip fetches
the wheels for that, so it is done after `make lock` has changed a pin of them, and nowhere else.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "data" / "lock_metadata.json"


def pins(lock: Path) -> dict[str, str]:
    """Version by name of the pins of a lock that apply on this machine."""
    found = re.findall(r"^([\w.-]+)==([^\s;\\]+)(?: ; ([^\\\n]+))?", lock.read_text("utf-8"), re.M)
    return {
        canonicalize_name(name): version
        for name, version, marker in found
        if not marker or Marker(marker).evaluate()
    }


def installed_requirements(name: str, version: str) -> list[str] | None:
    """The requirements of a distribution installed here; None where there is no such version."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return list(found.requires or ()) if found.version == version else None


def requirements(name: str, version: str, kept: dict[str, list[str]]) -> Iterator[Requirement]:
    """What a pin requires on this machine.

    Args:
        name: Its normalised name.
        version: Its version.
        kept: The requirements of what is not installed here, by `name==version`.

    Raises:
        KeyError: neither knows it.
    """
    lines = installed_requirements(name, version)
    for line in kept[f"{name}=={version}"] if lines is None else lines:
        requirement = Requirement(line)
        marker = requirement.marker
        # The locks ask for the extras of onnxruntime-gpu, which are CUDA's libraries.
        extras = ("", "cuda", "cudnn") if name == "onnxruntime-gpu" else ("",)
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield requirement


def main(reports: list[str]) -> None:
    """Writes the requirements that pip's reports name."""
    kept: dict[str, list[str]] = {}
    for report in reports:
        for item in json.loads(Path(report).read_text("utf-8"))["install"]:
            metadata = item["metadata"]
            name, version = canonicalize_name(metadata["name"]), metadata["version"]
            if installed_requirements(name, version) is None:
                kept[f"{name}=={version}"] = sorted(metadata.get("requires_dist") or ())
    KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
