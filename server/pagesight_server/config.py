"""Settings, read once at start: from a TOML file, then the environment, then the command line.

    [server]       address, queue and admission limits, timeouts
    [security]     TLS, bearer tokens, rate limits per caller
    [image]        size limits of one picture
    [recognition]  method, epsilon (allowed false rejection rate), review
    [compute]      device, threads, batch sizes, GPU memory
    [gallery]      what is stored of a picture, quotas, retention
    [review]       which answers are kept for a person to look at, and for how long
    [index]        when a gallery is searched by codes, by which, and where
    [telemetry]    log format, what traces may contain

`config_sections.py` says what each setting does. The variable of a setting is `PAGESIGHT_` and its
path: `PAGESIGHT_SERVER__PORT=50052`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from pagesight_server.common.cores import cores
from pagesight_server.common.errors import SetupError
from pagesight_server.common.settings import DEFAULT, Layers, names, nearest, read_toml
from pagesight_server.config_sections import (
    ComputeConfig,
    GalleryConfig,
    RecognitionConfig,
    ReviewConfig,
    SecurityConfig,
    ServerConfig,
    TelemetryConfig,
)
from pagesight_server.gallery.location import PostgresUrl, store_location
from pagesight_server.index.policy import IndexSettings
from pagesight_server.inference.settings import Device, ImageLimits

CORES_A_PROCESS: dict[Device, int] = {"cpu": 16, "cuda": 4}
"""Cores for each process of `server.processes = "auto"`. About a quarter of what a process does for
a screenshot outside the models holds its GIL, so with CUDA it can use four cores. On a CPU the
models take most of the time, without the GIL; sixteen cores do not exhaust it (`make bench-host`
measures the shares)."""


class Config(BaseSettings):
    """Holds all settings, each section under its own name."""

    model_config = SettingsConfigDict(
        env_prefix="PAGESIGHT_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    bundles: Path = Path("bundles")
    """Folder of the model bundles, `encoder/` and `ocr/`."""

    store: Annotated[Path | PostgresUrl, PlainValidator(store_location)] = Path("gallery.db")
    """Where the galleries are kept: a SQLite file, or `postgresql://USER@HOST/NAME`, which several
    machines may share. A password does not belong into it."""

    server: ServerConfig = ServerConfig()
    security: SecurityConfig = SecurityConfig()
    image: ImageLimits = ImageLimits()
    recognition: RecognitionConfig = RecognitionConfig()
    compute: ComputeConfig = ComputeConfig()
    gallery: GalleryConfig = GalleryConfig()
    review: ReviewConfig = ReviewConfig()
    index: IndexSettings = IndexSettings()
    telemetry: TelemetryConfig = TelemetryConfig()

    @property
    def processes(self) -> int:
        """Processes that serve, in effect."""
        if self.server.processes != "auto":
            return self.server.processes
        return max(1, cores() // CORES_A_PROCESS[self.compute.device])

    @property
    def active(self) -> int:
        """Screenshots that one process works on concurrently, in effect."""
        if self.server.max_active:
            return self.server.max_active
        on_cuda = self.compute.device == "cuda"
        return 2 * self.compute.batch_limit if on_cuda else 3 * self._cores

    @property
    def ocr_threads(self) -> int:
        """Text recognition threads of one process in effect, and sessions that detect text."""
        return self.compute.ocr_threads or (1 if self.compute.device == "cuda" else self._cores)

    @property
    def detectors(self) -> int:
        """Text detection threads of one process in effect.

        Beside a GPU half of the cores: what these threads do before and after a run takes longer
        than the run. They share the sessions of `ocr_threads`.
        """
        if self.compute.device == "cpu":
            return self.ocr_threads
        return max(self.ocr_threads, self._cores // 2)

    @property
    def _cores(self) -> int:
        """Cores that are one process's share."""
        return max(1, cores() // self.processes)


PREFIX = "PAGESIGHT_"
NAMES = names(Config)
"""Every setting, such as `server.port`."""

CLIENT_VARIABLES = (
    "PAGESIGHT_ADDRESS",
    "PAGESIGHT_AUTHOR",
    "PAGESIGHT_TOKEN",
    "PAGESIGHT_TLS_CA",
    "PAGESIGHT_TLS_CERT",
    "PAGESIGHT_TLS_KEY",
    "PAGESIGHT_TLS_SERVER_NAME",
)
"""Settings of the `pagesight` command, which may share an environment with the server."""

_KUBERNETES = re.compile(r"\w+_(SERVICE_(HOST|PORT)(_\w+)?=.*|PORT=\w+://.*|PORT_\d+_\w+=.*)", re.S)
"""Variables that Kubernetes sets for a service of the name `pagesight` or `pagesight-...`."""


def read_layers(file: Path | None, overrides: dict[str, Any]) -> Layers:
    """Reads what is set where, without making settings of it.

    Raises:
        SetupError: the file cannot be read, or names an unknown setting.
    """
    if file is not None and not file.is_file():
        raise SetupError(f"no configuration file {file}")
    toml = read_toml(file) if file is not None else {}
    layers = Layers(options=overrides, env=dict(os.environ), toml=toml, file=file, prefix=PREFIX)
    sections = {name.partition(".")[0] for name in NAMES}
    for name, value in toml.items():
        if name not in sections and isinstance(value, dict):
            raise SetupError(f"{file}: unknown section [{name}]{_meant(name, sorted(sections))}")
    for name in layers.settings_in_file():
        if name not in NAMES and name not in sections:
            raise SetupError(f"{file}: unknown setting {name!r}{_meant(name, NAMES)}")
    return layers


def _meant(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    return f": did you mean {near!r}?" if near else f"; known are {', '.join(known)}"


def unknown_variables(layers: Layers) -> list[str]:
    """What is wrong with variables that look like settings and are none, a line each."""
    sections = {name.partition(".")[0] for name in NAMES}
    told = []
    for variable, setting in layers.variables():
        plain = variable.upper()
        of_kubernetes = _KUBERNETES.fullmatch(f"{plain}={layers.env[variable]}")
        if setting in NAMES or setting in sections or plain in CLIENT_VARIABLES or of_kubernetes:
            continue
        near = nearest(setting, NAMES)
        client = difflib.get_close_matches(plain, CLIENT_VARIABLES, 1, cutoff=0.9)
        meant = client[0] if client else layers.variable(near) if near else ""
        told.append(
            f"{variable} is no setting" + (f": did you mean {meant}?" if meant else ", and ignored")
        )
    return told


def read_config(file: Path | None, overrides: dict[str, Any]) -> Config:
    """Reads the settings.

    Args:
        file: A TOML file, or None.
        overrides: Settings from the command line, nested like the file; they take precedence over
            the environment, and that over the file.

    Raises:
        SetupError: a file that cannot be read, an unknown setting, a value out of range.
    """
    return config_of(read_layers(file, overrides))


def config_of(layers: Layers) -> Config:
    """Makes settings of what is set.

    Raises:
        SetupError: an unknown setting, a value out of range.
    """
    for variable, setting in layers.variables():
        # Two underscores are ours alone; other names may be another program's.
        if "." in setting and setting not in NAMES:
            near = nearest(setting, NAMES)
            meant = f": did you mean {layers.variable(near)}?" if near else ""
            raise SetupError(f"environment: {variable} is no setting{meant}")
    try:
        return _class_for(layers.toml)(**layers.options)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        source = layers.source(".".join(str(part) for part in first["loc"][:2]))
        where = f" ({source})" if source != DEFAULT else ""
        raise SetupError(f"setting {setting}: {first['msg']}{where}") from None
    except SettingsError as error:
        raise SetupError(f"environment: {error}") from None


def config_from_json(text: str) -> Config:
    """The settings that `Config.model_dump_json` wrote, whatever the environment says since."""
    return _class_for(None)(**json.loads(text))


def _class_for(toml: Mapping[str, Any] | None) -> type[Config]:
    """Settings over those of a file and of the environment; None: over the defaults alone."""

    class Layered(Config):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            if toml is None:
                return (init_settings,)
            return init_settings, env_settings, InitSettingsSource(settings_cls, dict(toml))

    return Layered


def effective(config: Config) -> dict[str, object]:
    """The value of every setting, by its name."""
    values: dict[str, object] = {}
    for name in NAMES:
        value: object = config
        for part in name.split("."):
            value = getattr(value, part)
        values[name] = value
    return values
