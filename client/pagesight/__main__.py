"""The `pagesight` command; says what to install where only the bare client is."""

from __future__ import annotations

import io
import sys


def main() -> int:
    """Runs the command line and returns its exit code."""
    try:
        from pagesight._cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "click", "rich"}:
            raise
        print(
            "the pagesight command needs its extra: pip install 'pagesight[cli]'", file=sys.stderr
        )
        return 2
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding lacks, such as a yen sign in GBK, costs no answer.
            stream.reconfigure(errors="backslashreplace")
    app()
    return 0


if __name__ == "__main__":
    sys.exit(main())
