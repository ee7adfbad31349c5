"""The answer to one screenshot, with all that it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field

from pagesight_server.common.timings import StageTimes
from pagesight_server.recognition.candidates import Query
from pagesight_server.recognition.decision import Decision
from pagesight_server.recognition.knowledge import Knowledge


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A decision and what it rests on."""

    decision: Decision
    knowledge: Knowledge
    query: Query
    left_out: int | None = None
    """Row of the snapshot whose picture is the query, as if it were not enrolled; None: none is."""
    stage_ms: StageTimes = field(default_factory=StageTimes)
