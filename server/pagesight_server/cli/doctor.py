"""Checks of everything that `serve` needs, with the settings that it would run with.

    device, bundles ──> memory ──> galleries ──> security, limits, telemetry
          └── a failed check is reported, and the others are still made

Nothing is changed: no store is created or brought forward to a newer schema, no calibration stored,
no port opened.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pagesight_server import wiring
from pagesight_server.common.cores import cores
from pagesight_server.common.errors import OlderStoreError, PagesightError
from pagesight_server.common.memory import memory_bytes
from pagesight_server.config import Config
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.snapshot import Bundles, Snapshot, check_bundles
from pagesight_server.index.manager import gpu_mb
from pagesight_server.inference.memory import CODEC_BYTES_A_PIXEL
from pagesight_server.inference.onnx_session import BUFFERS_MB, CONTEXT_MB, MEGABYTE, providers
from pagesight_server.recognition.calibration import Calibration
from pagesight_server.service import auth, certificates
from pagesight_server.telemetry.exporting import PROMETHEUS_PORT, exporters_of
from pagesight_server.workflows.knowledge import (
    load_calibration,
    own_rejected,
    own_rejected_text,
    own_rejected_warning,
)

CACHE_ENTRY_BYTES = 20_000
"""Size of one entry of the screenshot cache: an embedding of some 5 KB, and lines with boxes."""

DETECTOR_MB = 450
"""Of one thread that finds text, once all of them have looked at the largest pictures at once: the
sessions' arena keeps what the widest layers took. Measured after pictures of 5000 x 5000 pixels:
339 MB for one thread, 830 for two, 1,626 for four; with a draft 273, 538 and 1,232."""

RECOGNISER_MB = 300
"""Of one thread that recognises lines, once all of them have read the widest at once. Measured
after lines of 8192 pixels: 277 MB for one thread, 475 for two, 836 for four."""

DRAFT_MB = 100
"""The same of its draft: 89, 156 and 313 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Collects the results of all checks."""

    facts: dict[str, object] = field(default_factory=dict)
    """What would run, by name, in the order of the checks."""
    problems: list[str] = field(default_factory=list)
    """Failed checks: each keeps the server from starting or a gallery from answering."""
    warnings: list[str] = field(default_factory=list)
    """Each makes a gallery answer worse than it could, or is to be known before `serve` starts."""

    @contextmanager
    def check(self) -> Iterator[None]:
        """Records an expected error of its block as a problem, instead of raising it."""
        try:
            yield
        except PagesightError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))


async def examine(config: Config, env: Mapping[str, str]) -> Findings:
    """Checks everything that `serve` needs.

    Args:
        config: The settings, as `serve` would read them.
        env: The environment variables, which choose the exporters.
    """
    findings = Findings()
    findings.facts.update(
        {
            "device": config.compute.device,
            "providers": list(providers()),
            "cores": cores(),
            "processes": config.processes,
        }
    )
    running = await _models(config, findings)
    with findings.check():
        findings.facts["memory"] = memory_plan(config)
    _galleries(config, running, findings)
    with findings.check():
        findings.facts["security"] = _security(config)
    findings.facts["limits"] = _limits(config)
    with findings.check():
        findings.facts["telemetry"] = _telemetry(config, env)
    return findings


async def _models(config: Config, findings: Findings) -> Bundles | None:
    """Starts the models as `serve` would, which verifies hashes and golden pairs.

    Returns:
        The bundles; None when they cannot be used.
    """
    bundles: Bundles | None = None
    with findings.check():
        async with wiring.models(config, processes=config.processes) as models:
            findings.facts.update(
                {
                    "encoder": models.bundles.encoder,
                    "resized_by": models.resized_by,
                    "ocr": models.bundles.ocr,
                    "verified": "hashes and golden pairs of both bundles",
                    "readers": models.readers,
                    "reading": models.ocr.reading,
                }
            )
            bundles = models.bundles
    return bundles


def memory_plan(config: Config) -> dict[str, object]:
    """The most that each part may take in all processes, in MB, beside the models themselves.

    Raises:
        SetupError: the index is to be on a GPU that faiss does not have.
    """
    server, image = config.server, config.image
    decoded = config.active + server.max_enrolments + server.max_examinations
    at_once = max(image.max_pixels, image.max_pixels_at_once)
    each = {
        "pixels_mb": decoded * 3 * image.max_pixels // MEGABYTE,
        "decoding_mb": at_once * CODEC_BYTES_A_PIXEL // MEGABYTE,
        "reading_mb": config.ocr_threads * DETECTOR_MB,
        "recognising_mb": config.ocr_threads
        * (RECOGNISER_MB + (config.compute.reading != "full") * DRAFT_MB),
        "waiting_mb": server.max_waiting * image.max_bytes // MEGABYTE,
        "enrolments_mb": server.max_enrolments * server.max_enrol_bytes // MEGABYTE,
        "remembered_mb": server.remember * CACHE_ENTRY_BYTES // MEGABYTE,
    }
    plan: dict[str, object] = {name: config.processes * mb for name, mb in each.items()}
    plan |= {
        "process_now_mb": _resident_mb(),
        "machine_mb": memory_bytes() // MEGABYTE,
    }
    if config.compute.device == "cuda":
        # A draft may be in the bundle, which this does not open.
        networks = 1 + (config.compute.reading != "full")
        limits = config.processes * wiring.memory_limits(config, networks)
        plan["gpu_sessions_mb"] = limits * config.compute.gpu_memory_mb
        plan["gpu_inputs_mb"] = limits * BUFFERS_MB
        plan["gpu_cuda_mb"] = config.processes * CONTEXT_MB
        index_mb = gpu_mb(config.index, wiring.index_folder(config))
        plan["gpu_index_mb"] = config.processes * index_mb
    return plan


def _resident_mb() -> int:
    """Resident memory of this process, in MB; 0 where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // MEGABYTE


def _galleries(config: Config, running: Bundles | None, findings: Findings) -> None:
    findings.facts["store"] = str(config.store)
    if isinstance(config.store, Path):
        if not config.store.is_file():
            findings.facts["store"] = (
                f"{config.store} does not exist yet: `serve` or `index` creates it"
            )
            return
        if config.store.stat().st_mode & stat.S_IROTH:
            findings.facts["store"] = (
                f"{config.store} (everybody on this machine may read it: chmod 600)"
            )
    with findings.check():
        try:
            _each_gallery(config, running, findings)
        except OlderStoreError as older:
            if older.version:
                findings.warnings.append(f"{older}; its galleries were not looked at")
            else:
                findings.facts["store"] = str(older)


def _each_gallery(config: Config, running: Bundles | None, findings: Findings) -> None:
    shares: dict[str, object] = {}
    with wiring.opened(config, must_exist=True, migrates=False) as store:
        for name in store.revisions():
            with findings.check():
                snapshot = store.snapshot(name)
                calibration = _calibration(config, store, snapshot)
                findings.facts[f"gallery {name}"] = _gallery(snapshot, calibration)
                if calibration is not None:
                    shares[name] = own_rejected(calibration)
                    if warning := own_rejected_warning(calibration):
                        findings.warnings.append(f"gallery {name}: {warning}")
                if running is not None:
                    check_bundles(name, snapshot.bundles, running)
    if shares:
        findings.facts["own_rejected"] = shares


def _calibration(config: Config, store: Gallery, snapshot: Snapshot) -> Calibration | None:
    recognition = config.recognition
    return load_calibration(store, snapshot, recognition.method, recognition.epsilon)


def _gallery(snapshot: Snapshot, calibration: Calibration | None) -> str:
    told = "not calibrated yet: `serve` does it when it starts"
    if calibration is not None:
        told = f"calibrated: threshold {calibration.threshold_with_text:.4f}; " + own_rejected_text(
            calibration
        )
    return (
        f"revision {snapshot.revision}, {len(snapshot.labels)} labels, "
        f"{len(snapshot.pictures)} pictures, "
        + (f"{len(snapshot.damaged)} more left out as damaged, " if snapshot.damaged else "")
        + told
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
    """The access control in effect; reads certificates and tokens as `serve` would."""
    host, settings = config.server.host, config.security
    edge = auth.edge(host, settings)
    security: dict[str, object] = {
        "address": config.server.address(),
        "tls": edge.credentials is not None,
        "client_certificates": settings.client_ca is not None,
        "tokens": settings.tokens is not None,
        "caller_limits": bool(settings.calls_per_second or settings.bytes_per_second),
    }
    if warning := auth.open_to_all(host, settings):
        security["warning"] = warning
    if untimely := certificates.warnings(settings, datetime.now(UTC)):
        security["certificates"] = untimely
    return security


def _telemetry(config: Config, env: Mapping[str, str]) -> dict[str, object]:
    """The exporters in effect, and where they export to."""
    traces, metrics = exporters_of(env)
    exporting: dict[str, object] = {
        "traces": list(traces),
        "metrics": list(metrics),
        "logs": config.telemetry.logs,
        "record_text": config.telemetry.record_text,
    }
    if "otlp" in (*traces, *metrics):
        exporting["otlp"] = env.get("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    if "prometheus" in metrics:
        host = env.get("OTEL_EXPORTER_PROMETHEUS_HOST", "localhost")
        port = int(env.get("OTEL_EXPORTER_PROMETHEUS_PORT") or PROMETHEUS_PORT)
        last = f" to {port + config.processes - 1}" if port and config.processes > 1 else ""
        exporting["prometheus"] = f"{host}:{port}{last}"
    return exporting
