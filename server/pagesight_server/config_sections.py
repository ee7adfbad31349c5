"""The sections of the settings: each setting with its default, its limits and what it does.

`config.py` beside this one reads them from a file, the environment and the command line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pagesight_server.gallery import KeepLimits, Limits
from pagesight_server.gallery.location import PostgresOptions
from pagesight_server.gallery.text_sample import TEXTS_PER_LABEL
from pagesight_server.inference.settings import Device, ReadingMode

CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
"""Default encoder batch sizes on CUDA: powers of two, so that padding never doubles a batch."""

CPU_BATCH_LIMIT = 1
"""Default of `compute.max_batch` on a CPU, where two screenshots take twice as long as one: a
batch raises latency and memory, and no throughput."""

Positive = Annotated[int, Field(ge=1)]


def _count_or_auto(value: object) -> object:
    """Refuses what is neither a count nor `auto`, in one sentence for both."""
    if value == "auto" or (str(value).isdecimal() and int(str(value)) >= 1):
        return value
    raise ValueError(f"write a number from 1, or auto, instead of {value!r}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(_Section):
    """The gRPC server: its address, what it admits at once, and its timeouts."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback exposes the service to the network."""

    port: Annotated[int, Field(ge=0, le=65535)] = 50051
    """TCP port. 0: the system chooses a free one, which is printed."""

    def address(self, port: int | None = None) -> str:
        """Host and port as one address, `[::1]:50051` for IPv6.

        Args:
            port: The one that was taken; None for the one that is set.
        """
        host = self.host.strip("[]")
        return f"{f'[{host}]' if ':' in host else host}:{self.port if port is None else port}"

    processes: Annotated[int | Literal["auto"], BeforeValidator(_count_or_auto)] = 1
    """Processes that serve the port, each with models, queues and caches of its own: what is not a
    model shares the cores of one process badly, by Python's GIL. `auto`: one for each four cores
    on CUDA, for each sixteen on a CPU. All other settings are of each process. Linux."""

    max_active: Annotated[int, Field(ge=0)] = 0
    """Screenshots processed concurrently; each holds its decoded pixels in memory. 0: three for
    each core of the process, or two of the largest batches on CUDA."""

    max_waiting: Annotated[int, Field(ge=0)] = 256
    """Screenshots queued beyond `max_active`; further ones fail with RESOURCE_EXHAUSTED. 0: no
    queue."""

    remember: Annotated[int, Field(ge=0)] = 1_024
    """Entries of the LRU cache of embeddings and texts, keyed by the picture's SHA-256, about 20 KB
    each: the same screenshot is often uploaded twice. 0: no cache."""

    max_in_flight_per_stream: Positive = 32
    """Unanswered requests of one stream, beyond which the server stops reading from it."""

    max_streams_per_connection: Positive = 256
    """Calls at the same time over one connection; clients keep further ones back until one ends."""

    max_enrol_items: Positive = 1_000
    """Pictures that one Enrol call may send."""

    max_enrol_bytes: Positive = 256 * 1024 * 1024
    """Encoded bytes that one Enrol call may send; they stay in memory until it ends."""

    max_enrolments: Positive = 2
    """Enrol calls processed concurrently. Each encodes and reads its pictures one after the other,
    in addition to the screenshots of `max_active`."""

    max_waiting_enrolments: Annotated[int, Field(ge=0)] = 16
    """Enrol calls queued beyond `max_enrolments`, whose pictures are not read yet; further ones
    fail with RESOURCE_EXHAUSTED. 0: no queue."""

    enrol_silence_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Idle timeout of an Enrol call that is being processed: seconds in which it may send nothing
    before it is ended and its slot given to the next."""

    max_examinations: Positive = 2
    """Diagnose, SuggestBrands and scaled GetImage calls processed concurrently: each occupies a
    thread until it ends."""

    max_waiting_examinations: Annotated[int, Field(ge=0)] = 16
    """Such calls queued beyond `max_examinations`; further ones fail with RESOURCE_EXHAUSTED. 0: no
    queue."""

    keepalive_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Interval of HTTP/2 keepalive pings on an idle connection, in seconds: without them, the
    streams of a host that has vanished would stay open for ever."""

    min_ping_interval_seconds: Annotated[float, Field(gt=0)] = 5.0
    """Shortest interval, in seconds, at which clients may probe a connection on which nothing else
    moves, with calls or without; whoever probes more often is hung up on ("too_many_pings"). Half
    of the 10 s that the SDK names as its smallest `keepalive_s`, since pings come early or late."""

    lame_duck_seconds: Annotated[float, Field(ge=0)] = 1.0
    """Seconds after SIGTERM in which the server says that it is not serving and answers all the
    same, new calls and streams too: whoever balances by its health sends new work elsewhere before
    any is refused. 1 is for callers that watch health, as the SDK with several addresses does; one
    that asks now and then needs its interval, and Kubernetes some 5. 0: work is refused at once."""

    drain_seconds: Annotated[float, Field(ge=0)] = 20.0
    """Seconds that follow for what is in flight: what was read is answered, then streams are ended.
    0: it is cancelled at once."""

    max_connection_age_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Age, in seconds, at which a connection is given up, and a stream ended once what was read
    from it is answered, give or take a tenth: callers connect anew, and so find servers that were
    added. 1800 suits several replicas. A connection whose calls take longer than as long again,
    `drain_seconds` and two seconds is cut. 0: none is given up."""

    @property
    def stop_seconds(self) -> float:
        """Seconds that a process may answer calls once it is told to end."""
        return self.lame_duck_seconds + self.drain_seconds

    follow_seconds: Annotated[float, Field(gt=0)] = 0.5
    """Interval at which the store is polled for changes by other processes, in seconds."""


class SecurityConfig(_Section):
    """Who may call, and how much; on loopback, callers need no credentials unless set here."""

    cert: Path | None = None
    """The server's certificate chain, a PEM file. Together with `key` it enables TLS."""
    key: Path | None = None
    """The private key of `cert`, a PEM file."""
    client_ca: Path | None = None
    """Certificate authorities of client certificates, a PEM file; setting it enables mutual TLS."""
    tokens: Path | None = None
    """File of bearer tokens and their roles (service/auth.py); every call then needs a token."""
    allow_plaintext: bool = False
    """Whether to listen on another address than loopback without TLS."""

    calls_per_second: Annotated[float, Field(ge=0)] = 0.0
    """Token bucket of calls, refill rate: screenshots and other calls a second that one
    caller may make. A caller is a bearer token, or an address where no token is needed. 0: no
    limit."""
    calls_burst: Positive = 100
    """Token bucket of calls, burst size: calls that one caller may make at once after a pause."""
    bytes_per_second: Annotated[int, Field(ge=0)] = 0
    """Token bucket of bytes, refill rate: encoded bytes of screenshots a second that one caller may
    send for classification. 0: no limit."""
    bytes_burst: Positive = 64 * 1024 * 1024
    """Token bucket of bytes, burst size. A screenshot larger than this can never be admitted."""


class RecognitionConfig(_Section):
    """How the evidence for each page becomes an answer."""

    method: Literal["pagesight", "seed"] = "pagesight"
    """Recognition method. `seed` is the published baseline, for comparison."""

    epsilon: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Target false rejection rate: share of screenshots of known pages that may be answered
    `other`."""

    review_above: Annotated[float, Field(ge=0, le=1)] = 0.95
    """Doubt, 0 to 1, above which an accepted answer is flagged for review. Doubt is a quantile of
    the calibration set: at 0.95, each reason flags at most 5 % of known pages while traffic is like
    the gallery. 1: never."""

    texts_per_label: Annotated[int, Field(ge=20, le=10_000)] = TEXTS_PER_LABEL
    """Pictures of a label at most whose text is learnt from: the newest quarter of so many, and
    others as good as drawn by lot. A start takes time and memory for each; of all pictures, looks
    are compared. `seed` compares the texts of all."""

    ocr: bool = True
    """Whether text is read when a request does not say."""


class ComputeConfig(_Section):
    """Where the models run. A count of 0 is replaced by a default for this machine."""

    device: Device = "cpu"
    """`cpu` or `cuda`."""
    encoder_threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of one encoder run. 0: one."""
    batch_sizes: tuple[int, ...] = ()
    """Encoder batch sizes, ascending: a batch is padded to the next of them, and each is run once
    as warm-up before the server is ready. Empty: 1, 2, 4, 8, 16 and 32 on CUDA, where every new
    shape costs a preparation, and any size on a CPU, where padding costs as much as pictures."""
    max_batch: Annotated[int, Field(ge=0)] = 0
    """Largest encoder batch, formed of what queued while the last one ran. 0: the largest of
    `batch_sizes`, or 1 where any size runs."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 0.0
    """Milliseconds that an idle encoder waits for a batch to fill. 0: it starts at once, which is
    best on a CPU, where two screenshots take twice as long as one."""
    ocr_threads: Annotated[int, Field(ge=0)] = 0
    """Text detection threads, and as many text recognition threads. 0: one of each per core of
    the process, so that no core idles while one of the two stages has nothing to do, at some 150 MB
    a core; on CUDA one of each. On CUDA at least half of the cores find text and share the
    detectors' sessions."""
    reading: ReadingMode | None = None
    """`cascade`: the draft of the OCR bundle reads every line, and its recognition network again
    what the draft is unsure of. `full`: the recognition network alone. Not set: the cascade, where
    the bundle has a draft. Texts differ in less than 0.5 % of the characters (docs/benchmarks.md,
    Reading), so a gallery that was read the one way may be asked the other way."""
    gpu_memory_mb: Annotated[int, Field(ge=0)] = 4096
    """GPU memory limit of one session, in MB: the encoder's, and of each OCR thread that for any
    shape and those of fixed shapes together, and of each network that reads; seven with the
    defaults and a draft. Checked at start against the
    memory that is free, with what lies outside these limits. 0: no limit."""

    fixed_shapes: bool = True
    """Whether text is read in a session for each of a few shapes on CUDA, which are all run as
    warm-up, instead of one that is prepared anew at each change of shape. On a CPU: no effect."""
    cuda_graphs: bool = False
    """Whether the sessions that recognise text record their kernels once, in the thread that reads,
    and play them back. Not tried on a GPU yet."""

    @model_validator(mode="after")
    def _graphs_have_fixed_shapes(self) -> ComputeConfig:
        if self.cuda_graphs and not self.fixed_shapes:
            raise ValueError("cuda_graphs needs fixed_shapes = true")
        return self

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
        """Encoder batch sizes in effect; empty where any size runs."""
        return self.batch_sizes or (CUDA_BATCH_SIZES if self.device == "cuda" else ())

    @property
    def batch_limit(self) -> int:
        """Largest encoder batch in effect."""
        return self.max_batch or (self.sizes[-1] if self.sizes else CPU_BATCH_LIMIT)


class GalleryConfig(_Section):
    """What the store keeps of pictures: form, quotas, retention."""

    keep_images: Literal["original", "thumbnail", "none"] = "original"
    """Whether pictures are stored as received, as a JPEG of at most 640 pixels a side, or not at
    all. Reports show what is stored; `gallery reindex` needs originals."""

    max_pictures: Positive | None = None
    """Quota of each gallery, in pictures. Not set: no limit."""

    max_bytes: Positive | None = None
    """Quota of each gallery, in bytes of stored pictures, without their embeddings and texts. Not
    set: no limit."""

    keep_removed_days: Annotated[int, Field(ge=0)] = 0
    """Retention of removed pictures, in days: `gallery purge --expired` deletes the contents of
    those removed longer ago, which no rollback can then bring back. 0: kept for ever."""

    store_password_file: Path | None = None
    """File whose first line is the password of a PostgreSQL store; read for each new connection.
    Not set: libpq's own PGPASSWORD, ~/.pgpass or PGSERVICE."""

    store_connections: Positive = 8
    """Connections that each process holds at most to a PostgreSQL store."""

    store_folder: Path | None = None
    """Folder in which the indexes of a PostgreSQL store are kept on this machine, each store's in
    one of its own. Not set: the working folder. Those of a SQLite file are beside it."""

    @property
    def postgres(self) -> PostgresOptions:
        """What a PostgreSQL store needs beside its address."""
        return PostgresOptions(
            password_file=self.store_password_file,
            connections=self.store_connections,
            folder=self.store_folder,
        )

    @property
    def limits(self) -> Limits:
        """What each gallery may hold at most, as the store takes it."""
        return Limits(max_pictures=self.max_pictures, max_bytes=self.max_bytes)


class ReviewConfig(_Section):
    """Which answers are kept, with their pictures, for a person to look at (`pagesight review`).

    These are callers' screenshots: see docs/personal-data.md, Answers kept for review.
    """

    keep: Annotated[int, Field(ge=0)] = 0
    """Answers that are kept of each gallery: doubtful ones, rejections, and some that are drawn at
    random; the oldest go first. 0: none, and those that are there are forgotten."""

    keep_days: Annotated[float, Field(gt=0, le=3650)] = 14.0
    """Days after which a kept answer is forgotten."""

    max_bytes: Positive = 1024 * 1024 * 1024
    """Bytes of kept pictures of each gallery, beyond which the oldest go."""

    keep_images: Literal["original", "thumbnail"] = "original"
    """Whether their pictures are kept as received, or as a JPEG of at most 640 pixels a side."""

    rejected_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the rejections that is kept, drawn at random, 0 to 1. Less, where most screenshots
    show unknown pages and would leave no room for doubtful answers."""

    random_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of all other answers that is kept, drawn at random, 0 to 1: without it nobody sees
    answers that are wrong and sure."""

    max_pictures: Positive = 10_000
    """Pictures that one Discover or Preview call may send. They are encoded and read as they
    come; their embeddings and texts, some KB each, stay in memory until the call ends."""

    @property
    def limits(self) -> KeepLimits:
        """How much is kept of each gallery, and for how long."""
        return KeepLimits(answers=self.keep, max_bytes=self.max_bytes, keep_days=self.keep_days)


class TelemetryConfig(_Section):
    """What has no standard OTEL_* variable; those choose the exporters (docs/monitoring.md)."""

    logs: Literal["text", "json"] = "text"
    """Format of the log on standard error; JSON lines carry trace and span id."""

    record_text: bool = False
    """Whether sampled spans contain the text read from screenshots, digits masked. That is personal
    data: leave this off unless you control where the spans go."""
