"""All that answers need of one gallery at one revision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pagesight_server.gallery.snapshot import Snapshot
from pagesight_server.recognition.calibration import EPSILON, Calibration, Scores, calibrate
from pagesight_server.recognition.evidence import METHODS, Method, MethodName, PagesightMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """All that answers need of one gallery at one revision; immutable, so swapped whole."""

    snapshot: Snapshot
    method_name: MethodName
    method: Method
    calibration: Calibration
    settled: bool = True
    """Whether all of it was learnt of this revision; else how pictures vary, of an earlier one."""

    @staticmethod
    def of(
        snapshot: Snapshot,
        name: MethodName = "pagesight",
        *,
        epsilon: float = EPSILON,
        calibration: Calibration | None = None,
        before: Knowledge | None = None,
        refit: bool = True,
        begun: Scores | None = None,
        step: Callable[[Scores], None] = lambda _scores: None,
    ) -> Knowledge:
        """Prepares a snapshot for queries, calibrating unless a calibration is given.

        Args:
            snapshot: What is known.
            name: How evidence is weighed.
            epsilon: Share of known pages that may be rejected.
            calibration: To answer by.
            before: Of an earlier revision; what is still true of it is not computed again.
            refit: Whether to learn anew how pictures of one page vary. Not: what `before` knows
                of that serves on, so that a page that is new is found at once.
            begun: As `calibrate` takes it.
            step: As `calibrate` takes it.
        """
        method: Method
        earlier = before.method if before is not None else None
        if name == "pagesight" and isinstance(earlier, PagesightMethod):
            method = PagesightMethod(snapshot, before=earlier, refit=refit)
        else:
            method = METHODS[name](snapshot)
        return Knowledge(
            snapshot=snapshot,
            method_name=name,
            method=method,
            calibration=calibration
            or calibrate(name, snapshot, method, epsilon, begun=begun, step=step),
            settled=refit or earlier is None,
        )
