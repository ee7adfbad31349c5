"""What reading by a draft costs and changes: `make bench-cascade SETS="DIR ..."`.

    DIR/test/**     ──detector──> lines ──> draft, narrow ─────────────┐
    DIR/gallery/**  ──────────────┘         recognition, narrow, padded ┴─> text, confidences
    each sign, each limit ──> lines and width read again, characters that differ, names lost
                          ──> the limit that the rule picks

    DIR/test/**     ──> engine, full ─────┐
                    ──> engine, cascade ──┴─> CPU-seconds of a screenshot, interleaved

Texts are compared line by line on the same boxes with those of the recognition network as the
engine reads without a draft. Names are the brands of `DIR/gallery/labels.toml`, where there is one.
The rule: the least hundredth of the mean confidence at which at most 0.5 % of the characters differ
over all sets, and no line loses a name. One thread; CPU-seconds are user and system time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rich.console import Console
from rich.table import Table

from pagesight_server.common.arrays import Pixels
from pagesight_server.inference import bundle
from pagesight_server.inference.bundle import Bundle
from pagesight_server.inference.decode import decode
from pagesight_server.inference.ocr import OcrEngine, OcrSettings, load
from pagesight_server.inference.ocr.detector import Detector
from pagesight_server.inference.ocr.engine import library_numbers, sure_from
from pagesight_server.inference.ocr.recogniser import Network, Recogniser, decode_ctc
from pagesight_server.inference.ocr.settings import library_widths
from pagesight_server.inference.settings import Compute, ImageLimits
from pagesight_server.text.matching import matching_key
from tests.bench.bench_ocr import chosen
from tests.bench.measure import machine, own_cpu_s, quantile

MAX_DIFFER = 0.005
"""Share of characters that may differ, by the rule."""
LIMITS = (0.80, 0.85, 0.90, 0.93, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
WITHIN = (0.0075, 0.005, 0.004)
"""Shares of characters at which signs are compared by what they cost."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a line."""

    raw: str
    mean: float
    """Mean confidence of its characters."""
    least: float
    """The least confidence of a character."""
    steps: float
    """Mean confidence of all time steps, blanks included."""
    kept: str
    """The text, empty where the engine drops the line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a screenshot, read by both networks."""

    of: str
    """The set that it is of."""
    width: int
    """Narrow width in pixels that it is padded to."""
    padded: int
    """Width in pixels as the library pads it."""
    draft: Reading
    again: Reading
    """The recognition network's, as the library pads."""
    full: Reading
    """The recognition network's, as the engine reads without a draft."""
    full_columns: int
    """Columns that this takes."""
    in_gallery: bool
    """Whether a gallery picture has a line of the same matching key as the draft's."""

    def differ(self, reading: Reading) -> int:
        """Characters that differ from the full reading."""
        return Levenshtein.distance(reading.kept, self.full.kept)


class Probe(Recogniser):
    """A recogniser that gives every confidence, and its CPU time."""

    cpu_s = 0.0
    columns = 0

    def probe(self, strip: Pixels, width: int, least: float) -> Reading:
        """Reads one strip; below the confidence `least` the engine would drop it."""
        crop = np.zeros((1, *strip.shape[:1], width, 3), np.uint8)
        crop[0, :, : strip.shape[1]] = strip
        started_s = time.thread_time()
        outputs = self.graph.run({"crops": crop, "widths": np.array([strip.shape[1]])})
        self.cpu_s += time.thread_time() - started_s
        self.columns += width
        indices, steps = outputs["indices"][0], outputs["confidences"][0]
        [(text, mean)] = decode_ctc(
            outputs["indices"], outputs["confidences"], self._characters, self._blank
        )
        keep = indices != self._blank
        keep[1:] &= indices[1:] != indices[:-1]
        of_characters = steps[keep] if keep.any() else np.zeros(1, np.float32)
        kept = text if text.strip() and mean >= least else ""
        return Reading(text, mean, float(of_characters.min()), float(steps.mean()), kept)


class Reader:
    """Finds the lines of pictures and reads each with both networks."""

    def __init__(self, source: Bundle) -> None:
        self.settings, self.library = OcrSettings(), library_numbers(source)
        self._detector = Detector(source, Compute(), max_enlarged_px=self.settings.max_enlarged_px)
        networks: tuple[Network, ...] = ("draft", "recognition")
        self.probes = {network: Probe(source, Compute(), network) for network in networks}

    def strips(self, path: Path) -> list[tuple[Pixels, int, int]]:
        """The lines of a picture: pixels, narrow width, width as the library pads."""
        regions = self._detector.find(decode(path.read_bytes(), ImageLimits()))
        widths = [region.strip.shape[1] for region in regions]
        padded = library_widths(widths, self.library)
        return [
            (region.strip, self.settings.width(width), self.settings.width(wide))
            for region, width, wide in zip(regions, widths, padded, strict=True)
        ]

    def read(self, strip: Pixels, width: int, network: Network) -> Reading:
        """One reading of a line."""
        return self.probes[network].probe(strip, width, self.library.min_confidence)

    def lines(self, folder: Path, count: int) -> Iterator[Line]:
        """All lines of a set's test screenshots."""
        keys = {
            matching_key(self.read(strip, width, "recognition").kept)
            for path in chosen(folder / "gallery", count)
            for strip, width, _padded in self.strips(path)
        }
        for number, path in enumerate(chosen(folder / "test", count), 1):
            if number % 8 == 0:
                print(f"{folder.name}: {number} of {count}", file=sys.stderr, flush=True)
            for strip, width, padded in self.strips(path):
                draft = self.read(strip, width, "draft")
                narrow = self.read(strip, width, "recognition")
                again = narrow if padded == width else self.read(strip, padded, "recognition")
                twice = padded != width and narrow.mean < self.settings.reread_below
                yield Line(
                    of=folder.name,
                    width=width,
                    padded=padded,
                    draft=draft,
                    again=again,
                    full=again if twice else narrow,
                    full_columns=width + padded * twice,
                    in_gallery=matching_key(draft.raw) in keys,
                )


SIGNS: Mapping[str, Callable[[Line], float]] = {
    "mean confidence": lambda line: line.draft.mean,
    "least confidence of a character": lambda line: line.draft.least,
    "mean confidence of all steps": lambda line: line.draft.steps,
    "mean + a tenth of the least": lambda line: line.draft.mean + line.draft.least / 10,
    "mean, by length (errors expected)": lambda line: -(1 - line.draft.mean) * len(line.draft.raw),
    "mean, by length and width again": lambda line: (
        -(1 - line.draft.mean) * line.width / line.padded
    ),
    "mean, other scripts than CJK first": lambda line: line.draft.mean + 0.02 * _cjk(line),
    "mean, lines of the gallery last": lambda line: line.draft.mean + 0.05 * line.in_gallery,
}
"""Smaller is read again first."""


def _cjk(line: Line) -> bool:
    return any("㐀" <= character <= "鿿" for character in line.draft.raw)


def at_limit(
    lines: Sequence[Line], limit: float, names: Sequence[str], speed: float
) -> dict[str, Any]:
    """What reading again below a mean confidence does."""
    again = [line.draft.mean < limit for line in lines]
    taken = [line.again if one else line.draft for line, one in zip(lines, again, strict=True)]
    characters = sum(len(line.full.kept) for line in lines)
    return {
        "limit": limit,
        "differ_percent": _percent(
            sum(line.differ(one) for line, one in zip(lines, taken, strict=True)), characters
        ),
        "without_spaces_percent": _percent(
            sum(
                Levenshtein.distance(*("".join(t.split()) for t in (one.kept, line.full.kept)))
                for line, one in zip(lines, taken, strict=True)
            ),
            characters,
        ),
        "lines_percent": _percent(sum(again), len(lines)),
        "width_percent": _percent(
            sum(line.width for line, one in zip(lines, again, strict=True) if one),
            sum(line.width for line in lines),
        ),
        "cost": round(
            _cost(lines, np.flatnonzero(again), speed) / sum(line.full_columns for line in lines), 3
        ),
        "names": sum(line.full.kept.count(name) for line in lines for name in names),
        "names_lost": sum(
            name in line.full.kept and name not in one.kept
            for line, one in zip(lines, taken, strict=True)
            for name in names
        ),
    }


def by_sign(lines: Sequence[Line], name: str, speed: float) -> dict[str, Any]:
    """The cost of reading again until few enough characters differ, by a sign."""
    order = np.argsort([SIGNS[name](line) for line in lines], kind="stable")
    characters = sum(len(line.full.kept) for line in lines)
    drafts = np.array([line.differ(line.draft) for line in lines])
    agains = np.array([line.differ(line.again) for line in lines])
    left = drafts.sum() + np.cumsum((agains - drafts)[order])
    row: dict[str, Any] = {"sign": name}
    full = sum(line.full_columns for line in lines)
    for within in WITHIN:
        enough = int(np.argmax(left <= within * characters)) + 1
        row[f"cost_at_{within:.2%}"] = round(_cost(lines, order[:enough], speed) / full, 3)
    return row


def _cost(lines: Sequence[Line], again: NDArray[np.intp], speed: float) -> float:
    """Columns of the recognition network that take as long."""
    first = sum(line.width for line in lines)
    return float(first / speed + sum(lines[i].padded for i in again))


def _percent(part: float, whole: float) -> float:
    return round(100 * part / max(1, whole), 3)


def choose(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The limit by the rule; None where none will do."""
    fit = (
        row["limit"]
        for row in rows
        if row["differ_percent"] <= 100 * MAX_DIFFER and not row["names_lost"]
    )
    return min(fit, default=None)


def engines(source: Bundle, pictures: Sequence[Pixels]) -> list[dict[str, Any]]:
    """CPU-seconds of whole readings, full and cascade in turns, caches empty."""
    settings = OcrSettings(cache_entries=0)
    sides: dict[str, OcrEngine] = {
        "full": load(source, Compute(), settings, reading="full"),
        "cascade": load(source, Compute(), settings, reading="cascade"),
    }
    cpu_s: dict[str, list[float]] = {name: [] for name in sides}
    with asyncio.Runner() as loop:
        for engine in sides.values():
            loop.run(engine.read(pictures[0][::-1]))
            engine.pool.settled = engine.pool.reread = 0
        for turn, pixels in enumerate(pictures):
            for name in list(sides)[:: 1 if turn % 2 else -1]:
                started_s = own_cpu_s()
                loop.run(sides[name].read(pixels))
                cpu_s[name].append(own_cpu_s() - started_s)
        for engine in sides.values():
            loop.run(engine.close())
    return [
        {
            "reading": name,
            "screenshots": len(pictures),
            "cpu_s_median": round(quantile(cpu_s[name], 0.5), 4),
            "cpu_s_mean": round(sum(cpu_s[name]) / len(pictures), 4),
            "of_full": round(sum(cpu_s[name]) / sum(cpu_s["full"]), 3),
            "read_twice_percent": _percent(pool.reread, pool.reread + pool.settled),
        }
        for name, pool in ((name, engine.pool) for name, engine in sides.items())
    ]


def names_of(folder: Path) -> list[str]:
    """The brands of a set's labels."""
    file = folder / "gallery" / "labels.toml"
    labels = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    return sorted({name for label in labels.values() for name in label.get("brands", ())})


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as a table."""
    table = Table(*(key for key in rows[0]), title=title)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=150).print(table)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sets", type=Path, nargs="+", help="folders with gallery/ and test/")
    parser.add_argument("--count", type=int, default=64, help="screenshots of each set")
    parser.add_argument("--engines", type=int, default=24, help="screenshots for whole readings")
    parser.add_argument("--bundles", type=Path, default=Path("bundles"))
    parser.add_argument("--out", type=Path, default=Path("bench/cascade.json"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    source = bundle.load(options.bundles / "ocr", "ocr")
    if "draft" not in source.manifest["input"]:
        raise SystemExit(f"{source.path} has no draft: pagesight-export ocr --draft tiny")
    conditions = machine()
    reader = Reader(source)
    lines: list[Line] = []
    for folder in options.sets:
        lines += reader.lines(folder, options.count)
    names = sorted({name for folder in options.sets for name in names_of(folder)})
    rates = {name: probe.cpu_s / probe.columns for name, probe in reader.probes.items()}
    speed = rates["recognition"] / rates["draft"]
    limits = [at_limit(lines, limit, names, speed) for limit in LIMITS]
    sets = [
        {"set": folder.name, **at_limit(of_set, limit, names, speed)}
        for folder in options.sets
        if (of_set := [line for line in lines if line.of == folder.name])
        for limit in (0.0, *LIMITS)
    ]
    signs = [by_sign(lines, name, speed) for name in SIGNS]
    paths = [path for folder in options.sets for path in chosen(folder / "test", options.engines)]
    pictures = [decode(path.read_bytes(), ImageLimits()) for path in paths]
    whole = engines(source, pictures) if pictures else []
    unread, limit = [line for line in lines if not line.full.kept], sure_from(source)
    result = conditions | {
        "bundle": source.id,
        "sure_from": limit,
        "chosen": choose(limits),
        "draft_columns_for_one": round(speed, 2),
        "lines": len(lines),
        "unread_lines_percent": _percent(len(unread), len(lines)),
        "unread_cost_percent": {
            "full": _percent(
                sum(line.full_columns for line in unread), sum(line.full_columns for line in lines)
            ),
            "cascade": _percent(
                _cost(unread, np.flatnonzero([one.draft.mean < limit for one in unread]), speed),
                sum(line.full_columns for line in lines),
            ),
        },
        "limits": limits,
        "sets": sets,
        "signs": signs,
        "engines": whole,
    }
    show("limits of the mean confidence, all sets", limits)
    show("by set", sets)
    show("signs: cost in parts of the full reading's, by the characters that differ", signs)
    if whole:
        show("whole readings, in turns", whole)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", "utf-8")
    for key, value in result.items():
        if not isinstance(value, list):
            print(key, value)


if __name__ == "__main__":
    main()
