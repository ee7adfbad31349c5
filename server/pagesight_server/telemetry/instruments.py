"""The recorded metrics: names, units and buckets. Those read at collection are in gauges.py.

    name in OpenTelemetry         on the Prometheus endpoint
    pagesight.request.duration    pagesight_request_duration_seconds_{bucket,sum,count}
    pagesight.outcome             pagesight_outcome_total

These names are a contract with dashboards and alerts (`ops/`): add, never rename.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from opentelemetry.metrics import Meter
from opentelemetry.semconv._incubating.metrics.rpc_metrics import RPC_SERVER_CALL_DURATION

Outcome: TypeAlias = Literal["known", "other", "shed", "expired", "cancelled", "error"]
"""How a request ended: answered with a known page or with `other`, shed before any work, past its
deadline, cancelled by its caller, or failed."""

OUTCOME = "pagesight.outcome"
METHOD = "rpc.method"
GALLERY = "pagesight.gallery"
STAGE = "pagesight.stage"
QUEUE = "pagesight.queue"
REASON = "error.type"

REQUEST_S = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5),
    *(0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0),
)
"""Bucket bounds of request durations in seconds. An SLO can be read exactly only at one of them."""

STAGE_S = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Bucket bounds of stages and queues in seconds."""

BATCH_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Bucket bounds of batch sizes."""


class Instruments:
    """The counters and histograms of a meter."""

    def __init__(self, meter: Meter) -> None:
        self.call_duration = meter.create_histogram(
            RPC_SERVER_CALL_DURATION,
            unit="s",
            description="gRPC calls; a stream counts as one call, however long it is open",
            explicit_bucket_boundaries_advisory=REQUEST_S,
        )
        self.request_duration = meter.create_histogram(
            "pagesight.request.duration",
            unit="s",
            description="One screenshot, from its arrival to its answer",
            explicit_bucket_boundaries_advisory=REQUEST_S,
        )
        self.queue_wait = meter.create_histogram(
            "pagesight.queue.wait",
            unit="s",
            description="Waiting: for a place (admission), or for the model (encode, recognise: "
            "the longest wait of a batch)",
            explicit_bucket_boundaries_advisory=STAGE_S,
        )
        self.batch_size = meter.create_histogram(
            "pagesight.batch.size",
            unit="{item}",
            description="Items of one run: screenshots (encode) or lines of text (recognise)",
            explicit_bucket_boundaries_advisory=BATCH_ITEMS,
        )
        self.stage_duration = meter.create_histogram(
            "pagesight.stage.duration",
            unit="s",
            description="One stage of one screenshot, waiting for its model included",
            explicit_bucket_boundaries_advisory=STAGE_S,
        )
        self.outcome = meter.create_counter(
            "pagesight.outcome", unit="{request}", description="Screenshots by how they ended"
        )
