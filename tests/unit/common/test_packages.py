"""Packages that overwrite each other are refused with the way out."""

from __future__ import annotations

import pytest

from pagesight_server.common.errors import SetupError
from pagesight_server.common.packages import SHARED_FOLDERS, check_packages, is_installed


@pytest.mark.parametrize(
    ("installed", "named"),
    [
        ({"onnxruntime", "onnxruntime-gpu", "faiss-gpu"}, "onnxruntime and onnxruntime-gpu"),
        ({"onnxruntime-gpu", "faiss-gpu", "faiss-cpu"}, "faiss-cpu and faiss-gpu"),
    ],
)
def test_two_packages_of_one_folder_are_refused(installed: set[str], named: str) -> None:
    with pytest.raises(SetupError, match=f"^{named} are both installed") as refusal:
        check_packages(installed.__contains__)
    assert f"pip uninstall {named.replace(' and', '')}, then" in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "installed", [{"onnxruntime", "faiss-cpu"}, {"onnxruntime-gpu", "faiss-gpu"}, set()]
)
def test_one_of_each_is_what_a_server_needs(installed: set[str]) -> None:
    check_packages(installed.__contains__)


def test_this_environment_has_one_of_each() -> None:
    check_packages()
    for family in SHARED_FOLDERS:
        assert sum(map(is_installed, family)) == 1
