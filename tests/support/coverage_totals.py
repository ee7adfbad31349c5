"""A pytest plugin that prints the coverage of each package in one line, before the results.

`make coverage` loads it beside pytest-cov, whose own reports have a line for each file; that table
is `.venv/bin/coverage report` afterwards.
"""

from __future__ import annotations

import io

import coverage
import pytest

PACKAGES = ("pagesight", "pagesight_server", "pagesight_export")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a percentage of covered lines for each package that the tests ran at all."""
    if not config.pluginmanager.hasplugin("_cov"):
        return
    measured = coverage.Coverage()
    measured.load()
    figures = []
    for package in PACKAGES:
        try:
            percent = measured.report(include=f"*/{package}/*", file=io.StringIO())
        except coverage.exceptions.NoDataError:
            continue
        figures.append(f"{package} {percent:.0f} %")
    terminalreporter.write_line(f"lines covered: {', '.join(figures) or 'none'}")
