"""`calibrate` and `doctor` say how many of the gallery's own pictures the threshold rejects."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pagesight_server.__main__ import main
from pagesight_server.gallery import Gallery
from pagesight_server.recognition.calibration import CALIBRATION_VERSION, Calibration
from tests.support.stores import enrol

# Of four pictures one scores below 0.5 with text, and two without.
QUARTER = Calibration(
    epsilon=0.05,
    pictures=4,
    guaranteed=False,
    threshold_with_text=0.5,
    threshold_without_text=0.5,
    scores_with_text=(0.4, 0.6, 0.7, 0.8),
    scores_without_text=(0.3, 0.4, 0.6, 0.8),
)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store whose gallery is calibrated so that a quarter of its pictures is rejected."""
    path = tmp_path / "gallery.db"
    opened = Gallery(path)
    enrol(opened, {"a": "login", "b": "login", "c": "home", "d": "home"})
    key = f"pagesight 0.05 v{CALIBRATION_VERSION}"
    opened.put_calibration("default", 1, key, QUARTER.to_json())
    opened.close()
    return path


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[str, str]:
    """What a command prints, each run of blanks as one."""
    monkeypatch.setattr(sys, "argv", ["pagesight-server", *map(str, arguments)])
    with pytest.raises(SystemExit):
        main()
    out, err = capsys.readouterr()
    return " ".join(out.split()), " ".join(err.split())


def test_calibrate_tells_the_shares_and_warns(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = run(monkeypatch, capsys, "calibrate", "--store", store)
    assert "of the gallery's own 4 pictures, each left out in turn, 25.0% would be rejected" in out
    assert "without text 50.0%" in out
    assert "warning: 25% of the gallery's own 4 pictures" in err
    assert "`pagesight gallery doctor` shows which pictures" in err
    out, err = run(monkeypatch, capsys, "calibrate", "--store", store, "--json")
    assert json.loads(out)["own_rejected"] == {"with_text": 0.25, "without_text": 0.5}


def test_doctor_tells_the_shares_and_warns_of_them_apart_from_problems(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = store.parent
    out, _ = run(monkeypatch, capsys, "doctor", "--store", store, "--bundles", nowhere, "--json")
    found = json.loads(out)
    assert found["own_rejected"] == {"default": {"with_text": 0.25, "without_text": 0.5}}
    assert "25.0% would be rejected, without text 50.0%" in found["gallery default"]
    [warning] = found["warnings"]
    assert warning.startswith("gallery default: 25% of the gallery's own 4 pictures")
    assert all("25%" not in problem for problem in found["problems"])
    _, err = run(monkeypatch, capsys, "doctor", "--store", store, "--bundles", nowhere)
    assert "pagesight-server: warning: gallery default: 25%" in err
