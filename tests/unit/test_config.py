"""Settings: who wins, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pagesight_server import wiring
from pagesight_server.common.cores import cores
from pagesight_server.common.errors import SetupError
from pagesight_server.config import (
    NAMES,
    Config,
    config_from_json,
    config_of,
    effective,
    read_config,
    read_layers,
    unknown_variables,
)


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PAGESIGHT_"):
            monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    file = folder / "pagesight.toml"
    file.write_text(text)
    return file


def test_without_anything_the_defaults_hold() -> None:
    config = read_config(None, {})
    assert config.model_dump() == Config().model_dump()
    assert (config.server.host, config.server.port) == ("127.0.0.1", 50051)
    assert config.bundles == Path("bundles")


@pytest.mark.parametrize(
    ("text", "variables", "options", "port"),
    [
        ("[server]\nport = 1", {}, {}, 1),
        ("[server]\nport = 1", {"PAGESIGHT_SERVER__PORT": "2"}, {}, 2),
        ("[server]\nport = 1", {"PAGESIGHT_SERVER__PORT": "2"}, {"server": {"port": 0}}, 0),
        ("", {"PAGESIGHT_SERVER__PORT": "2"}, {}, 2),
        ("", {}, {}, 50051),
    ],
)
def test_options_beat_variables_and_variables_beat_the_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    variables: dict[str, str],
    options: dict[str, Any],
    port: int,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_config(written(tmp_path, text), options).server.port == port


def test_one_section_is_put_together_from_all_three(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "[server]\nmax_active = 7\nmax_waiting = 8\nport = 9")
    monkeypatch.setenv("PAGESIGHT_SERVER__MAX_WAITING", "18")
    server = read_config(file, {"server": {"port": 29}}).server
    assert (server.max_active, server.max_waiting, server.port) == (7, 18, 29)


def test_limits_of_a_picture_are_settings_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGESIGHT_IMAGE__MAX_PIXELS", "1000")
    monkeypatch.setenv("PAGESIGHT_IMAGE__FORMATS", '["png", "gif"]')
    image = read_config(written(tmp_path, "[image]\nmax_bytes = 2000"), {}).image
    assert (image.max_bytes, image.max_pixels, image.min_side_px) == (2000, 1000, 16)
    assert image.formats == ("png", "gif")


def test_paths_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGESIGHT_BUNDLES", "elsewhere")
    assert read_config(None, {"store": Path("my.db")}).bundles == Path("elsewhere")


def test_variables_of_others_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGESIGHTS", "1")
    monkeypatch.setenv("STORE", "1")
    assert read_config(None, {}).model_dump() == Config().model_dump()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[serve]\nport = 1", r"pagesight\.toml: unknown section \[serve\]: did you mean 'server'"),
        ("[zzz]\nport = 1", r"unknown section \[zzz\]; known are bundles, compute, gallery"),
        ("port = 1", r"unknown setting 'port': did you mean 'server\.port'\?"),
        ("Store = 'x'", r"unknown setting 'Store': did you mean 'store'\?"),
        ("[server]\nprot = 1", r"unknown setting 'server\.prot': did you mean 'server\.port'\?"),
        ("[server]\nmax-active = 1", r"'server\.max-active': did you mean 'server\.max_active'\?"),
        ("[image]\nmax_byte = 1", r"'image\.max_byte': did you mean 'image\.max_bytes'\?"),
        ("[index]\nflat_upto = 1", r"'index\.flat_upto': did you mean 'index\.flat_up_to'\?"),
        ("[compute]\nmax_active = 1", r"'compute\.max_active': did you mean 'server\.max_active'"),
        ("[server]\ndevice = 'cpu'", r"'server\.device': did you mean 'compute\.device'"),
        (
            "[server]\nport = 65536",
            r"setting server\.port: .*less than or equal to 65535 \(.*pagesight\.toml\)",
        ),
        ("[server]\nport = -1", r"setting server\.port: .*greater than or equal to 0"),
        ("[server]\nmax_active = -1", r"setting server\.max_active: .*greater than or equal to 0"),
        ("[server]\nport = 'x'", r"setting server\.port: .*integer"),
        ("[image]\nmin_side_px = 0", r"setting image: .*>= 1"),
        ("[image]\nformats = ['png', 'svg']", r"setting image\.formats\.1: .*'jpeg', 'png'"),
        ("[image]\nformats = 'png'", r"setting image\.formats: "),
        ("[recognition]\nepsilon = 1.0", r"setting recognition\.epsilon: .*less than 1"),
        (
            "[recognition]\nmethod = 'other'",
            r"setting recognition\.method: .*'pagesight' or 'seed'",
        ),
        ("[compute]\ndevice = 'tpu'", r"setting compute\.device: .*'cpu' or 'cuda'"),
        ("server = 1", r"setting server: "),
        ("\n[server]\nport", r"pagesight\.toml: .*\(at "),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_the_setting(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SetupError, match=message) as failed:
        read_config(written(tmp_path, text), {})
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "PAGESIGHT_SERVER__PROT",
            "1",
            r"environment: PAGESIGHT_SERVER__PROT is no setting: did you mean "
            r"PAGESIGHT_SERVER__PORT\?",
        ),
        ("PAGESIGHT_SERVR__PORT", "1", r"did you mean PAGESIGHT_SERVER__PORT\?"),
        ("PAGESIGHT_SERVER__PORT", "-1", r"setting server\.port: .* \(PAGESIGHT_SERVER__PORT\)"),
        ("PAGESIGHT_SERVER", '{"port": -1}', r"setting server\.port: .* \(PAGESIGHT_SERVER\)"),
        ("PAGESIGHT_IMAGE__MAX_BYTE", "1", r"did you mean PAGESIGHT_IMAGE__MAX_BYTES\?"),
        ("PAGESIGHT_SERVER", "no json", 'environment: .*"server"'),
    ],
)
def test_a_mistake_in_a_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SetupError, match=message):
        read_config(None, {})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PAGESIGHT_STOER", "x", "did you mean PAGESIGHT_STORE?"),
        ("PAGESIGHT_SERVER_PORT", "1", "did you mean PAGESIGHT_SERVER__PORT?"),
        ("PAGESIGHT_PORT", "1", "did you mean PAGESIGHT_SERVER__PORT?"),
        ("PAGESIGHT_MAX_ACTIVE", "1", "did you mean PAGESIGHT_SERVER__MAX_ACTIVE?"),
        ("PAGESIGHT_KEEP_IMAGES", "none", "did you mean PAGESIGHT_GALLERY__KEEP_IMAGES?"),
        ("PAGESIGHT_ADRESS", "x", "did you mean PAGESIGHT_ADDRESS?"),
        ("pagesight_stoer", "x", "did you mean PAGESIGHT_STORE?"),
        ("PAGESIGHT_QQQ", "x", "is no setting, and ignored"),
        ("PAGESIGHT_STORE", "x", None),
        ("pagesight_store", "x", None),
        ("PAGESIGHT_SERVER", "{}", None),
        ("PAGESIGHT_TOKEN", "x", None),
        ("PAGESIGHT_SERVICE_HOST", "10.0.0.1", None),
        ("PAGESIGHT_SERVER_SERVICE_PORT_GRPC", "50051", None),
        ("PAGESIGHT_PORT", "tcp://10.0.0.1:50051", None),
        ("PAGESIGHT_SERVER_PORT_50051_TCP_ADDR", "10.0.0.1", None),
        ("OTHER_STOER", "x", None),
    ],
)
def test_a_misspelt_variable_is_named_and_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str | None
) -> None:
    monkeypatch.setenv(name, value)
    layers = read_layers(None, {})
    assert config_of(layers).server.port == 50051
    warnings = unknown_variables(layers)
    if told is None:
        assert warnings == []
    else:
        (warning,) = warnings
        assert warning.startswith(f"{name} is no setting")
        assert warning.endswith(told)


def test_the_source_of_each_setting_is_what_set_it_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, "store = 'a'\n[server]\nport = 1\nhost = '::'\nmax_active = 1")
    monkeypatch.setenv("PAGESIGHT_SERVER__PORT", "2")
    monkeypatch.setenv("pagesight_server__max_active", "2")
    monkeypatch.setenv("PAGESIGHT_IMAGE", '{"max_bytes": 3}')
    layers = read_layers(file, {"server": {"port": 3}})
    sources = {name: layers.source(name) for name in effective(config_of(layers))}
    assert {name: source for name, source in sources.items() if source != "default"} == {
        "store": str(file),
        "server.host": str(file),
        "server.port": "command line",
        "server.max_active": "pagesight_server__max_active",
        "image.max_bytes": "PAGESIGHT_IMAGE",
    }
    assert len(sources) == len(NAMES)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:50051"),
        ("localhost", "localhost:50051"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("::", "[::]:50051"),
        ("fe80::1%eth0", "[fe80::1%eth0]:50051"),
    ],
)
def test_an_ipv6_address_needs_no_brackets(host: str, address: str) -> None:
    assert read_config(None, {"server": {"host": host}}).server.address() == address


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"no configuration file .*none\.toml"):
        read_config(tmp_path / "none.toml", {})


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    file = tmp_path / "pagesight.toml"
    file.write_bytes(b"store = '\xff'")
    with pytest.raises(SetupError, match=r"pagesight\.toml: .*utf-8"):
        read_config(file, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "pagesight.toml"
    file.write_bytes(b"\xef\xbb\xbfstore = 'my.db'\r\n[server]\r\nport = 1\r\n")
    config = read_config(file, {})
    assert (config.store, config.server.port) == (Path("my.db"), 1)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_config(None, {}).server.port = 1


def test_there_is_a_core() -> None:
    assert cores() >= 1


@pytest.mark.parametrize(
    ("text", "cores_here", "processes", "active", "ocr_threads"),
    [
        pytest.param("", 8, 1, 24, 8, id="one, of all cores"),
        pytest.param("[server]\nprocesses = 3", 8, 3, 6, 2, id="each has its share"),
        pytest.param("[server]\nprocesses = 9", 8, 9, 3, 1, id="and at least one core"),
        pytest.param("[server]\nprocesses = 'auto'", 8, 1, 24, 8, id="few cores, on a CPU"),
        pytest.param("[server]\nprocesses = 'auto'", 48, 3, 48, 16, id="sixteen for each"),
        pytest.param(
            "[server]\nprocesses = 'auto'\n[compute]\ndevice = 'cuda'",
            16,
            4,
            64,
            1,
            id="four on CUDA",
        ),
        pytest.param(
            "[server]\nprocesses = 2\nmax_active = 5\n[compute]\nocr_threads = 3",
            8,
            2,
            5,
            3,
            id="what is set is of each process",
        ),
    ],
)
def test_the_cores_are_shared_out_over_the_processes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    cores_here: int,
    processes: int,
    active: int,
    ocr_threads: int,
) -> None:
    monkeypatch.setattr("pagesight_server.config.cores", lambda: cores_here)
    config = read_config(written(tmp_path, text), {})
    assert (config.processes, config.active, config.ocr_threads) == (processes, active, ocr_threads)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "true"])
def test_processes_are_a_count_or_auto(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PAGESIGHT_SERVER__PROCESSES", value)
    expected = (
        rf"^setting server\.processes: .*write a number from 1, or auto, instead of '{value}' "
    )
    with pytest.raises(SetupError, match=expected):
        read_config(None, {})


def test_settings_that_were_handed_on_are_the_same_whatever_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "store = 'my.db'\n[server]\nport = 1\n[image]\nformats = ['png']\n"
    text += "[compute]\nbatch_sizes = [1, 2]"
    config = read_config(written(tmp_path, text), {"server": {"processes": "2"}})
    handed_on = config.model_dump_json()
    monkeypatch.setenv("PAGESIGHT_SERVER__PORT", "2")
    monkeypatch.setenv("PAGESIGHT_SECURITY__CERT", "cert.pem")
    assert config_from_json(handed_on).model_dump() == config.model_dump()


@pytest.mark.parametrize(
    ("text", "sizes", "limit"),
    [
        pytest.param("", (), 1, id="a CPU runs one by one"),
        pytest.param("max_batch = 3", (), 3, id="or as many as it is told"),
        pytest.param("batch_sizes = [1, 4]", (1, 4), 4, id="or sizes it is told"),
        pytest.param('device = "cuda"', (1, 2, 4, 8, 16, 32), 32, id="CUDA takes fixed sizes"),
        pytest.param('device = "cuda"\nmax_batch = 20', (1, 2, 4, 8, 16, 32), 20, id="fewer"),
    ],
)
def test_the_device_decides_which_batches_run(
    tmp_path: Path, text: str, sizes: tuple[int, ...], limit: int
) -> None:
    compute = read_config(written(tmp_path, f"[compute]\n{text}"), {}).compute
    assert (compute.sizes, compute.batch_limit) == (sizes, limit)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("batch_sizes = [4, 2]", "must ascend from 1"),
        ("batch_sizes = [0, 2]", "must ascend from 1"),
        ("batch_sizes = [1, 2]\nmax_batch = 3", "more than the largest batch size, 2"),
        ("fixed_shapes = false\ncuda_graphs = true", "cuda_graphs needs fixed_shapes = true"),
        ("gpu_memory_mb = -1", "greater than or equal to 0"),
    ],
)
def test_batches_that_cannot_be_are_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SetupError, match=f"setting compute.*{why}"):
        read_config(written(tmp_path, f"[compute]\n{text}"), {})


@pytest.mark.parametrize(
    ("quota", "most"),
    [
        pytest.param("100000 100000\n", 1, id="one core"),
        pytest.param("150000 100000\n", 2, id="one and a half"),
        pytest.param("10000 100000\n", 1, id="a tenth"),
        pytest.param("max 100000\n", 1000, id="no quota"),
        pytest.param("nonsense", 1000, id="not understood"),
        pytest.param(None, 1000, id="no control group"),
    ],
)
def test_a_container_has_the_cores_of_its_quota(
    tmp_path: Path, quota: str | None, most: int
) -> None:
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota)
    assert cores(file) == min(most, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("text", "detectors"),
    [
        pytest.param("", 16, id="on a CPU each core"),
        pytest.param("[compute]\nocr_threads = 3", 3, id="on a CPU as told"),
        pytest.param("[compute]\ndevice = 'cuda'", 8, id="half of them on CUDA"),
        pytest.param("[compute]\ndevice = 'cuda'\nocr_threads = 2", 8, id="with two sessions"),
        pytest.param("[compute]\ndevice = 'cuda'\nocr_threads = 12", 12, id="no less than told"),
        pytest.param(
            "[server]\nprocesses = 4\n[compute]\ndevice = 'cuda'", 2, id="of a process's share"
        ),
    ],
)
def test_half_of_the_cores_find_text_beside_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, detectors: int
) -> None:
    monkeypatch.setattr("pagesight_server.config.cores", lambda: 16)
    config = read_config(written(tmp_path, text), {})
    assert config.detectors == detectors
    assert wiring.ocr_settings(config).detectors == detectors


def test_threads_that_share_a_session_take_no_more_gpu_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pagesight_server.config.cores", lambda: 64)
    config = read_config(None, {"compute": {"device": "cuda"}})
    # The encoder; of one detector and two recognisers fixed shapes, and any shape.
    assert wiring.memory_limits(config, 2) == 1 + 3 * 2


@pytest.mark.parametrize(
    ("text", "threads", "active"),
    [
        pytest.param("", 1, 3, id="of each for a core"),
        pytest.param("[server]\nmax_active = 5\n[compute]\nocr_threads = 2", 2, 5, id="as told"),
        pytest.param('[compute]\ndevice = "cuda"', 1, 64, id="two batches on CUDA"),
        pytest.param('[compute]\ndevice = "cuda"\nmax_batch = 8', 1, 16, id="two smaller ones"),
    ],
)
def test_the_machine_decides_how_much_is_worked_on_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, threads: int, active: int
) -> None:
    monkeypatch.setattr("pagesight_server.config.cores", lambda: 1)
    config = read_config(written(tmp_path, text), {})
    assert (config.ocr_threads, config.active) == (threads, active)
