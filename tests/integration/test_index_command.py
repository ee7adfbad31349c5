"""The real `pagesight-server index`: killed midway and run again; what it prints and refuses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pagesight_server.__main__ import main
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.digests import digest
from pagesight_server.recognition.calibration import CALIBRATION_VERSION
from tests.support import WAIT_S
from tests.support.pictures import RED, solid

PICTURES = 6


def folder(root: Path) -> dict[str, bytes]:
    """Writes two labels of three small pictures each; their bytes by path."""
    pictures = {}
    for i in range(PICTURES):
        pixels = np.full((96, 96, 3), 40 * i, np.uint8)
        at, white = (10, 60), (255, 255, 255)
        cv2.putText(pixels, f"page {i}", at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, white, 1)
        data = cv2.imencode(".png", pixels)[1].tobytes()
        name = f"{'ab'[i % 2]}/{i}.png"
        file = root / "DIR" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        pictures[name] = data
    return pictures


def arguments(root: Path, bundles: Path) -> list[str]:
    store = str(root / "gallery.db")
    return ["index", str(root / "DIR"), "--store", store, "--bundles", str(bundles)]


def command(root: Path, bundles: Path) -> list[str]:
    return [sys.executable, "-m", "pagesight_server", *arguments(root, bundles), "--json"]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command in this process, which has the libraries loaded; gives the exit code."""

    def run(*argv: str) -> int:
        monkeypatch.setattr(sys, "argv", ["pagesight-server", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def looked_at(store: Path) -> dict[str, bytes]:
    """The stored embedding of each picture that was looked at, enrolled or not."""
    try:
        database = sqlite3.connect(f"file:{store}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT image_id, vector FROM embeddings").fetchall()
        finally:
            database.close()
    except sqlite3.OperationalError:
        return {}  # not made yet
    return {image_id.hex(): vector for image_id, vector in rows}


def test_a_run_that_is_killed_and_run_again_loses_and_repeats_nothing(
    tmp_path: Path, bundles: Path
) -> None:
    pictures = folder(tmp_path)
    store = tmp_path / "gallery.db"
    process = subprocess.Popen(
        command(tmp_path, bundles), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    give_up_s = time.monotonic() + 3 * WAIT_S
    while len(looked_at(store)) < PICTURES // 2:
        assert time.monotonic() < give_up_s
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.kill()
    process.communicate(timeout=WAIT_S)
    opened = Gallery(store)
    enrolled = len(opened.snapshot().pictures) if opened.revisions() else 0
    opened.close()

    # What was looked at is marked: a second look would write over it.
    database = sqlite3.connect(store)
    database.create_function("digest", 3, digest)
    database.execute("UPDATE embeddings SET vector = zeroblob(length(vector))")
    database.execute("UPDATE embeddings SET sha256 = digest(image_id, bundle, vector)")
    database.commit()
    database.close()
    before = set(looked_at(store))

    again = subprocess.run(
        command(tmp_path, bundles), capture_output=True, text=True, timeout=120, check=False
    )
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report == {
        "revision": 2,
        "added": PICTURES - enrolled,
        "present": enrolled,
        "skipped": [],
        "left_out": "",
        "near_duplicates": [],
        "own_rejected": report["own_rejected"],
    }
    # Of six pictures a tenth cannot be told apart: the threshold may reject any number.
    assert set(report["own_rejected"]) == {"with_text", "without_text"}
    opened = Gallery(store)
    snapshot = opened.snapshot()
    assert {p.source: p.label for p in snapshot.pictures} == {name: name[0] for name in pictures}
    assert {p.image_id for p in snapshot.pictures} == {
        hashlib.sha256(data).hexdigest() for data in pictures.values()
    }
    assert [made.images for made in opened.history("default")] == [PICTURES, PICTURES // 2]
    opened.close()
    marked = {image_id for image_id, vector in looked_at(store).items() if not any(vector)}
    assert marked == before


def test_a_run_tells_what_it_did_and_what_it_skipped(
    tmp_path: Path, bundles: Path, here: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "DIR" / "红").mkdir(parents=True)
    (tmp_path / "DIR" / "红" / "[1].png").write_bytes(solid(RED, width=96, height=96))
    (tmp_path / "DIR" / "红" / "[2].png").write_bytes(b"no picture")
    (tmp_path / "DIR" / "labels.toml").write_text("['红']\nbrands = ['红']\n", "utf-8")
    assert here(*arguments(tmp_path, bundles)) == 0
    out, err = capsys.readouterr()
    assert " ".join(out.split()) == (
        "gallery default is at revision 2: 1 added, 0 already enrolled, 1 skipped "
        "no picture could be left out: how many would be rejected cannot be told"
    )
    assert "skipped 红/[2].png: the bytes are no JPEG, PNG or WebP" in " ".join(err.split())
    store = Gallery(tmp_path / "gallery.db")
    # It ends with the calibration of this revision.
    assert store.calibration("default", 2, f"pagesight 0.05 v{CALIBRATION_VERSION}") is not None
    assert store.snapshot().facts["红"].brands == ("红",)
    store.close()


@pytest.mark.parametrize(
    ("prepare", "options", "problem"),
    [
        pytest.param(lambda root: None, (), "DIR is not a folder", id="no folder"),
        pytest.param(
            lambda root: (root / "DIR").mkdir(), (), "holds no pictures", id="no pictures"
        ),
        pytest.param(
            folder,
            ("--bundles", "none"),
            "no encoder bundle in none/encoder: make it with "
            "`pagesight-export encoder --builtin --out none/encoder`",
            id="no bundles",
        ),
        pytest.param(folder, ("--labels", "none.toml"), "none.toml: ", id="no labels file"),
        pytest.param(folder, ("--config", "none.toml"), "no configuration file", id="no config"),
    ],
)
def test_a_run_that_cannot_be_says_why_in_one_line(
    tmp_path: Path,
    bundles: Path,
    here: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    prepare: Callable[[Path], object],
    options: tuple[str, ...],
    problem: str,
) -> None:
    prepare(tmp_path)
    assert here(*arguments(tmp_path, bundles), *options) == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("pagesight-server: ")
    assert problem in line
