"""Model sessions that answer from a recording, after a sleep as a GPU would take.

    pages ──real sessions──> outputs ──record──> FILE.npz ──Replayed──> the same outputs, no work

They stand in place of `onnxruntime.InferenceSession`, so that everything before and after a model
is the server's own. A detection canvas gets the recorded output of the canvas that it is most
alike; lines and embeddings are recorded rows in turn, cut or repeated to the width that is asked
for. Such rows are made once for each batch and width and then given out as they are, so that the
recording takes next to nothing of the CPU time that is measured.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias

import numpy as np
import onnxruntime as ort

from pagesight_server.inference.bundle import Bundle

Arrays = dict[str, Any]
Kind: TypeAlias = Literal["encoder", "detection", "recognition"]


def kind_of(feeds: Mapping[str, Any]) -> Kind:
    """What a model does, told by its inputs: a draft's networks have those of the others."""
    if "pixels" in feeds:
        return "detection"
    return "recognition" if "crops" in feeds else "encoder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleeps:
    """Milliseconds that a model's run takes, as on a GPU of a data centre; guesses, not measured.

    They are short on purpose: they shall not be what bounds a server, whose host is measured.
    """

    encoder_run_ms: float = 4.0
    encoder_each_ms: float = 1.0
    detection_run_ms: float = 5.0
    recognition_run_ms: float = 2.0

    def of(self, kind: Kind, batch: int) -> float:
        """Seconds of one run of a model."""
        run_ms = {
            "encoder": self.encoder_run_ms + batch * self.encoder_each_ms,
            "detection": self.detection_run_ms,
            "recognition": self.recognition_run_ms,
        }
        return run_ms[kind] / 1000


class Recorder:
    """Keeps inputs and outputs of the sessions that this process makes while it is entered."""

    def __init__(self) -> None:
        self.runs: list[tuple[str, Arrays, Arrays]] = []
        """Model, inputs and outputs, each by name."""

    def __enter__(self) -> Recorder:
        runs = self.runs

        class Recorded(ort.InferenceSession):  # type: ignore[misc]
            def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
                super().__init__(path, *arguments, **options)
                self.model = Path(path).stem

            def run(self, names: Sequence[str], feeds: Mapping[str, Any], *more: Any) -> Any:
                values = super().run(names, feeds, *more)
                runs.append((self.model, dict(feeds), dict(zip(names, values, strict=True))))
                return values

        self._real = ort.InferenceSession
        ort.InferenceSession = Recorded
        return self

    def __exit__(self, *_: object) -> None:
        ort.InferenceSession = self._real

    def save(self, file: Path) -> None:
        """Writes what was recorded."""
        arrays: Arrays = {}
        outputs: dict[str, list[str]] = {}
        for number, (model, feeds, values) in enumerate(self.runs):
            outputs.setdefault(model, list(values))
            kind = kind_of(feeds)
            if kind == "detection":
                arrays[f"{number} {model} canvas"] = _thumbnail(feeds["pixels"])
                arrays[f"{number} {model} size"] = np.array(feeds["pixels"].shape[1:3])
            elif kind == "recognition":
                arrays[f"{number} {model} width"] = np.array(feeds["crops"].shape[2])
            for name, value in values.items():
                arrays[f"{number} {model} out {name}"] = value
        np.savez(file, outputs=np.array(json.dumps(outputs)), **arrays)


def _thumbnail(canvas: Any) -> Any:
    """A few pixels of a canvas, enough to tell pages of more lines from pages of fewer."""
    return canvas[0, ::23, ::61, 0].astype(np.int16)


RUNS = 8
"""Recorded runs of a model that are given out in turn, at each width."""


class Recording:
    """What was recorded, by model; for many threads."""

    def __init__(self, file: Path) -> None:
        runs: dict[str, dict[str, Any]] = {}
        with np.load(file) as arrays:
            self.outputs: dict[str, list[str]] = json.loads(str(arrays["outputs"]))
            for key in arrays.files:
                number, _, rest = key.partition(" ")
                if rest:
                    runs.setdefault(number, {})[rest] = arrays[key]
        self._of: dict[str, list[_Run]] = {model: [] for model in self.outputs}
        for run in runs.values():
            model = next(iter(run)).partition(" ")[0]
            self._of[model].append(_Run.of({key.partition(" ")[2]: run[key] for key in run}))
        self._canvases = {
            (model, size): same
            for model, of_model in self._of.items()
            for size in {run.size for run in of_model}
            if (same := [run for run in of_model if run.size == size])
        }
        self._thumbnails = {
            of_size: np.stack([run.thumbnail for run in same])
            for of_size, same in self._canvases.items()
            if same[0].thumbnail is not None
        }
        self._turns = {model: itertools.count() for model in self.outputs}
        self._rows: dict[tuple[str, int, int | None, int], Arrays] = {}
        """Rows as they were given out: by model, batch, width and turn."""

    def canvas(self, model: str, pixels: Any) -> Arrays:
        """The outputs of the recorded canvas that is most like this one."""
        size = (int(pixels.shape[1]), int(pixels.shape[2]))
        if (model, size) not in self._thumbnails:
            raise ValueError(f"no canvas of {list(size)} was recorded")
        apart = np.abs(self._thumbnails[model, size] - _thumbnail(pixels)).sum(axis=(1, 2))
        return self._canvases[model, size][int(apart.argmin())].outputs

    def rows(self, model: str, batch: int, width: int | None = None) -> Arrays:
        """Recorded rows in turn; of lines such as were recorded at the nearest width."""
        key = (model, batch, width, next(self._turns[model]) % RUNS)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = self._made(*key)
        return rows

    def _made(self, model: str, batch: int, width: int | None, turn: int) -> Arrays:
        runs = self._of[model]
        if width is not None:
            nearest = min(runs, key=lambda run: abs(run.width - width)).width
            runs = [run for run in runs if run.width == nearest]
        run = runs[turn % len(runs)]
        rows = {}
        for name, values in run.outputs.items():
            value = values[np.resize(np.arange(len(values)), batch)]
            if width is not None:
                steps = max(1, round(value.shape[1] * width / run.width))
                value = value[:, np.resize(np.arange(value.shape[1]), steps)]
            value = np.ascontiguousarray(value)
            value.flags.writeable = False  # It is given out again.
            rows[name] = value
        return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One recorded run of a model."""

    outputs: Arrays
    size: tuple[int, int] = (0, 0)
    """Height and width of the canvas, of a detection network."""
    thumbnail: Any = None
    width: int = 0
    """The width of the strips in pixels, where a recognition network ran."""

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> _Run:
        height, width = arrays["size"].tolist() if "size" in arrays else (0, 0)
        return cls(
            outputs={
                key.removeprefix("out "): value
                for key, value in arrays.items()
                if key.startswith("out ")
            },
            size=(height, width),
            thumbnail=arrays.get("canvas"),
            width=int(arrays["width"]) if "width" in arrays else 0,
        )


def replay(file: Path, sleeps: Sleeps) -> None:
    """Replaces all sessions that this process makes from now on, and the check of golden pairs."""
    recording = Recording(file)

    class Replayed:
        """A session of a recorded model."""

        def __init__(self, path: str, *_: Any, **__: Any) -> None:
            self._model = Path(path).stem

        def get_providers(self) -> list[str]:
            """The one that was asked for."""
            return ["CPUExecutionProvider"]

        def get_outputs(self) -> list[Any]:
            """Those that were recorded."""
            return [SimpleNamespace(name=name) for name in recording.outputs[self._model]]

        def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
            """Recorded outputs, after a sleep."""
            batch = len(next(iter(feeds.values())))
            kind = kind_of(feeds)
            time.sleep(sleeps.of(kind, batch))
            if kind == "detection":
                values = recording.canvas(self._model, feeds["pixels"])
            elif kind == "recognition":
                values = recording.rows(self._model, batch, feeds["crops"].shape[2])
            else:
                values = recording.rows(self._model, batch)
            return [values[name] for name in names]

    ort.InferenceSession = Replayed
    Bundle.check_golden = lambda *_, **__: None  # type: ignore[method-assign]
