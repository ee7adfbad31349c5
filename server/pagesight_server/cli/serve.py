"""`serve`, which runs the server, and `doctor`, which checks what it needs.

settings ──> access control, models, store ──> services ──> gRPC until SIGTERM
       ├───> several processes: the supervisor (processes/), which starts this command for each
       └───> doctor: checks of the same, one after the other
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from pagesight_server import telemetry, wiring
from pagesight_server.cli.doctor import examine
from pagesight_server.cli.gpu_watch import GpuWatch
from pagesight_server.cli.options import (
    BundlesOption,
    ConfigOption,
    JsonOption,
    MethodOption,
    StoreOption,
    out,
    print_json,
    settings_of,
)
from pagesight_server.common.errors import PagesightError
from pagesight_server.config import Config, config_from_json
from pagesight_server.gallery import Gallery
from pagesight_server.processes.launch import launch
from pagesight_server.processes.worker import Worker
from pagesight_server.service import auth, certificates
from pagesight_server.service.admission import Gate
from pagesight_server.service.audit import Audit
from pagesight_server.service.classifier import ClassifierService
from pagesight_server.service.galleries import GalleryService
from pagesight_server.service.rate_limits import CallerLimits, LimitGalleryCalls
from pagesight_server.service.reviews import ReviewService
from pagesight_server.service.server import serve as serve_grpc
from pagesight_server.workflows.heartbeat import Heartbeat, replica_name
from pagesight_server.workflows.reindexing import repair_galleries

log = logging.getLogger(__name__)

NAMED_GALLERIES = 5
"""Galleries at most that the line names which says where the server listens: a store may hold
thousands."""


def serve(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0: any free one.", show_default="50051"),
    ] = None,
    processes: Annotated[
        str | None,
        typer.Option(help="Processes behind the port: a number, or auto.", show_default="1"),
    ] = None,
    method: MethodOption = None,
    allow_plaintext: Annotated[
        bool | None,
        typer.Option(
            "--allow-plaintext",
            help="Allow an address other than loopback without TLS (security.cert).",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    worker: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Answer over gRPC until SIGTERM or Ctrl-C.

    Settings come from --config, then PAGESIGHT_... variables, then these options.
    A missing store is created empty: enrol pages while the server runs.

    Example: pagesight-server serve --store gallery.db --port 50051
    """
    if worker is not None:
        _work(Worker.of_supervisor(worker))
        return
    settings = settings_of(
        config,
        store=store,
        bundles=bundles,
        server={"host": host, "port": port, "processes": processes},
        recognition={"method": method},
        security={"allow_plaintext": allow_plaintext},
    )
    if settings.processes > 1:
        launch(settings, as_json=as_json)
    telemetry.configure_logs(settings.telemetry.logs, sys.stderr, telemetry.trace_of_now)
    asyncio.run(_serve(settings, Worker.alone(), as_json=as_json))


def _work(worker: Worker) -> None:
    """Serves as one of several processes; what goes wrong, the supervisor hears and tells."""
    settings = config_from_json(worker.config_json)
    telemetry.configure_logs(
        settings.telemetry.logs, sys.stderr, telemetry.trace_of_now, process=str(worker.number)
    )
    try:
        asyncio.run(_serve(settings, worker, as_json=False))
    except PagesightError as error:
        worker.failed(str(error))
        raise typer.Exit(1) from None
    except Exception:
        log.exception("this process ends")
        worker.failed(f"process {worker.number} cannot serve: its log says why")
        raise typer.Exit(1) from None


async def _serve(config: Config, worker: Worker, *, as_json: bool) -> None:
    worker.follow(config.server.stop_seconds)
    edge = auth.edge(config.server.host, config.security)
    if worker.leads:
        if warning := auth.open_to_all(config.server.host, config.security):
            log.warning(warning)
        for warning in certificates.warnings(config.security, datetime.now(UTC)):
            log.warning(warning)
    exporting = telemetry.setup(
        os.environ, record_text=config.telemetry.record_text, process=worker.number
    )
    # The leader is the first to start, and asks whether there is room for all; the others, whether
    # there is enough left for them.
    processes = config.processes if worker.leads and not worker.joins else 1
    try:
        async with wiring.models(config, processes=processes) as models:
            # Modules and models live as long as the server: no collection of garbage looks at them,
            # while it answers or at its exit, which took half the CPU time of a stop. Not the
            # galleries: those are replaced.
            gc.freeze()
            with wiring.opened(config) as store:
                await _serve_from(store, models, exporting, edge, worker, as_json=as_json)
    finally:
        await asyncio.to_thread(exporting.close)


async def _serve_from(
    store: Gallery,
    models: wiring.Models,
    exporting: telemetry.Exporting,
    edge: auth.Edge,
    worker: Worker,
    *,
    as_json: bool,
) -> None:
    config = models.config
    # Of several processes the leader reads the history, and hears from the others what is theirs.
    audit = Audit(store, None if worker.leads else worker.changed)
    worker.on_change = audit.has_line
    replica_id = uuid.uuid4().hex
    registry = models.registry(store, calibrates=worker.leads, replica_id=replica_id)
    server = config.server
    limits = CallerLimits(config.security)
    keeper = wiring.keeper(
        config, store, forgets=worker.leads, is_away=lambda: registry.watch.is_away
    )
    pipeline = models.pipeline(registry.get, remember=server.remember)
    enroller = models.enroller(store, pipeline)
    gpu = GpuWatch(exporting.telemetry.ran, worker.stop)
    models.observe(gpu.ran)
    telemetry.watch(
        exporting.meter,
        exporting.telemetry,
        queues=models.queues(),
        caches={"screenshots": pipeline.cache, "lines": models.ocr.pool.cache},
        lines=models.lines,
        known=registry.known,
        store_age_s=lambda: registry.watch.age_s,
    )
    for signal_name, exporters in (("traces", exporting.traces), ("metrics", exporting.metrics)):
        if exporters:
            log.info("%s: %s", signal_name, ", ".join(exporters))

    may_follow = asyncio.Event()

    async def turn() -> None:
        if worker.leads:
            # What has changed on the disk is made anew before it is read.
            await repair_galleries(
                store, models.bundles, pipeline.extract_features, concurrency=models.readers
            )
        await worker.may_load.wait()
        may_follow.set()

    async def load() -> None:
        start_s = time.monotonic()
        await registry.load(turn)
        log.info("all galleries are known after %.1f s", time.monotonic() - start_s)
        worker.loaded()
        await worker.serving.wait()

    async def told_to_stop() -> None:
        await stop.wait()
        registry.stop_recalibrating()

    async def follow(what: Callable[[float], Awaitable[None]]) -> None:
        await may_follow.wait()
        await what(server.follow_seconds)

    def ready(port: int) -> None:
        galleries = named_galleries(store.revisions())
        line = f"serving {config.store} ({galleries}) on {server.address(port)}"
        if worker.number:
            worker.listening(line, exporting.metrics_address)
        elif as_json:
            listening: dict[str, object] = {"host": server.host, "port": port}
            if exporting.metrics_address:
                listening["metrics"] = exporting.metrics_address
            typer.echo(json.dumps(listening))
        else:
            typer.echo(line)

    stop = worker.stop
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    heartbeat = Heartbeat(
        store,
        replica_name(server.port, worker.number),
        registry.revisions,
        replica_id=replica_id,
    )
    following = [
        asyncio.create_task(follow(what))
        for what in ((registry.follow, audit.follow) if worker.leads else (registry.follow,))
    ]
    following.append(asyncio.create_task(heartbeat.follow(server.follow_seconds)))
    keeper.start()
    try:
        if worker.joins:
            # Beside others that serve, it takes no call before it can answer.
            await _unless(stop, load())
        if worker.joins and stop.is_set():
            gpu.check()
            return
        await serve_grpc(
            ClassifierService(
                pipeline,
                Gate(config.active, server.max_waiting),
                registry.wait_for_revision,
                max_in_flight=server.max_in_flight_per_stream,
                ocr=config.recognition.ocr,
                telemetry=exporting.telemetry,
                limits=limits,
                max_stream_age_s=server.max_connection_age_seconds,
                keep=keeper.offer,
            ),
            GalleryService(store, enroller, registry, server, config.image),
            ReviewService(store, enroller, registry, config),
            server,
            max_image_bytes=config.image.max_bytes,
            stop=told_to_stop,
            ready=ready,
            interceptors=[
                telemetry.WatchCalls(exporting.telemetry),
                *edge.interceptors,
                LimitGalleryCalls(limits),
            ],
            credentials=edge.credentials,
            load=None if worker.joins else load,
            shared=worker.number > 0,
        )
    finally:
        for task in following:
            task.cancel()
        await keeper.close()
        await registry.close()
        if not registry.watch.is_away:  # else the end would wait for it
            await heartbeat.leave()
        for name, cache in models.caches(pipeline).items():
            log.info("cache hits, %s: %s", name, cache)
    gpu.check()


def named_galleries(revisions: Mapping[str, int]) -> str:
    """What a store holds, in a few words: the revisions of its first galleries, by name."""
    words = [f"{name} at revision {revisions[name]}" for name in sorted(revisions)]
    if len(words) > NAMED_GALLERIES:
        words[NAMED_GALLERIES:] = [f"and {len(words) - NAMED_GALLERIES:,} more"]
    return ", ".join(words) or "empty"


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Does the work, unless it is told to stop before it is done."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        stopping.cancel()


def doctor(
    store: StoreOption = None,
    bundles: BundlesOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check everything that `serve` needs: settings, bundles, models, store. Changes nothing.

    Reports all problems in one run. Exit code 1 when there is any.

    Example: pagesight-server doctor --store gallery.db
    """
    findings = asyncio.run(examine(settings_of(config, store=store, bundles=bundles), os.environ))
    if as_json:
        ok: dict[str, object] = {
            "ok": not findings.problems,
            "problems": findings.problems,
            "warnings": findings.warnings,
        }
        print_json(ok | findings.facts)
    else:
        for name, value in findings.facts.items():
            text = value if isinstance(value, str | int) else json.dumps(value)
            out.print(f"{name:>12}  {escape(str(text))}", soft_wrap=True)
        for warning in findings.warnings:
            typer.echo(f"pagesight-server: warning: {warning}", err=True)
    for problem in findings.problems:
        typer.echo(f"pagesight-server: {problem}", err=True)
    if findings.problems:
        raise typer.Exit(1)
