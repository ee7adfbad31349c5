"""Telemetry that a test can look into, and models that run in batches and read in two stages."""

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
    """Telemetry into memory.

    Args:
        sampler: Decides as OTEL_TRACES_SAMPLER would.
        record_text: As the setting.
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
        """What ended and was sampled, in the order of the ends."""
        return tuple(self._spans.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans of a name."""
        return [span for span in self.spans if span.name == name]

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The spans right below one."""
        return [
            span
            for span in self.spans
            if span.parent is not None and span.parent.span_id == parent.context.span_id
        ]

    def points(self, metric: str) -> Points:
        """The data points of a metric now, by their attributes."""
        return self.collect().get(metric, {})

    def collect(self) -> dict[str, Points]:
        """All metrics now, by name; exemplars are those since the last look."""
        data = self._reader.get_metrics_data()
        return {
            found.name: {
                tuple(sorted((point.attributes or {}).items())): point
                for point in found.data.data_points
            }
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for found in scope.metrics
        }

    def metrics(self) -> str:
        """All metrics now, as text."""
        data = self._reader.get_metrics_data()
        return "" if data is None else data.to_json()


class BatchedModels(FakeModels):
    """Fake models behind the real batcher; they read in two stages, as the OCR engine does."""

    def __init__(self) -> None:
        super().__init__()
        self.batcher = batcher()

    async def encode(self, pixels: Pixels) -> Embedding:
        """The mean colour, in company."""
        await super().encode(pixels)
        embedding, _ = await self.batcher.submit(pixels)
        return embedding

    async def read(self, pixels: Pixels) -> Reading:
        """What the test wrote for the colour."""
        with measure("detect"):
            pass
        with measure("recognise"):
            return await super().read(pixels)


def batcher(*, max_batch: int = 16, max_wait_ms: float = 0.0) -> Batcher[Pixels, Embedding]:
    """Sees mean colours, in batches."""
    config = BatchConfig(max_batch=max_batch, max_wait_ms=max_wait_ms)
    return Batcher[Pixels, Embedding](_see, config, name="fake")


def _see(pictures: Sequence[Pixels]) -> list[Embedding]:
    return [unit(*(value + 1 for value in mean_colour(pixels))) for pixels in pictures]
