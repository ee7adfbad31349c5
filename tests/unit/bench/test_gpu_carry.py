"""What is carried to a bare GPU machine: few members of the wheels, in parts, in order."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bench import gpu_carry
from tests.bench.fatbin import FatbinError
from tests.unit.bench.test_fatbin import ALL, elf

LOCK = """\
onnxruntime-gpu==1.2.3 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via pagesight (pyproject.toml)
pydantic==4.5 ; python_version < '4' \\
    --hash=sha256:cc
"""


def wheel(folder: Path) -> Path:
    path = folder / "onnxruntime_gpu-1.2.3-cp311-cp311-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("onnxruntime/__init__.py", "version = 1")
        archive.writestr("onnxruntime/tools/convert.py", "large = True")
        archive.writestr("onnxruntime/capi/libonnxruntime_providers_tensorrt.so", b"large")
        archive.writestr(gpu_carry.CUDA_PROVIDER, bytes(elf(ALL)))
    return path


def test_only_what_the_checks_use_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "other-1-py3-none-any.whl").write_bytes(b"not asked for")
    wheels = gpu_carry.wheels_of(["onnxruntime-gpu"], wheel(tmp_path).parent)
    assert gpu_carry.unpack(wheels, tmp_path / "site", 90) == 2 * (24 + 8)
    files = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.*")}
    assert files == {"onnxruntime/__init__.py", gpu_carry.CUDA_PROVIDER}
    code = (tmp_path / "site" / gpu_carry.CUDA_PROVIDER).read_bytes()
    assert (b"a" * 24 in code, b"b" * 40 in code) == (False, True)


def test_a_gpu_that_the_wheel_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FatbinError, match="no code for architecture 61"):
        gpu_carry.unpack([wheel(tmp_path)], tmp_path / "site", 61)


def test_pins_keep_their_hashes() -> None:
    assert gpu_carry.locked(["pydantic", "onnxruntime-gpu"], LOCK).splitlines() == [
        "pydantic==4.5 ; python_version < '4' \\",
        "    --hash=sha256:cc",
        "onnxruntime-gpu==1.2.3 \\",
        "    --hash=sha256:aa \\",
        "    --hash=sha256:bb",
    ]
    with pytest.raises(ValueError, match=r"torch is not in gpu-cu13\.txt"):
        gpu_carry.locked(["torch"], LOCK)
    gpu_carry.locked([*gpu_carry.PACKAGES, "numpy"], gpu_carry.LOCK.read_text("utf-8"))


def test_the_parts_are_small_enough_and_give_the_folder_again(tmp_path: Path) -> None:
    folder, out = tmp_path / "folder", tmp_path / "carry"
    (folder / "site").mkdir(parents=True)
    (folder / "nets").mkdir()
    # Random, so that it does not compress: some 10 kB in parts of 4 kB.
    contents = random.Random(7).randbytes(10_000)
    (folder / "site" / "module.py").write_bytes(contents)
    (folder / "nets" / "net.onnx").write_text("net")
    out.mkdir()
    parts = gpu_carry.pack(folder, out, part_bytes=4_000)
    assert [part.name for part in parts] == [f"part-{number:02}" for number in (1, 2, 3)]
    assert max(part.stat().st_size for part in parts) <= 4_000
    told = gpu_carry.commands(parts, ["load", "encoder"])
    assert told[0].startswith("# 3 parts, 0 MB together")
    assert "--only load,encoder --nets nets --bundles bundles" in told[-1]
    script = "\n".join(told[:-1]).replace("python3", sys.executable)
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, check=True, timeout=60)
    assert (out / "site" / "module.py").read_bytes() == contents
    assert (out / "nets" / "net.onnx").read_text() == "net"


def test_the_code_that_is_carried_is_enough_for_the_two_checks(tmp_path: Path) -> None:
    gpu_carry.copy_code(tmp_path)
    # Neither gRPC, faiss, OpenCV nor the contract's stubs are on a bare machine.
    program = (
        "import sys\n"
        "for name in ('grpc', 'faiss', 'cv2', 'PIL', 'rapidocr', 'rich', 'pydantic_settings',\n"
        "             'onnx', 'pagesight'):\n"
        "    sys.modules[name] = None\n"
        "from tests.bench import gpu_check, gpu_load, gpu_models\n"
        "from pagesight_server.inference.onnx_session import Graph\n"
        "assert gpu_check.__file__.startswith(sys.argv[1]), gpu_check.__file__\n"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}/server:{tmp_path}"},
        check=True,
        timeout=60,
    )


def test_an_encoder_that_the_check_would_refuse_is_not_packed(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, encoder = tmp_path / "out", bundles / "encoder"
    arguments = ["gpu_carry", "--architecture", "90", "--out", str(out), "--encoder", str(encoder)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert gpu_carry.main() == 2
    assert "this one is float32 with a fixed input size" in capsys.readouterr().err
    assert not out.exists()
