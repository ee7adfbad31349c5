"""The hooks of pre-commit check what `make lint` and `make proto-check` check, no less."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_every_command_of_make_lint_and_the_proto_check_is_a_hook() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert recipe is not None
    linted = [line.strip().lstrip("@").removesuffix(" .") for line in recipe[1].splitlines()]

    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    hooks = [hook["entry"] for repo in config["repos"] for hook in repo["hooks"]]

    checks = [entry.removesuffix(" --force-exclude") for entry in hooks]
    assert checks == [
        *(command.replace("$(BIN)", ".venv/bin") for command in linted),
        "make proto-check",
    ]
