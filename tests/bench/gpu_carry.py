"""Builds the smallest folder with which `gpu_check --only load,encoder` runs on a bare machine.

    wheels of the lock ──> site/     ONNX Runtime with the code of one architecture alone, pydantic
    this checkout ───────> server/, tests/                     what the two checks import
    gpu_nets, gpu_weights > nets/, bundles/encoder/            networks, an encoder without weights
                  └──> one archive ──> parts of at most 60 MB, and the commands in their order

The machine needs a GPU with a driver for CUDA 13, Python of the version given, and torch, whose
CUDA libraries ONNX Runtime then uses. `onnx` is needed here alone.

    python -m tests.bench.gpu_carry --architecture 90 --encoder DIR/fp16

It has run as far as a machine without a GPU goes; on one, not yet.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.bench import gpu_nets, gpu_weights
from tests.bench.fatbin import keep_only
from tests.bench.gpu_verdict import other_encoder

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "gpu-cu13.txt"
PACKAGES = (
    "onnxruntime-gpu",
    "annotated-types",
    "pydantic",
    "pydantic-core",
    "typing-extensions",
    "typing-inspection",
)
"""Distributions that the two checks import and that torch does not bring, or in another version."""

LEFT_OUT = re.compile(
    r"onnxruntime/(tools|transformers|quantization|datasets|backend)/"
    r"|libonnxruntime_providers_tensorrt\.so"
    r"|\.dist-info/(licenses|sboms)/"
)
"""Members of wheels that no check uses."""

CUDA_PROVIDER = "onnxruntime/capi/libonnxruntime_providers_cuda.so"

PART_BYTES = 60_000_000
"""What fits where 64 MiB may be carried at once."""


def main() -> int:
    """Builds the folder and prints what to do with it."""
    options = _parser().parse_args()
    out: Path = options.out
    if out.exists() and any(out.iterdir()):
        print(f"{out} is not empty: delete it, or name another with --out", file=sys.stderr)
        return 2
    if options.encoder is not None and (problem := other_encoder(options.encoder)):
        print(f"what is carried would need {problem}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch) / "folder"
        wheels = options.wheels or Path(scratch) / "wheels"
        names = [*PACKAGES, *options.add]
        print(f"wheels of {', '.join(names)}", file=sys.stderr)
        download(names, wheels, options.python)
        zeroed = unpack(wheels_of(names, wheels), folder / "site", options.architecture)
        print(f"{zeroed / 1e6:.0f} MB of code for other architectures left out", file=sys.stderr)
        copy_code(folder)
        (folder / "nets").mkdir()
        gpu_nets.write(folder / "nets")
        checks = ["load"]
        if options.encoder is not None:
            left = gpu_weights.strip(options.encoder, folder / "bundles" / "encoder")
            print(f"{left / 1e6:.0f} MB of weights left out, drawn there", file=sys.stderr)
            checks.append("encoder")
        print("compressing, two minutes of a core", file=sys.stderr)
        parts = pack(folder, out)
    print("\n".join(commands(parts, checks)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu_carry",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--architecture",
        type=int,
        required=True,
        metavar="N",
        help="compute capability of the GPU times ten: 80 is A100, 90 is H100 and H200",
    )
    parser.add_argument("--python", default="3.11", metavar="3.N", help="Python of the machine")
    parser.add_argument(
        "--encoder",
        type=Path,
        metavar="DIR",
        help="an exported encoder, such as `make bench-export ARGS='--keep DIR'` leaves in "
        "DIR/fp16; if not given, `load` alone is packed",
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="NAME",
        help="one more package of the lock, such as numpy",
    )
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="where to keep the wheels")
    parser.add_argument("--out", type=Path, default=Path("carry"), metavar="DIR")
    return parser


def locked(names: Iterable[str], lock: str) -> str:
    """The pins of some distributions, with their hashes, of the text of a lock.

    Raises:
        ValueError: the lock lacks one.
    """
    pins = []
    for name in names:
        pin = re.search(rf"^{re.escape(name)}==(?:.*\\\n)+.*$", lock, re.MULTILINE)
        if pin is None:
            raise ValueError(f"{name} is not in {LOCK.name}: choose one that is, or `make lock`")
        pins.append(pin[0])
    return "\n".join(pins) + "\n"


def download(names: Sequence[str], wheels: Path, python: str) -> None:
    """Has pip fetch the wheels of the lock for Linux on x86-64, unless they are there."""
    wheels.mkdir(parents=True, exist_ok=True)
    pins = wheels / "pins.txt"
    pins.write_text(locked(names, LOCK.read_text("utf-8")), "utf-8")
    platforms = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
            *("--only-binary", ":all:", "--python-version", python, "--dest", str(wheels)),
            *(argument for name in platforms for argument in ("--platform", name)),
            *("--requirement", str(pins)),
        ],
        check=True,
    )


def wheels_of(names: Sequence[str], folder: Path) -> list[Path]:
    """The wheel of each distribution in a folder."""
    wanted = {name.replace("-", "_") for name in names}
    return sorted(
        path for path in folder.glob("*.whl") if path.name.partition("-")[0].lower() in wanted
    )


def unpack(wheels: Iterable[Path], site: Path, architecture: int) -> int:
    """Unpacks wheels, less what no check uses; returns the bytes of code that were overwritten.

    Args:
        wheels: The files.
        site: Folder to unpack to, for PYTHONPATH.
        architecture: Whose code ONNX Runtime keeps.

    Raises:
        FatbinError: ONNX Runtime has no code for it.
    """
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if not LEFT_OUT.search(name)]
            archive.extractall(site, members)
    provider = site / CUDA_PROVIDER
    image = bytearray(provider.read_bytes())
    zeroed = keep_only(image, architecture)
    provider.write_bytes(image)
    return zeroed


def copy_code(folder: Path) -> None:
    """Copies the server's package and the benches of this checkout."""
    unneeded = shutil.ignore_patterns("__pycache__", "recognition")
    shutil.copytree(ROOT / "server", folder / "server", ignore=shutil.ignore_patterns("__pyc*"))
    shutil.copytree(ROOT / "tests" / "bench", folder / "tests" / "bench", ignore=unneeded)


def pack(folder: Path, out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Packs a folder into one archive, cut into numbered parts; returns them in their order.

    Args:
        folder: The folder.
        out: Where the parts are written.
        part_bytes: The most that a part has.
    """
    whole = out / "whole.tar.xz"
    with tarfile.open(whole, "w:xz", preset=6) as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    parts: list[Path] = []
    with whole.open("rb") as file:
        while block := file.read(part_bytes):
            parts.append(out / f"part-{len(parts) + 1:02}")
            parts[-1].write_bytes(block)
    whole.unlink()
    return parts


def commands(parts: Sequence[Path], checks: Sequence[str]) -> list[str]:
    """What to do with the parts, in this order."""
    folder = parts[0].parent.name
    total = sum(part.stat().st_size for part in parts) / 1e6
    return [
        f"# {len(parts)} parts, {total:.0f} MB together; bring each to the machine, into {folder}/",
        *(f"#   {folder}/{part.name}  {part.stat().st_size / 1e6:.0f} MB" for part in parts),
        "# then, there:",
        f"cat {folder}/part-* > {folder}/whole.tar.xz",
        f"python3 -m tarfile -e {folder}/whole.tar.xz {folder}",
        f"cd {folder} && PYTHONPATH=site:server:. python3 -m tests.bench.gpu_check "
        f"--only {','.join(checks)} --nets nets --bundles bundles",
    ]


if __name__ == "__main__":
    sys.exit(main())
