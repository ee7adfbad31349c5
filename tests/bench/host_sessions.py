"""Model sessions that answer from a recording, after a sleep as a GPU would take.

    pages ──real sessions──> outputs ──record──> FILE.npz ──Replayed──> the same outputs, no work

They stand in place of `onnxruntime.InferenceSession`, so that everything before and after a model
is the server's own. A detection canvas gets the recorded output of the canvas that it is most
alike; lines and embeddings are recorded rows in turn, cut or repeated to the width that is asked
for.
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


class Recording:
    """What was recorded, by model."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as arrays:
            self.outputs: dict[str, list[str]] = json.loads(str(arrays["outputs"]))
            runs: dict[str, dict[str, Any]] = {}
            for key in arrays.files:
                number, _, rest = key.partition(" ")
                if rest:
                    runs.setdefault(number, {})[rest] = arrays[key]
        self._of = {
            model: [
                {key.removeprefix(f"{model} "): value for key, value in run.items()}
                for run in runs.values()
                if next(iter(run)).startswith(f"{model} ")
            ]
            for model in self.outputs
        }
        self._turns = {model: itertools.count() for model in self.outputs}

    def canvas(self, model: str, pixels: Any) -> Arrays:
        """The outputs of the recorded canvas that is most like this one."""
        size, thumbnail = list(pixels.shape[1:3]), _thumbnail(pixels)
        same = [run for run in self._of[model] if run["size"].tolist() == size]
        if not same:
            raise ValueError(f"no canvas of {size} was recorded")
        return self._out(min(same, key=lambda run: np.abs(run["canvas"] - thumbnail).sum()))

    def rows(self, model: str, batch: int, width: int | None = None) -> Arrays:
        """Recorded rows in turn; of lines such as were recorded at the nearest width."""
        runs = self._of[model]
        if width is not None:
            nearest = min(runs, key=lambda run: abs(int(run["width"]) - width))["width"]
            runs = [run for run in runs if run["width"] == nearest]
        run = runs[next(self._turns[model]) % len(runs)]
        found = {}
        for name, values in self._out(run).items():
            rows = np.resize(np.arange(len(values)), batch)
            value = values[rows]
            if width is not None:
                steps = max(1, round(value.shape[1] * width / int(run["width"])))
                value = value[:, np.resize(np.arange(value.shape[1]), steps)]
            found[name] = value
        return found

    def _out(self, run: Arrays) -> Arrays:
        prefix = "out "
        return {key[len(prefix) :]: run[key] for key in run if key.startswith(prefix)}


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
