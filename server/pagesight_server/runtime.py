"""ONNX Runtime sessions: the providers that were asked for, or an error. Its only importer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from pagesight_server.bundle import Tensors
from pagesight_server.errors import SetupError

Device = Literal["cpu", "cuda"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """Where a session runs."""

    device: Device = "cpu"
    threads: int = 1
    """CPU threads of one session."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


class Graph:
    """One ONNX file, loaded; for one thread at a time.

    Raises:
        SetupError: the file cannot be loaded, or not on the device that was asked for.
    """

    def __init__(self, path: Path, compute: Compute) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = compute.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Screenshots come in any size. ONNX Runtime keeps a plan per shape it has seen and an
        # arena for the largest: 440 screenshots took a reader to 1.4 GB. Without: under 0.7 GB
        # and flat, for 7 % more CPU time.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # A spinning thread burns the core that the other model needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        provider = _PROVIDERS[compute.device]
        if provider not in ort.get_available_providers():
            raise SetupError(
                f"{provider} is not in this onnxruntime {ort.__version__}: "
                'install the extra `gpu` or `gpu-cu13` instead of `cpu`, or set device = "cpu"'
            )
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:
            raise SetupError(f"cannot load {path}: {' '.join(str(error).split())[:300]}") from error
        if self._session.get_providers()[0] != provider:
            raise SetupError(
                f"{path} runs on {self._session.get_providers()[0]}, not on {provider}: "
                "check the CUDA and cuDNN libraries with `pagesight-server doctor`"
            )
        self.outputs: Sequence[str] = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Tensors) -> Tensors:
        """Runs the graph."""
        values = self._session.run(self.outputs, dict(inputs))
        return dict(zip(self.outputs, values, strict=True))
