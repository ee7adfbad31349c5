"""Entry point of `pagesight-export`: says what to install where the commands cannot load."""

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
