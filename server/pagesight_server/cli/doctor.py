"""What would run with these settings, and what keeps it from running.

    device, bundles ──> memory ──> galleries ──> security, limits, telemetry
          └── a problem is noted, and the rest is looked at all the same

Nothing is changed: no store is made, no calibration kept, no port opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pagesight_server import wiring
from pagesight_server.common.errors import PagesightError
from pagesight_server.config import Config, cores
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.inference.memory import CODEC_BYTES_A_PIXEL
from pagesight_server.inference.onnx_session import MEGABYTE, providers
from pagesight_server.service import auth
from pagesight_server.telemetry.exporting import exporters_of
from pagesight_server.workflows.knowledge import load_calibration

REMEMBERED_BYTES = 20_000
"""Of one remembered screenshot: its embedding and its text."""

DETECTOR_MB = 600
"""Of one thread that finds text, once it has seen the largest picture: its session keeps what the
widest layers took. Measured: 560 MB after pictures of 5000 x 5000 pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found."""

    facts: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    """Each keeps the server from starting or a gallery from answering."""

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Notes what its block raises, and goes on."""
        try:
            yield
        except PagesightError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))


async def examine(config: Config, env: Mapping[str, str]) -> Findings:
    """Looks at everything that `serve` needs.

    Args:
        config: As `serve` would read it.
        env: The environment, for exporters.
    """
    found = Findings()
    found.facts.update(
        {
            "device": config.compute.device,
            "providers": list(providers()),
            "cores": cores(),
        }
    )
    running = await _models(config, found)
    found.facts["memory"] = memory_plan(config)
    _galleries(config, running, found)
    with found.noting():
        found.facts["security"] = _security(config)
    found.facts["limits"] = _limits(config)
    with found.noting():
        found.facts["telemetry"] = _telemetry(config, env)
    return found


async def _models(config: Config, found: Findings) -> Bundles | None:
    """Starts the models as `serve` would, which verifies hashes and golden pairs."""
    running: list[Bundles] = []
    with found.noting():
        async with wiring.models(config) as models:
            found.facts.update(
                {
                    "encoder": models.bundles.encoder,
                    "ocr": models.bundles.ocr,
                    "verified": "hashes and golden pairs of both bundles",
                    "readers": models.readers,
                }
            )
            running.append(models.bundles)
    return running[0] if running else None


def memory_plan(config: Config) -> dict[str, object]:
    """The most that each part may take, in MB, beside the models themselves."""
    server, image = config.server, config.image
    decoded = config.active + server.max_enrolments + server.max_examinations
    at_once = max(image.max_pixels, image.max_pixels_at_once)
    plan: dict[str, object] = {
        "pixels_mb": decoded * 3 * image.max_pixels // MEGABYTE,
        "decoding_mb": at_once * CODEC_BYTES_A_PIXEL // MEGABYTE,
        "reading_mb": config.ocr_threads * DETECTOR_MB,
        "waiting_mb": server.max_waiting * image.max_bytes // MEGABYTE,
        "enrolments_mb": server.max_enrolments * server.max_enrol_bytes // MEGABYTE,
        "remembered_mb": server.remember * REMEMBERED_BYTES // MEGABYTE,
        "process_now_mb": _resident_mb(),
        "machine_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MEGABYTE,
    }
    if config.compute.device == "cuda":
        plan["gpu_per_session_mb"] = config.compute.gpu_memory_mb
    return plan


def _resident_mb() -> int:
    """Resident memory, the models having just been loaded; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // MEGABYTE


def _galleries(config: Config, running: Bundles | None, found: Findings) -> None:
    if not config.store.is_file():
        found.facts["store"] = f"{config.store} does not exist yet: `serve` and `index` make it"
        return
    found.facts["store"] = str(config.store)
    with found.noting(), wiring.opened(config.store) as store:
        for name in store.revisions():
            with found.noting():
                snapshot = store.snapshot(name)
                found.facts[f"gallery {name}"] = _gallery(config, store, snapshot)
                if running is not None:
                    check_bundles(name, snapshot.bundles, running)


def _gallery(config: Config, store: Gallery, snapshot: Snapshot) -> str:
    recognition = config.recognition
    calibration = load_calibration(store, snapshot, recognition.method, recognition.epsilon)
    return (
        f"revision {snapshot.revision}, {len(snapshot.labels)} labels, "
        f"{len(snapshot.pictures)} pictures, "
        + (
            f"calibrated: a page is known from {calibration.threshold_with_text:.4f} on"
            if calibration
            else "not calibrated yet: `serve` does it at its start"
        )
    )


def _limits(config: Config) -> dict[str, object]:
    server, image = config.server, config.image
    return {
        "max_bytes": image.max_bytes,
        "max_pixels": image.max_pixels,
        "max_pixels_at_once": image.max_pixels_at_once,
        "max_active": config.active,
        "max_waiting": server.max_waiting,
        "max_in_flight_per_stream": server.max_in_flight_per_stream,
        "max_enrol_items": server.max_enrol_items,
        "max_enrolments": server.max_enrolments,
        "max_examinations": server.max_examinations,
        "drain_seconds": server.drain_seconds,
    }


def _security(config: Config) -> dict[str, object]:
    """Who may call; reads certificates and tokens as `serve` would."""
    host, settings = config.server.host, config.security
    edge = auth.edge(host, settings)
    said: dict[str, object] = {
        "address": f"{host}:{config.server.port}",
        "tls": edge.credentials is not None,
        "client_certificates": settings.client_ca is not None,
        "tokens": settings.tokens is not None,
        "caller_limits": bool(settings.calls_per_second or settings.bytes_per_second),
    }
    if warning := auth.open_to_all(host, settings):
        said["warning"] = warning
    return said


def _telemetry(config: Config, env: Mapping[str, str]) -> dict[str, object]:
    traces, metrics = exporters_of(env)
    said: dict[str, object] = {
        "traces": list(traces),
        "metrics": list(metrics),
        "logs": config.telemetry.logs,
        "record_text": config.telemetry.record_text,
    }
    if "otlp" in (*traces, *metrics):
        said["otlp"] = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    if "prometheus" in metrics:
        host = env.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
        said["prometheus"] = f"{host}:{env.get('OTEL_EXPORTER_PROMETHEUS_PORT', '9464')}"
    return said
