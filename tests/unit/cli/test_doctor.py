"""`pagesight-server doctor`: what would run, what would not, and an exit code for scripts."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import cv2
import pytest

from pagesight_server.__main__ import main
from pagesight_server.cli.doctor import memory_plan
from pagesight_server.common import packages
from pagesight_server.common.cores import cores
from pagesight_server.config import read_config
from pagesight_server.gallery import Gallery, schema
from pagesight_server.gallery.location import PostgresUrl, StoreLocation
from pagesight_server.gallery.schema import VERSION
from tests.support.postgres import PostgresServer
from tests.support.stores import enrol


def doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, dict[str, Any], list[str]]:
    """The exit code, the JSON object, and the lines on stderr."""
    command = ["pagesight-server", "doctor", "--json", *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    code = ended.value.code
    assert isinstance(code, int)
    return code, json.loads(out), err.splitlines()


def test_all_is_well(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317")
    monkeypatch.setenv("PAGESIGHT_SERVER__MAX_ACTIVE", "2")
    store = tmp_path / "none.db"
    code, facts, err = doctor(monkeypatch, capsys, "--bundles", bundles, "--store", store)
    assert (code, err, facts["ok"], facts["problems"]) == (0, [], True, [])
    assert facts["device"] == "cpu"
    assert "CPUExecutionProvider" in facts["providers"]
    assert facts["encoder"].startswith("builtin@")
    assert facts["resized_by"] == f"OpenCV {cv2.__version__}"
    # 25 megapixels, 3 bytes each: two screenshots and, unless set, two each of the others.
    assert facts["memory"]["pixels_mb"] == (2 + 2 + 2) * 3 * 25_000_000 // 2**20
    # While they are decoded: 50 megapixels at once, 16 bytes each.
    assert facts["memory"]["decoding_mb"] == 50_000_000 * 16 // 2**20
    assert facts["memory"]["reading_mb"] == cores() * 450
    # A recogniser and its draft.
    assert facts["memory"]["recognising_mb"] == cores() * (300 + 100)
    assert facts["memory"]["machine_mb"] > facts["memory"]["process_now_mb"] > 0
    assert facts["limits"]["max_waiting"] == 256
    assert facts["telemetry"]["traces"] == ["otlp"]
    assert facts["telemetry"]["otlp"] == "http://collector:4317"
    assert "does not exist yet" in facts["store"]
    assert not store.exists()


def test_packages_that_overwrite_each_other_are_a_problem(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1"}

    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(packages, "version", version)
    code, facts, _ = doctor(
        monkeypatch, capsys, "--bundles", bundles, "--store", tmp_path / "none.db"
    )
    assert (code, len(facts["problems"])) == (1, 1)
    assert facts["problems"][0].startswith("onnxruntime and onnxruntime-gpu are both installed")


def test_on_a_gpu_all_that_takes_its_memory_is_planned(tmp_path: Path) -> None:
    overrides = {"compute": {"device": "cuda"}, "store": tmp_path / "none.db"}
    plan = memory_plan(read_config(None, overrides))
    gpu = {name: value for name, value in plan.items() if name.startswith("gpu_")}
    # The encoder's session, two of text detection, two of recognition and two of a draft: one for
    # any shape, one for fixed ones together. faiss has no GPU here: the CPU searches its index.
    assert gpu == {
        "gpu_sessions_mb": 7 * 4096,
        "gpu_inputs_mb": 7 * 192,
        "gpu_cuda_mb": 1024,
        "gpu_index_mb": 0,
    }


def test_every_problem_is_named_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "statsd")
    (tmp_path / "gallery.db").write_bytes(b"no database, but long enough to be looked at" * 99)
    code, facts, err = doctor(
        monkeypatch, capsys, "--bundles", tmp_path, "--store", tmp_path / "gallery.db"
    )
    assert (code, facts["ok"]) == (1, False)
    assert len(facts["problems"]) == len(err) == 3
    assert "no encoder bundle in" in err[0]
    assert "gallery.db" in err[1]
    assert "OTEL_METRICS_EXPORTER is 'statsd'" in err[2]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("", "--allow-plaintext"),
        ("allow_plaintext = true\ntokens = 'gone.toml'", "gone.toml: "),
        ("cert = 'gone.pem'\nkey = 'gone.pem'", "gone.pem: No such file"),
    ],
)
def test_whatever_of_the_edge_keeps_the_server_from_starting_is_a_problem(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: str,
    says: str,
) -> None:
    config = tmp_path / "pagesight.toml"
    config.write_text(f"[server]\nhost = '0.0.0.0'\n[security]\n{settings}\n", "utf-8")
    code, _, err = doctor(
        monkeypatch, capsys, "--config", config, "--bundles", tmp_path, "--store", tmp_path / "none"
    )
    assert code == 1
    no_bundle, edge = err
    assert "no encoder bundle in" in no_bundle
    assert says in edge


def test_who_may_call_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "pagesight.toml"
    config.write_text("[server]\nhost = '0.0.0.0'\n[security]\nallow_plaintext = true\n", "utf-8")
    _, facts, _ = doctor(monkeypatch, capsys, "--config", config, "--bundles", tmp_path)
    security = facts["security"]
    assert (security["address"], security["tls"], security["tokens"]) == (
        "0.0.0.0:50051",
        False,
        False,
    )
    assert "whoever reaches 0.0.0.0 may classify, and change galleries" in security["warning"]


def test_a_gallery_that_other_bundles_made_is_a_problem(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Gallery(tmp_path / "gallery.db")
    enrol(store, {"a": "login"})
    store.close()
    code, facts, err = doctor(
        monkeypatch, capsys, "--bundles", bundles, "--store", tmp_path / "gallery.db"
    )
    assert code == 1
    assert facts["gallery default"] == (
        "revision 1, 1 labels, 1 pictures, not calibrated yet: `serve` does it when it starts"
    )
    assert len(err) == 1
    assert "gallery 'default' was made with colour@" in err[0]


def test_the_plan_of_memory_is_that_of_all_processes(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PAGESIGHT_SERVER__MAX_ACTIVE", "2")
    monkeypatch.setenv("PAGESIGHT_SERVER__PROCESSES", "3")
    monkeypatch.setenv("PAGESIGHT_COMPUTE__OCR_THREADS", "1")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    _, facts, _ = doctor(monkeypatch, capsys, "--bundles", bundles, "--store", tmp_path / "none.db")
    assert facts["processes"] == 3
    assert facts["memory"]["pixels_mb"] == 3 * ((2 + 2 + 2) * 3 * 25_000_000 // 2**20)
    assert facts["memory"]["reading_mb"] == 3 * 450
    assert facts["telemetry"]["prometheus"] == "localhost:9464 to 9466"


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    """Where a store may be made: a file, then a schema of a server."""
    if request.param == "sqlite":
        return tmp_path / "gallery.db"
    url: StoreLocation = request.getfixturevalue("postgres_url")
    return url


def test_a_store_of_an_older_schema_is_a_warning_and_stays_as_it_is(
    location: StoreLocation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Gallery(location)
    enrol(store, {"one": "a"})
    store.close()
    with monkeypatch.context() as upgraded:
        upgraded.setattr(schema, "VERSION", VERSION + 1)
        _, facts, _ = doctor(upgraded, capsys, "--bundles", tmp_path, "--store", location)
    (warning,) = facts["warnings"]
    assert f"has schema {VERSION} and this pagesight needs {VERSION + 1}" in warning
    assert "an older pagesight can never open it again" in warning
    assert [line for line in facts["problems"] if "no encoder bundle" not in line] == []
    assert "gallery default" not in facts
    # Which this version refuses to open where it was brought forward.
    store = Gallery(location)
    assert store.revisions() == {"default": 1}
    store.close()


def test_nothing_is_made_in_a_database_without_a_store(
    postgres: PostgresServer,
    postgres_url: PostgresUrl,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, facts, _ = doctor(monkeypatch, capsys, "--bundles", tmp_path, "--store", postgres_url)
    assert facts["store"].endswith("holds no store yet: `serve` or `index` makes it")
    assert facts["warnings"] == []
    (name,) = re.findall(r"search_path%3D(\w+)", postgres_url)
    tables = postgres.execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{name}'")
    assert tables == []


def test_a_file_without_anything_in_it_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "gallery.db"
    store.touch(0o600)
    _, facts, _ = doctor(monkeypatch, capsys, "--bundles", tmp_path, "--store", store)
    assert facts["store"] == f"{store} holds no store yet: `serve` or `index` makes it"
    assert store.stat().st_size == 0
