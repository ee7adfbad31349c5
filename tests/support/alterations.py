"""What happens to a screenshot between the phone and the service, as functions of its pixels.

    picture ──as_display_p3, grey, inverted──> other colours, the same page
            ──scaled, compressed──> other pixels, the same page
            ──without_top, without_bottom, continued──> less of the page, or more

All take and give RGB pictures. Whatever is random is the caller's.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pagesight_server.text.lines import STATUS_BAR

SRGB_TO_DISPLAY_P3 = np.asarray(
    [[0.822462, 0.177538, 0.0], [0.033194, 0.966806, 0.0], [0.017083, 0.072397, 0.910520]]
)
"""Linear light of sRGB's primaries as that of Display P3's, both with the white point D65: CSS
Color Module Level 4, section 10.3, and the inverse of its matrix of section 10.4."""


def as_display_p3(picture: Image.Image) -> Image.Image:
    """The values that a Display P3 file of the picture holds, its profile lost: paler colours."""
    encoded = np.asarray(picture.convert("RGB"), np.float64) / 255
    # The transfer curve is sRGB's in both: IEC 61966-2-1.
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    p3 = np.clip(light @ SRGB_TO_DISPLAY_P3.T, 0, 1)
    encoded = np.where(p3 <= 0.0031308, 12.92 * p3, 1.055 * p3 ** (1 / 2.4) - 0.055)
    return Image.fromarray(np.rint(255 * encoded).astype(np.uint8))


def grey(picture: Image.Image) -> Image.Image:
    """The picture without colours."""
    return picture.convert("L").convert("RGB")


def inverted(picture: Image.Image) -> Image.Image:
    """The picture with its luminance turned round and its colours kept, as forced dark modes do."""
    luminance, *chroma = picture.convert("YCbCr").split()
    return Image.merge("YCbCr", (luminance.point(lambda value: 255 - value), *chroma)).convert(
        "RGB"
    )


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    """The picture at `factor` times its width and height."""
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def compressed(picture: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG of this quality (1 to 95) shows it."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    with Image.open(file) as copy:
        return copy.convert("RGB")


def without_top(picture: Image.Image) -> Image.Image:
    """The picture cut off below the phone's status bar."""
    top = round(STATUS_BAR * picture.width)
    return picture.crop((0, top, picture.width, picture.height))


def without_bottom(picture: Image.Image, share: float = 0.1) -> Image.Image:
    """The picture less a share (0 to 1) of its height at the bottom."""
    return picture.crop((0, 0, picture.width, round((1 - share) * picture.height)))


def continued(picture: Image.Image, below: Image.Image) -> Image.Image:
    """A long screenshot: the picture with the lower half of another under it, as wide."""
    rest = scaled(below, picture.width / below.width)
    rest = rest.crop((0, rest.height // 2, rest.width, rest.height))
    long = Image.new("RGB", (picture.width, picture.height + rest.height))
    long.paste(picture, (0, 0))
    long.paste(rest, (0, picture.height))
    return long
