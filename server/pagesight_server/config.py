"""Settings, read once at start: from a TOML file, then the environment, then the command line.

    [server]          [image]         [recognition]      [compute]      [gallery]
    host, port        limits of a     method, epsilon    device,        keep_images
    what may be       picture                            threads
    in flight

    [index]           when a gallery is searched by codes, and where

The variable of a setting is `PAGESIGHT_` and its path: `PAGESIGHT_SERVER__PORT=50052`.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from pagesight_server.common.errors import SetupError
from pagesight_server.gallery import Limits
from pagesight_server.index.policy import IndexSettings
from pagesight_server.inference.settings import Device, ImageLimits

CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
CPU_BATCH_LIMIT = 8

Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(_Section):
    """The gRPC edge."""

    host: str = "127.0.0.1"
    """Where to listen. Another address than loopback offers the service to the network."""

    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """0 takes a free port, which is printed."""

    max_active: Annotated[int, Field(ge=0)] = 0
    """Screenshots worked on at the same time; each holds its pixels. 0: three for each core, or two
    of the largest batches on CUDA."""

    max_waiting: Annotated[int, Field(ge=0)] = 256
    """Screenshots waiting beyond those; more are turned away with RESOURCE_EXHAUSTED."""

    remember: Annotated[int, Field(ge=0)] = 1_024
    """Screenshots whose embedding and text are remembered by content, about 20 KB each: the same
    one is often uploaded twice. 0 switches it off."""

    max_in_flight_per_stream: Positive = 32
    """Requests of one stream without a reply; the server reads no further."""

    max_streams_per_connection: Positive = 256
    """Calls at the same time over one connection; clients keep further ones back until one ends."""

    max_enrol_items: Positive = 1_000
    """Pictures of one Enrol call."""

    max_enrol_bytes: Positive = 256 * 1024 * 1024
    """Encoded bytes of one Enrol call, which holds them until it ends."""

    max_enrolments: Positive = 2
    """Enrol calls at work at the same time. Each sees and reads one picture after the other, beside
    the screenshots of `max_active`."""

    max_waiting_enrolments: Annotated[int, Field(ge=0)] = 16
    """Enrol calls waiting beyond those, not read from; more are turned away with
    RESOURCE_EXHAUSTED."""

    enrol_silence_seconds: Annotated[float, Field(gt=0)] = 60.0
    """How long an Enrol call at work may send nothing before it loses its place."""

    max_examinations: Positive = 2
    """Diagnose, SuggestBrands and GetImage calls for a smaller picture at work at the same time:
    each takes a thread for as long as it lasts."""

    max_waiting_examinations: Annotated[int, Field(ge=0)] = 16
    """Such calls waiting beyond those; more are turned away with RESOURCE_EXHAUSTED."""

    keepalive_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How often a silent connection is probed: one whose host is gone says nothing, ever, and its
    streams would stay open."""

    drain_seconds: Annotated[float, Field(ge=0)] = 20.0
    """How long SIGTERM lets what is in flight finish."""

    follow_seconds: Annotated[float, Field(gt=0)] = 0.5
    """How often changes of the gallery by other processes are looked for."""


class SecurityConfig(_Section):
    """Who may call; nothing is asked of callers from this machine unless set."""

    cert: Path | None = None
    """The server's certificate chain, PEM. With `key`: TLS."""
    key: Path | None = None
    client_ca: Path | None = None
    """Authorities of callers' certificates, PEM: mutual TLS."""
    tokens: Path | None = None
    """File of bearer tokens and their roles (service/auth.py)."""
    allow_plaintext: bool = False
    """Listen on another address than loopback without TLS."""

    calls_per_second: Annotated[float, Field(ge=0)] = 0.0
    """Screenshots, and calls of GalleryService, of one caller: a token, or an address where none
    is asked for. 0: no limit."""
    calls_burst: Positive = 100
    """Token bucket of calls: burst size."""
    bytes_per_second: Annotated[int, Field(ge=0)] = 0
    """Bytes of screenshots to classify of one caller. 0: no limit."""
    bytes_burst: Positive = 64 * 1024 * 1024
    """Token bucket of bytes: burst size; a larger screenshot is refused for good."""


class RecognitionConfig(_Section):
    """How evidence becomes a decision."""

    method: Literal["pagesight", "seed"] = "pagesight"
    """`seed` is the published method, for comparison."""

    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of known pages that may be rejected."""

    review_above: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Doubt above which an accepted answer asks for review: with 0.95, where traffic is like the
    gallery, at most 5 % of known pages for each reason. 1: never."""

    ocr: bool = True
    """Whether text is read when a request does not say."""


class ComputeConfig(_Section):
    """Where models run. Zero threads or workers: chosen from the cores of the machine."""

    device: Device = "cpu"
    encoder_threads: Annotated[int, Field(ge=0)] = 0
    batch_sizes: tuple[int, ...] = ()
    """Sizes that the encoder runs at, ascending; all are run before the server is ready, and a
    batch is padded to the next. Empty: 1, 2, 4, 8, 16 and 32 on CUDA, which prepares for every
    shape it meets, and any size on a CPU, which pays for padding."""
    max_batch: Annotated[int, Field(ge=0)] = 0
    """Screenshots of one encoder run: what waited while the last one ran. 0: the largest of the
    batch sizes, or 8 where any size runs."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 0.0
    """How long the idle encoder waits for company. On a CPU two take twice as long as one."""
    ocr_threads: Annotated[int, Field(ge=0)] = 0
    """Threads that find text, and as many more that recognise it. 0: one of each for every core, so
    that none idles while the other kind has nothing to do, at some 350 MB a core; or one of each on
    CUDA."""
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 4096
    """Most that one session may take of the GPU; there are at least three: encoder, detection,
    recognition. Checked against what is free at start. 0: no limit."""

    @model_validator(mode="after")
    def _sizes_ascend(self) -> ComputeConfig:
        sizes = self.batch_sizes
        if sizes and (sizes[0] < 1 or list(sizes) != sorted(set(sizes))):
            raise ValueError(f"batch_sizes must ascend from 1 or more, got {list(sizes)}")
        if self.sizes and self.max_batch > self.sizes[-1]:
            raise ValueError(
                f"max_batch = {self.max_batch} is more than the largest batch size, "
                f"{self.sizes[-1]}: write 0, or add it to batch_sizes"
            )
        return self

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes that the encoder runs at; empty: any."""
        return self.batch_sizes or (CUDA_BATCH_SIZES if self.device == "cuda" else ())

    @property
    def batch_limit(self) -> int:
        """Screenshots of one encoder run at most."""
        return self.max_batch or (self.sizes[-1] if self.sizes else CPU_BATCH_LIMIT)


class GalleryConfig(_Section):
    """The store."""

    keep_images: Literal["original", "thumbnail", "none"] = "original"
    """Whether pictures are kept as received, as a JPEG of at most 640 pixels a side, or not at
    all. Reports show what is kept; `gallery reindex` needs originals."""

    max_pictures: Positive | None = None
    """Pictures that each gallery may hold; no limit unless written."""

    max_bytes: Positive | None = None
    """Bytes of pictures that each gallery may keep; embeddings and text come on top."""

    keep_removed_days: Annotated[int, Field(ge=0)] = 0
    """Days after which `gallery purge --expired` forgets what a removed picture was, so that no
    rollback brings it back. 0 keeps it for ever."""

    @property
    def limits(self) -> Limits:
        """What each gallery may hold."""
        return Limits(max_pictures=self.max_pictures, max_bytes=self.max_bytes)


class TelemetryConfig(_Section):
    """What the standard OTEL_* variables do not say; exporters are theirs (docs/operations.md)."""

    logs: Literal["text", "json"] = "text"
    """Log lines on standard error, for people or for machines with the ids of their trace."""

    record_text: bool = False
    """Whether sampled spans carry the text read from screenshots, its digits masked. It is
    personal data: leave this off wherever spans leave your hands."""


class Config(BaseSettings):
    """All settings."""

    model_config = SettingsConfigDict(
        env_prefix="PAGESIGHT_", env_nested_delimiter="__", extra="ignore", frozen=True
    )

    bundles: Path = Path("bundles")
    """Folder with `encoder/` and `ocr/`."""

    store: Path = Path("gallery.db")
    """The SQLite file of the galleries."""

    server: ServerConfig = ServerConfig()
    security: SecurityConfig = SecurityConfig()
    image: ImageLimits = ImageLimits()
    recognition: RecognitionConfig = RecognitionConfig()
    compute: ComputeConfig = ComputeConfig()
    gallery: GalleryConfig = GalleryConfig()
    index: IndexSettings = IndexSettings()
    telemetry: TelemetryConfig = TelemetryConfig()

    @property
    def active(self) -> int:
        """Screenshots worked on at the same time."""
        if self.server.max_active:
            return self.server.max_active
        return 2 * self.compute.batch_limit if self.compute.device == "cuda" else 3 * cores()

    @property
    def ocr_threads(self) -> int:
        """Threads that find text, and as many more that recognise it."""
        return self.compute.ocr_threads or (1 if self.compute.device == "cuda" else cores())


_SECTIONS = frozenset(Config.model_fields)


def read_config(file: Path | None, overrides: dict[str, Any]) -> Config:
    """Reads the settings.

    Args:
        file: A TOML file, or None.
        overrides: What the command line says, nested like the file; wins over all.

    Raises:
        SetupError: a file that cannot be read, an unknown setting, a value out of range.
    """

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
            sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
            if file is not None:
                toml = TomlConfigSettingsSource(settings_cls, file)
                unknown = sorted(set(toml.toml_data) - _SECTIONS)
                if unknown:
                    raise SetupError(
                        f"{file}: unknown setting {unknown[0]!r}; known are {sorted(_SECTIONS)}"
                    )
                sources.append(toml)
            return tuple(sources)

    if file is not None and not file.is_file():
        raise SetupError(f"no configuration file {file}")
    try:
        return Layered(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SetupError(f"setting {where}: {first['msg']}") from None
    except SettingsError as error:
        raise SetupError(f"environment: {error}") from None
    except (OSError, ValueError) as error:
        raise SetupError(f"{file}: {error}") from None


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Processor cores that this process may use: what its affinity and its container allow.

    Args:
        quota: What the control group may use, as Linux writes it: microseconds or `max`, and of how
            many. A container sees its own there; elsewhere there may be none.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        spent, period = quota.read_text("ascii").split()
        return min(allowed, max(1, math.ceil(int(spent) / int(period))))
    except (OSError, ValueError):
        return allowed
