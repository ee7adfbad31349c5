"""Telemetry that a test can inspect, and fake models with the real batcher and two OCR stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.common.timings import measure
from pagesight_server.inference.batcher import BatchConfig, Batcher
from pagesight_server.telemetry import Telemetry
from pagesight_server.telemetry.instruments import Instruments
from pagesight_server.text.reading import Reading
from tests.support.parts import FakeModels, mean_colour, unit

Points = dict[tuple[tuple[str, Any], ...], Any]


class Watching:
    """Telemetry that is exported into memory.

    Args:
        sampler: The sampler, as OTEL_TRACES_SAMPLER would choose it; None: always on.
        record_text: Whether spans contain text, as the setting of this name.
    """

    def __init__(self, sampler: Sampler | None = None, *, record_text: bool = False) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        deciding = TracerProvider(sampler or ALWAYS_ON, shutdown_on_exit=False)
        agreeing = TracerProvider(ALWAYS_ON, shutdown_on_exit=False)
        for provider in (deciding, agreeing):
            provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")
        self.telemetry = Telemetry(
            tracer=deciding.get_tracer("test"),
            always=agreeing.get_tracer("test"),
            instruments=Instruments(self.meter),
            record_text=record_text,
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        """The sampled spans that have ended, in the order of their ends."""
        return tuple(self._spans.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans with this name."""
        return [span for span in self.spans if span.name == name]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The direct children of a span."""
        return [
            span
            for span in self.spans
            if span.parent is not None and span.parent.span_id == parent.context.span_id
        ]

    def points(self, metric: str) -> Points:
        """The present data points of a metric, by attributes."""
        return self.collect().get(metric, {})

    def collect(self) -> dict[str, Points]:
        """The present data points of all metrics, by name; exemplars since the last call."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: {
                tuple(sorted((point.attributes or {}).items())): point
                for point in metric.data.data_points
            }
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def metrics(self) -> str:
        """All present metrics, as JSON."""
        data = self._reader.get_metrics_data()
        return "" if data is None else data.to_json()


class BatchedModels(FakeModels):
    """Fake models behind the real batcher, with the two OCR stages of the real engine."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = batcher()

    async def encode(self, pixels: Pixels) -> Embedding:
        """Returns the mean colour as a unit vector, computed in a batch."""
        await super().encode(pixels)
        embedding, _ = await self.batcher.submit(pixels)
        return embedding

    async def read(self, pixels: Pixels) -> Reading:
        """Returns the prepared lines of the picture's colour."""
        with measure("detect"):
            pass
        with measure("recognise"):
            return await super().read(pixels)


def batcher(*, max_batch: int = 16, max_wait_ms: float = 0.0) -> Batcher[Pixels, Embedding]:
    """A batcher whose model computes mean colours."""
    config = BatchConfig(max_batch=max_batch, max_wait_ms=max_wait_ms)
    return Batcher[Pixels, Embedding](_encode_batch, config, name="fake")


def _encode_batch(pictures: Sequence[Pixels]) -> list[Embedding]:
    return [unit(*(value + 1 for value in mean_colour(pixels))) for pixels in pictures]
