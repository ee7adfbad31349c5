"""`make demo`: index, serve and classify generated screenshots. Run in the repository root.

    draw screenshots -> pagesight-server index -> pagesight-server serve
                                 -> stream them through the client -> table, demo/report.html

Server and models are the real ones. Every command is printed before it runs, as a user would type
it.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

import pagesight
from pagesight import OTHER, Classification, Client, PagesightError
from pagesight_server.evaluation import AnswerRow, answers_report
from pagesight_server.recognition.findings import Finding
from pagesight_server.text.reading import Box
from tests.samples import DEMO_LABELS, FontMissingError, write_dataset
from tests.support.process import end_by_exception, served

DEMO = Path("demo")
SCREENS, STORE, REPORT = DEMO / "screens", DEMO / "gallery.db", DEMO / "report.html"
BUNDLES = Path("bundles")
BIN = Path(sys.executable).parent

out = Console(highlight=False, width=None if sys.stdout.isatty() else 110)


def main() -> int:
    """Runs the demo; returns 0 when every screenshot was answered."""
    if DEMO.exists():
        shutil.rmtree(DEMO)
    out.print("[bold]1  drawing sample screenshots[/] of finance apps that look much alike")
    write_dataset(SCREENS, labels=DEMO_LABELS, gallery=4, test=2, other=2, jobs=2)
    out.print("[bold]2  indexing[/] four labelled pictures of each of six pages")
    _run("pagesight-server", "index", SCREENS / "gallery", "--store", STORE)
    out.print("[bold]3  serving[/] and streaming other screenshots through the client")
    with _served() as address:
        rows = _classify(address)
    _print(rows)
    REPORT.write_text(
        answers_report(
            rows,
            "pagesight demo",
            subtitle=f"{len(rows)} screenshots against a gallery of {len(DEMO_LABELS)} pages",
        ),
        encoding="utf-8",
    )
    out.print(f"\nthe same with pictures: [bold]{REPORT}[/]")
    out.print(
        "next: put screenshots into [bold]mine/<page>/[/], then "
        "[bold].venv/bin/pagesight-server index mine --store gallery.db[/] (see README.md)"
    )
    return 0


def _command(program: str, *arguments: object) -> list[str]:
    command = [program, *map(str, arguments), "--bundles", str(BUNDLES)]
    out.print(f"   [dim]$ .venv/bin/{escape(shlex.join(command))}[/]", soft_wrap=True)
    return [str(BIN / program), *command[1:]]


def _run(program: str, *arguments: object) -> None:
    subprocess.run(_command(program, *arguments), check=True)


def _served() -> AbstractContextManager[str]:
    command = _command("pagesight-server", "serve", "--store", STORE, "--port", 0, "--json")
    return served(command, DEMO / "server.log")


def _classify(address: str) -> list[AnswerRow]:
    """Classifies all test screenshots over one stream."""
    paths = sorted((SCREENS / "test").glob("*/*"))
    gallery = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for path in (SCREENS / "gallery").glob("*/*")
    }
    rows = []
    with Client(address) as client:
        images = ((path, path.read_bytes()) for path in paths)
        for result in client.classify_stream(images, ordered=True, top_k=2, explain=True):
            if result.classification is None:
                raise SystemExit(f"{result.key}: {result.error}")
            rows.append(_row(result.key, result.classification, gallery))
    return rows


def _row(path: Path, answer: Classification, gallery: dict[str, Path]) -> AnswerRow:
    nearest = gallery.get(answer.candidates[0].image_id) if answer.candidates else None
    return AnswerRow(
        name=f"{path.parent.name}/{path.name}",
        image=path.read_bytes(),
        truth=path.parent.name,
        label=answer.label,
        closest_label=answer.closest_label,
        score=answer.score,
        threshold=answer.threshold,
        reasons=answer.reasons,
        nearest=nearest.read_bytes() if nearest else None,
        stage_ms=answer.stage_ms,
        findings=tuple(
            Finding(
                kind=finding.kind,
                text=finding.text,
                query_box=_box(finding.query_box),
                gallery_box=_box(finding.gallery_box),
                note=finding.note,
            )
            for finding in answer.findings
            if finding.kind != "unknown"
        ),
    )


def _box(box: pagesight.Box | None) -> Box | None:
    return Box(box.left, box.top, box.right, box.bottom) if box else None


def _print(rows: list[AnswerRow]) -> None:
    table = Table(title="what the server answered", title_justify="left", show_lines=True)
    table.add_column("screenshot shows", overflow="fold", max_width=22)
    table.add_column("answer", overflow="fold", max_width=22)
    table.add_column("score", justify="right")
    table.add_column("why", overflow="fold")
    for row in rows:
        mark = "[green]✓[/]" if row.right else "[red]✗[/]"
        answer = f"[bold yellow]{OTHER}[/]" if row.label == OTHER else escape(row.label)
        verdict = "≥" if row.score >= row.threshold else "<"
        table.add_row(
            escape(str(row.truth)),
            f"{mark} {answer}",
            f"{row.score:.3f}\n{verdict} {row.threshold:.3f}",
            escape("\n".join(row.reasons)),
        )
    out.print()
    out.print(table)
    right = sum(bool(row.right) for row in rows)
    rejected = sum(row.label == OTHER for row in rows)
    out.print(f"{right} of {len(rows)} right; {rejected} answered [bold yellow]{OTHER}[/]")


if __name__ == "__main__":
    end_by_exception()
    try:
        sys.exit(main())
    except (FontMissingError, PagesightError, subprocess.CalledProcessError) as error:
        sys.exit(f"demo: {error}")
