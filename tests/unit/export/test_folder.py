"""What exports that were killed leave, and that the next one puts it right."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pagesight_export.bundle import MANIFEST
from pagesight_export.errors import BundleError
from pagesight_export.folder import scratch, write
from pagesight_export.verify import verify
from tests.support.drafts import draft

KILLED = """
import os, signal, sys
from pathlib import Path
from pagesight_export import folder

target, moment = Path(sys.argv[1]), sys.argv[2]
if moment == "while it works":
    with folder.scratch(target) as made:
        (made / "weights").write_bytes(bytes(1000))
        print("ready", flush=True)
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGKILL)
rename = Path.rename
def renamed_once(old, new):
    rename(old, new)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = renamed_once
made = target.with_name(f".{target.name}.partial-abc")
made.mkdir()
folder._publish(made, target)
"""


def killed(target: Path, moment: str) -> subprocess.Popen[str]:
    """Start an export that kills itself: at once between its renames, or when it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(target), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_what_a_killed_export_had_set_aside_is_put_back_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "encoder"
    write(draft(), target)
    before = (target / MANIFEST).read_bytes()
    with killed(target, "between its renames") as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".encoder.partial-abc",
        ".encoder.replaced-abc",
    ]
    lacking = replace(draft(), contents={"model.onnx": b"not a graph"})

    with pytest.raises(BundleError):  # and it is there even though the next one fails
        write(lacking, target)

    assert (target / MANIFEST).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_the_folder_of_an_export_is_removed_by_the_next_once_it_is_dead(tmp_path: Path) -> None:
    target = tmp_path / "encoder"
    (tmp_path / ".encoder-2.partial-abc").mkdir()  # of another bundle
    with killed(target, "while it works") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        write(draft(), target)
        [alive] = tmp_path.glob(".encoder.partial-*")
        assert (alive / "weights").stat().st_size == 1000
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert alive.exists()

    write(draft(), target)

    assert sorted(path.name for path in tmp_path.iterdir()) == [".encoder-2.partial-abc", "encoder"]


def test_an_older_bundle_that_was_set_aside_does_not_come_back(tmp_path: Path) -> None:
    target = tmp_path / "encoder"
    write(draft(name="older"), tmp_path / ".encoder.replaced-abc")
    write(draft(), target)

    with scratch(target):
        assert verify(target).manifest.name == "double"

    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]
