"""Entry point of `pagesight-export`; without typer or rich it says what to install."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from pagesight_export.cli import app
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"pagesight-export needs {error.name}: pip install 'pagesight[cpu,builtin]'\n"
        )
        sys.exit(1)
    app()


if __name__ == "__main__":
    main()
