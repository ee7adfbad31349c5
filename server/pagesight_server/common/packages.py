"""Which Python packages are installed, and a refusal of those that overwrite each other.

    onnxruntime | onnxruntime-gpu            the same folder `onnxruntime`
    faiss-cpu | faiss-gpu | faiss-gpu-cuvs   the same folder `faiss`

pip installs both of a line without a word; whichever came last has overwritten the other's files,
and a server that was meant for the GPU runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from pagesight_server.common.errors import SetupError

SHARED_FOLDERS = (
    ("onnxruntime", "onnxruntime-gpu"),
    ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs"),
)
"""Distributions that install the same folder, of which an environment may have one."""


def is_installed(distribution: str) -> bool:
    """Whether a distribution is installed, by its name on the package index."""
    return bool(installed_versions([distribution]))


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those distributions that are installed, by name and in the given order."""
    versions = {}
    for name in distributions:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def check_packages(installed: Callable[[str], bool] = is_installed) -> None:
    """Refuses an environment in which two packages share a folder.

    Args:
        installed: Returns whether a distribution is installed.

    Raises:
        SetupError: the message names them and the way out.
    """
    for family in SHARED_FOLDERS:
        both = [name for name in family if installed(name)]
        if len(both) > 1:
            raise SetupError(
                f"{' and '.join(both)} are both installed and overwrite each other: "
                f"pip uninstall {' '.join(both)}, then install one of the extras `cpu`, `gpu` and "
                "`gpu-cu13` again"
            )
