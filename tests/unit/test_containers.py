"""The image and the compose file are of what there is: paths, locks, settings, stages.

No image is built here: that takes minutes and a builder (docs/containers.md). What the
instructions say is checked.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.main import get_command

import pagesight._cli
import pagesight_export.cli
import pagesight_server.__main__
from pagesight_server.config import read_config
from pagesight_server.telemetry.exporting import exporters_of
from tests.support.lock_metadata import pins

ROOT = Path(__file__).parents[2]
OPS = ROOT / "ops"
DOCKERFILE = OPS / "Dockerfile"
COMMANDS = {
    "pagesight": pagesight._cli.app,
    "pagesight-server": pagesight_server.__main__.app,
    "pagesight-export": pagesight_export.cli.app,
}


class Instruction(NamedTuple):
    """One line of a Dockerfile."""

    stage: str
    kind: str
    rest: str


def instructions() -> list[Instruction]:
    """What the Dockerfile says, without comments; ARG, before the first stage, is of stage ""."""
    found, stage = [], ""
    for line in DOCKERFILE.read_text("utf-8").replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            kind, _, rest = line.partition(" ")
            if kind == "FROM":
                stage = rest.partition(" AS ")[2]
            found.append(Instruction(stage, kind, rest))
    return found


def of_kind(kind: str) -> list[Instruction]:
    return [found for found in instructions() if found.kind == kind]


def runs() -> list[Instruction]:
    """The commands of the stages, without the options of RUN itself."""
    return [found._replace(rest=re.sub(r"^(--\S+ )+", "", found.rest)) for found in of_kind("RUN")]


def copied() -> list[tuple[str, str, list[str]]]:
    """For each COPY its stage, the stage that it takes from, or "", and the sources."""
    found = []
    for stage, _, rest in of_kind("COPY"):
        words = rest.split()
        source = words.pop(0).removeprefix("--from=") if words[0].startswith("--from=") else ""
        found.append((stage, source, words[:-1]))
    return found


def assert_settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Asserts that the server reads each of its variables, and takes it for what it says."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = read_config(None, {})
    # A variable that no setting has would be passed over in silence.
    said = {name for name in environment if name.startswith("PAGESIGHT_")}
    for name in said:
        node: Any = config
        for part in name.removeprefix("PAGESIGHT_").lower().split("__"):
            node = getattr(node, part)
        assert str(node).lower() == environment[name].lower(), name


def test_an_image_copies_what_there_is_and_what_its_context_has() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (OPS / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
        if line.startswith("!")
    }
    sources = {
        source for _, taken_from, sources in copied() if not taken_from for source in sources
    }
    assert len(sources) > 10
    for source in sources:
        assert (ROOT / source).exists(), source
        assert source.partition("/")[0] in allowed, source
    assert allowed == {source.partition("/")[0] for source in sources}


def test_every_stage_is_made_of_an_earlier_one_and_the_default_is_the_cpu() -> None:
    stages: list[str] = []
    for stage, kind, rest in instructions():
        if kind == "FROM":
            base = rest.partition(" AS ")[0]
            assert base in ("${BASE}", *stages), base
            stages.append(stage)
    for stage, taken_from, _ in copied():
        assert not taken_from or taken_from in stages[: stages.index(stage)], taken_from
    assert stages[-1] == "cpu"
    assert "gpu" in stages
    (argument,) = of_kind("ARG")
    # By its tag: no digest could be looked up where this was written.
    assert re.fullmatch(r"BASE=python:3\.\d+-slim-\w+", argument.rest)


def test_what_pip_installs_is_locked_or_the_wheel() -> None:
    commands = [shlex.split(rest) for _, _, rest in runs()]
    installs = [words for words in commands if words[0] == "pip"]
    assert len(installs) == 6
    for words in installs:
        locks = [after for word, after in pairwise(words) if word == "-r"]
        if "/wheels/*.whl" in words:
            assert {"--no-index", "--no-deps"} <= set(words)
            continue
        assert "--require-hashes" in words
        assert locks
        for lock in locks:
            text = (ROOT / lock).read_text("utf-8")
            requirements = re.findall(r"^[A-Za-z0-9]\S*.*?(?=^[A-Za-z0-9]|\Z)", text, re.M | re.S)
            assert requirements
            for requirement in requirements:
                assert re.match(r"\S+==\S", requirement), requirement
                assert "--hash=sha256:" in requirement


def test_every_lock_that_a_stage_installs_was_copied_into_it() -> None:
    here = {
        (stage, source)
        for stage, taken_from, sources in copied()
        for source in sources
        if not taken_from
    }
    for stage, _, rest in runs():
        for lock in re.findall(r"-r (\S+)", rest):
            assert (stage, lock) in here, (stage, lock)


@pytest.mark.parametrize("beside", ["cpu", "gpu-cu13", "gpu", "builtin"])
def test_the_lock_of_postgresql_goes_beside_those_of_the_server(beside: str) -> None:
    postgres, other = (pins(ROOT / "requirements" / f"{name}.txt") for name in ("postgres", beside))
    assert "psycopg" in postgres
    shared = postgres.keys() & other.keys()
    assert "grpcio" in shared
    assert {name: postgres[name] for name in shared} == {name: other[name] for name in shared}


def test_what_reaches_an_index_takes_the_settings_of_pip_as_a_secret() -> None:
    for whole, command in zip(of_kind("RUN"), runs(), strict=True):
        asks = command.rest.startswith("pip ") and "--no-index" not in command.rest
        options = whole.rest.removesuffix(command.rest).strip()
        secret = "--mount=type=secret,id=pip.conf,target=/etc/pip.conf"
        assert options == (secret if asks else ""), whole.rest
    # An ARG or ENV of an index would stay in the image.
    assert not re.search(r"(?m)^(ARG|ENV).*PIP_", DOCKERFILE.read_text("utf-8"))


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_code_lies_on_the_bundles_and_they_on_the_packages(device: str) -> None:
    layers = [(taken_from, sources) for stage, taken_from, sources in copied() if stage == device]
    assert layers == [
        (f"{device}-packages", ["/opt/pagesight"]),
        ("bundles", ["/bundles"]),
        ("code", ["/code"]),
    ]
    # Nothing of the code is in the packages below it, or the two would differ after each change.
    for stage, taken_from, sources in copied():
        if stage == f"{device}-packages":
            assert not taken_from
            assert all(source.startswith("requirements/") for source in sources)


def test_the_labels_of_the_image_are_those_of_the_project() -> None:
    (label,) = of_kind("LABEL")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert dict(pair.split("=", 1) for pair in shlex.split(label.rest)) == {
        "org.opencontainers.image.title": project["name"],
        "org.opencontainers.image.description": project["description"],
        "org.opencontainers.image.version": project["version"],
        "org.opencontainers.image.licenses": project["license"],
    }


def test_the_commands_of_the_image_exist_with_their_options() -> None:
    lines = [shlex.split(rest.replace("/opt/pagesight/bin/", "")) for _, _, rest in runs()]
    lines += [yaml.safe_load(rest.partition("CMD ")[2]) for _, _, rest in of_kind("HEALTHCHECK")]
    (entry,), (default,) = of_kind("ENTRYPOINT"), of_kind("CMD")
    lines.append(yaml.safe_load(entry.rest) + yaml.safe_load(default.rest))
    ours = [words for words in lines if words[0] in COMMANDS]
    assert [words[:2] for words in ours] == [
        ["pagesight-export", "encoder"],
        ["pagesight-export", "ocr"],
        ["pagesight", "health"],
        ["pagesight-server", "serve"],
    ]
    for program, name, *arguments in ours:
        command: Any = get_command(COMMANDS[program])
        command = command.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known, name


def test_the_image_makes_the_bundles_as_setup_does() -> None:
    def exports(text: str) -> list[str]:
        found = re.findall(r"pagesight-export ((?:encoder|ocr) --.*)", text)
        return [re.sub(r"(\S*/)(encoder|ocr|tinyocr)\b", r"\2", command) for command in found]

    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert exports(DOCKERFILE.read_text("utf-8")) == exports(makefile)


def test_who_serves_is_a_number_and_not_root() -> None:
    (user,) = of_kind("USER")
    assert user.stage == "runtime"
    uid, gid = user.rest.split(":")
    made = " ".join(rest for stage, _, rest in runs() if stage == "runtime")
    assert f"--uid {uid}" in made
    assert f"--gid {gid}" in made
    assert int(uid) > 0


def test_the_environment_of_the_image_is_what_the_server_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = dict(pair.split("=", 1) for _, _, rest in of_kind("ENV") for pair in rest.split())
    assert "PAGESIGHT_COMPUTE__DEVICE" in environment
    assert_settings(environment, monkeypatch)


def test_the_compose_file_mounts_what_there_is_and_sets_what_the_server_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = yaml.safe_load((OPS / "docker-compose.yml").read_text("utf-8"))["services"]
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (OPS / source).exists(), source
    build = services["pagesight"]["build"]
    assert (OPS / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
    environment: dict[str, str] = services["pagesight"]["environment"]
    assert_settings(environment, monkeypatch)
    assert exporters_of(environment) == (("otlp",), ("otlp", "prometheus"))
