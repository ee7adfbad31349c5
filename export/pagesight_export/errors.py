"""Errors of an export; each message says what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExportError(Exception):
    """The command failed; its message is one line and says what to do next."""


class MissingPackageError(ExportError):
    """A package that this export needs is not installed."""


class SourceError(ExportError):
    """The source checkpoint is not what this export knows how to read."""


class BundleError(ExportError):
    """A bundle folder is absent, incomplete, changed, or answers wrongly."""


class ParityError(ExportError):
    """An exported encoder answers too differently from its source."""

    def __init__(self, message: str, report: Mapping[str, Any]) -> None:
        """Keep the measured report, for callers that want to see how far off the export is."""
        super().__init__(message)
        self.report = report
