"""What decoding takes at its peak, beside what each codec needs for itself."""

from __future__ import annotations

import errno
import json
import mmap
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest
from PIL import Image, ImageCms

from pagesight_server.inference.colour import to_srgb
from pagesight_server.inference.decode import decode
from pagesight_server.inference.memory import CODEC_BYTES_A_PIXEL, PixelGate, Trimmer
from pagesight_server.inference.settings import ImageLimits
from tests.support.colours import gamma, rgb_profile
from tests.support.large_pictures import KINDS
from tests.support.pictures import encoded

# Peaks in MB: of each picture by its codec alone, and by `decode`. Each in a process of its own,
# forked from one that has loaded everything and holds little.
MEASURE = """
import gc, io, json, os, resource, sys
from pathlib import Path
import cv2, numpy as np, simplejpeg
from PIL import Image
from pagesight_server.inference.decode import decode
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.inference.webp import canvas

formats = ("jpeg", "png", "webp", "avif", "bmp", "gif", "tiff")
limits = ImageLimits(max_pixels=100_000_000, max_pixels_at_once=100_000_000, formats=formats)

def codec(data):
    size = canvas(data)
    if data[:2] == b"\\xff\\xd8" and Image.open(io.BytesIO(data)).mode != "CMYK":
        return simplejpeg.decode_jpeg(data, "RGB")
    if size is not None and not size.is_animated:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture

def peak_mb(work, data):
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kept = work(data)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        os.write(into, str((after - before) / 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(into)
    return float(os.read(out, 100))

peaks = {}
for name in sys.argv[2:]:
    folder = Path(sys.argv[1])
    small, large = (folder / f"{name}.{size}" for size in ("small", "large"))
    decode(small.read_bytes(), limits)
    codec(small.read_bytes())
    data = large.read_bytes()
    gc.collect()
    peaks[name] = peak_mb(codec, data), peak_mb(lambda data: decode(data, limits), data)
print(json.dumps(peaks))
"""

SLACK_MB = 5
"""Bands and what Python and its allocator take, whatever the picture's size."""


@pytest.mark.parametrize(
    "side_px",
    [
        pytest.param(2_000, id="4 megapixels", marks=pytest.mark.heavy),
        pytest.param(5_000, id="25 megapixels", marks=pytest.mark.slow),
    ],
)
def test_decoding_takes_one_picture_of_rgb_beside_what_the_codec_needs(
    tmp_path: Path, side_px: int
) -> None:
    for name, make in KINDS.items():
        (tmp_path / f"{name}.small").write_bytes(make(32, 5))
        (tmp_path / f"{name}.large").write_bytes(make(side_px, 5))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path, *KINDS],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    peaks: dict[str, tuple[float, float]] = json.loads(done.stdout)
    assert peaks.keys() == KINDS.keys()
    rgb_mb = 3 * side_px * side_px / 2**20
    report = []
    for name, (codec_mb, decode_mb) in peaks.items():
        # TurboJPEG fills the very array that is returned, so that one is no need of its own.
        need_mb = codec_mb - rgb_mb if name.startswith("JPEG") and "CMYK" not in name else codec_mb
        report.append(f"{name}: codec {need_mb:.0f} MB, decode {decode_mb:.0f} MB")
        assert decode_mb <= need_mb + 1.2 * rgb_mb + SLACK_MB, report[-1]
        # What `doctor` reckons with: the codec beside one picture that is kept.
        assert decode_mb <= (CODEC_BYTES_A_PIXEL + 3) / 3 * rgb_mb + SLACK_MB, report[-1]


def test_pictures_wait_until_there_is_room_for_their_pixels() -> None:
    gate = PixelGate()
    inside: list[int] = []
    most_inside = [0]
    arrived = threading.Semaphore(0)
    leave = threading.Semaphore(0)
    lock = threading.Lock()

    def decode(pixels: int) -> None:
        with gate.holding(pixels, most=10):
            with lock:
                inside.append(pixels)
                most_inside[0] = max(most_inside[0], sum(inside))
            arrived.release()
            leave.acquire()
            with lock:
                inside.remove(pixels)

    threads = [threading.Thread(target=decode, args=(pixels,)) for pixels in (4, 6, 5, 5, 10, 3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        # Whoever is inside leaves one after the other, and the next come in.
        arrived.acquire()
        leave.release()
    for thread in threads:
        thread.join()
    assert most_inside[0] <= 10
    assert (gate.held, gate.waiting) == (0, 0)


def test_a_picture_larger_than_all_room_is_decoded_alone() -> None:
    gate = PixelGate()
    with gate.holding(50, most=10):
        assert gate.held == 50
        held: list[int] = []

        def decode() -> None:
            with gate.holding(1, most=10):
                held.append(gate.held)

        waits = threading.Thread(target=decode)
        waits.start()
        while gate.waiting == 0:
            waits.join(0.001)
        assert (gate.held, held) == (50, [])
    waits.join()
    assert held == [1]


def test_a_picture_that_fails_gives_its_room_back_and_is_told() -> None:
    told: list[int] = []
    gate = PixelGate(told.append)
    with pytest.raises(ValueError, match="damaged"), gate.holding(7, most=10):
        raise ValueError("damaged")
    assert (gate.held, told) == (0, [7])


def test_memory_is_given_back_once_for_all_large_pictures_of_a_while() -> None:
    trims = threading.Semaphore(0)
    trimmer = Trimmer(trims.release, pause_s=0.05)
    trimmer.after(2_600_000)  # an ordinary screenshot
    for _ in range(5):
        trimmer.after(25_000_000)
    assert trims.acquire(timeout=60)
    trimmer.after(25_000_000)
    assert trims.acquire(timeout=60)
    assert not trims.acquire(blocking=False)


def test_without_a_thread_memory_is_given_back_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    trims: list[int] = []
    trimmer = Trimmer(lambda: trims.append(1), pause_s=60)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        trimmer.after(25_000_000)
        trimmer.after(25_000_000)
    assert trims == [1, 1]


def _no_memory(*_: object, **__: object) -> None:
    raise MemoryError


def _no_pages(*_: object, **__: object) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


def _no_matrix(*_: object, **__: object) -> None:
    raise cv2.error(
        "OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 7 bytes"
    )


TURNED = Image.Exif()
TURNED[0x0112] = 6
PICTURE = Image.new("RGB", (64, 64), "red")


@pytest.mark.parametrize(
    ("owner", "name", "failing", "data"),
    [
        pytest.param(Image.Image, "load", _no_memory, encoded(PICTURE), id="Pillow"),
        pytest.param(Image.Image, "getexif", _no_memory, encoded(PICTURE), id="metadata"),
        pytest.param(
            mmap, "mmap", _no_pages, encoded(PICTURE, "JPEG", exif=TURNED), id="turned JPEG"
        ),
        pytest.param(cv2, "imdecode", _no_matrix, encoded(PICTURE, "WEBP"), id="OpenCV"),
    ],
)
def test_a_picture_is_not_at_fault_for_want_of_memory(
    owner: object, name: str, failing: object, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(MemoryError):
        decode(data, ImageLimits())


def test_a_profile_is_not_forgotten_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = rgb_profile(((0.66, 0.33), (0.30, 0.61), (0.15, 0.06)), gamma(1.1))
    with monkeypatch.context() as patched:
        patched.setattr(ImageCms, "ImageCmsProfile", _no_memory)
        with pytest.raises(MemoryError):
            to_srgb(profile)
    assert to_srgb(profile) is not None
